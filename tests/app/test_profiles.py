"""What the tab Process asks for is read from its form and links, and checked; its views say what a profile holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sfumato
from sfumato.app.asking.inputs import mask_from
from sfumato.app.asking.profiles import Facts, Part, Wanted, label_from, names_of, said_condition, said_of, strongest
from sfumato.app.charts.process import (
    alike_chart,
    apart_chart,
    distance_chart,
    switch_chart,
    trajectory_chart,
    volume_chart,
)
from sfumato.app.pieces.film import LARGEST, frames, small
from sfumato.app.pieces.maps import shown_maps
from sfumato.app.pieces.pad import mask_uri
from sfumato.app.tabs.process_changes import ablated, switched
from sfumato.app.tabs.process_part import steps_of_volume
from sfumato.errors import OptionError, RequestError, SfumatoError
from sfumato.generation.feature_layers import Layer
from sfumato.metrics.divergence import diverge
from sfumato.models.model import Model
from sfumato.plots.volumes import MOST_POINTS, spread_in_words
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from tests.labels import SIDE, square, tiny_labels

LAYERS = ("downs.0.2.fn", "mid_attn.fn")
BITS = ("bangs", "male", "smile", "lipstick")
REQUEST = Request(label="0011", seed=3, steps=6, guidance=2.0)
PART = Part("drawn", square())


@pytest.fixture(scope="module")
def model() -> Model:
    return sfumato.wrap(tiny_labels())


@pytest.fixture(scope="module")
def profile(model: Model) -> Explanation:
    return sfumato.explain(model, REQUEST, "profile", layers=LAYERS, every=2)


@pytest.fixture(scope="module")
def volume(model: Model) -> Explanation:
    given: Any = PART.inside
    found = sfumato.explain(model, REQUEST, "gradient_volume", mask=given, timesteps=(900, 100), layers=LAYERS)
    return said_of(found, PART)


def test_a_link_says_what_the_form_said() -> None:
    wanted = Wanted("studio/faces", "0011", "7", "6", "2.5", "2", ("downs.0.3", "mid_attn.fn"))
    query = dict(pair.split("=") for pair in wanted.link.replace("%2F", "/").replace("%2C", ",").split("&"))
    assert Wanted.from_query(query, "other") == wanted
    assert Wanted.from_query({"process": ""}, "m") == Wanted("m")
    assert "seed" not in Wanted("m", "0011").link


def test_a_wanted_profile_becomes_a_checked_request(model: Model) -> None:
    assert Wanted("m", "0011", "3", "6", "2").request(model) == model.complete(REQUEST)
    assert Wanted("m", "0011").request(model, condition="1100").label == "1100"
    for wanted, said in (
        (Wanted("m", " "), "empty"),
        (Wanted("m", "0011", seed="x"), "seed is 'x'"),
        (Wanted("m", "0011", steps="0"), "steps is 0"),
        (Wanted("m", "99"), "label is '99'"),
    ):
        with pytest.raises(SfumatoError, match=said):
            wanted.request(model)


def test_layers_and_resolution_are_bounded() -> None:
    facts = Facts("label", first=("a", "b"))
    assert Wanted("m").options(facts)["layers"] == ("a", "b")
    assert Wanted("m", layers=("c",)).options(facts)["layers"] == ("c",)
    assert Wanted("m").options(facts)["every"] == 0
    with pytest.raises(RequestError, match="7 layers are chosen; at most 6"):
        Wanted("m", layers=tuple("abcdefg")).options(facts)
    for evil in ("**?" * 40 + "Z", "(a+)+$", "c\n"):
        with pytest.raises(OptionError, match="on this page at most"):
            Wanted("m", layers=("c", evil)).options(facts)
    odd = Facts("label", layers=(Layer("odd name!", "", 1, 1, 1),))
    assert Wanted("m", layers=("odd name!",)).options(odd)["layers"] == ("odd name!",)
    with pytest.raises(RequestError, match="sampling resolution is 'x'"):
        Wanted("m", every="x").options(facts)


def test_bits_have_names() -> None:
    assert label_from(BITS, ["smile", "lipstick"]) == "0011"
    assert names_of(BITS, "0011") == ["smile", "lipstick"]
    facts = Facts("bits", BITS)
    assert said_condition(facts, "0100") == "male"
    assert said_condition(facts, "0000") == "none of bangs, male, smile, lipstick"
    assert said_condition(Facts("words"), "0100") == "0100"


def test_a_drawn_part_is_named_in_the_provenance_not_listed(volume: Explanation) -> None:
    assert volume.provenance["options"]["mask"] == "drawn"
    assert (mask_from(mask_uri(PART.inside), (SIDE, SIDE)) == PART.inside).all()


def test_the_film_has_a_frame_for_every_kept_step_and_the_image(profile: Explanation) -> None:
    film = frames(profile, key="k", title="<b>", link="process=0011", links=[])
    assert film["times"] == [*(f"t = {t:.0f}" for t in profile.tree["clean"]["timestep"].values), "image"]
    assert [row["name"] for row in film["rows"]] == ["Sample", "Clean estimate", "Attention"]
    assert [len(row["cells"]) for row in film["rows"]] == [4, 3, 3]
    assert "3 of them kept" in film["facts"]


def test_large_pictures_are_sent_small() -> None:
    assert max(small(np.zeros((1024, 512, 3), np.uint8)).size) == LARGEST
    assert small(np.zeros((64, 32, 3), np.uint8)).size == (32, 64)


def test_maps_show_the_strongest_channel_until_another_is_chosen(profile: Explanation) -> None:
    data = profile.tree["activations/downs.0.2.fn"].to_dataset()
    shown = shown_maps(profile, "activations", key="k", step=1)
    card = shown["layers"][0]
    assert card["name"] == "downs.0.2.fn"
    assert card["channel"] == card["strongest"] == int(data["max_channel"].values[1])
    assert card["follows"]
    assert card["inside"] is None
    other = shown_maps(profile, "activations", key="k", step=1, channels={"downs.0.2.fn": 0})["layers"][0]
    assert other["channel"] == 0
    assert not other["follows"]
    assert (other["low"], other["high"]) == (data["map"].values[1, 0].min(), data["map"].values[1, 0].max())


def test_maps_of_a_part_look_for_its_channel(model: Model, profile: Explanation) -> None:
    given: Any = PART.inside
    masked = sfumato.explain(model, REQUEST, "profile", layers=LAYERS, every=2, mask=given)
    for card in shown_maps(profile, "activations", key="k", step=2, part=PART)["layers"]:
        expected = masked.tree[f"activations/{card['name']}"]["max_channel_in_mask"].values
        assert card["channel"] == card["inside"] == int(expected[2])
        assert 0 <= card["share"] <= 1
        assert strongest(profile.tree[f"activations/{card['name']}"]["map"].values, PART) == expected.tolist()


@pytest.mark.parametrize("step", [-1, 3, "1", True, None])
def test_steps_that_are_none_are_refused(profile: Explanation, step: Any) -> None:
    with pytest.raises(RequestError, match="step is .*; expected a whole number from 0 to 2"):
        shown_maps(profile, "activations", key="k", step=step)


@pytest.mark.parametrize("channel", [-1, 8, "0", True, 1.5])
def test_channels_that_are_none_are_refused(profile: Explanation, channel: Any) -> None:
    with pytest.raises(RequestError, match="the channel of .* is .*; expected a whole number from 0 to 7"):
        shown_maps(profile, "activations", key="k", step=0, channels={"downs.0.2.fn": channel})


def test_curves_hold_what_the_profile_holds(profile: Explanation) -> None:
    trajectory, distances = trajectory_chart(profile), distance_chart(profile)
    assert trajectory is not None
    assert distances is not None
    np.testing.assert_array_equal(trajectory.data[0].y, profile.tree["trajectory"]["normalised_ssim"].values)
    assert [line.name for line in distances.data] == list(LAYERS)
    first = profile.tree["activations/mid_attn.fn"]["distance"].values
    np.testing.assert_array_equal(distances.data[1].y[1:], first[1:])
    assert distances.data[1].y[0] is None
    for figure in (trajectory, distances):
        assert figure.layout.xaxis.title.text
        assert figure.layout.yaxis.title.text
        assert figure.layout.title.text
        assert figure.layout.xaxis.autorange == "reversed"


def test_without_trajectory_or_layers_there_are_no_curves(model: Model) -> None:
    bare = sfumato.explain(model, REQUEST, "profile", objects=("samples",), every=2)
    assert trajectory_chart(bare) is None
    assert distance_chart(bare) is None
    assert shown_maps(bare, "activations", key="k", step=0) == {"layers": []}


def test_points_of_a_volume_are_its_values_above_the_mean(volume: Explanation) -> None:
    data = volume.tree["gradient_volume"].to_dataset()
    figure = volume_chart(volume, 1)
    assert figure is not None
    values = data["volume"].values[1]
    points = figure.data[0]
    assert len(points.x) == min(MOST_POINTS, int((values > values.mean()).sum()))
    for x, y, z in list(zip(points.x, points.y, points.z, strict=True))[:20]:
        assert values[z, y, x] > values.mean()
    titles = [figure.layout.scene[name].title.text for name in ("xaxis", "yaxis", "zaxis")]
    assert titles == ["x (cells)", "y (cells)", "pixel of the part (number)"]
    strip = steps_of_volume(volume)
    assert [cell["caption"] for cell in strip["rows"][0]["cells"]] == [
        spread_in_words(data.isel(step=place)) for place in range(2)
    ]


def test_a_sum_alone_has_no_points(model: Model) -> None:
    given: Any = PART.inside
    found = sfumato.explain(model, REQUEST, "gradient_volume", mask=given, timesteps=(100,), mode="region")
    assert volume_chart(found, 0) is None
    assert steps_of_volume(found)["rows"][0]["cells"][0]["caption"].startswith("t = ")


def test_two_profiles_are_compared(model: Model, profile: Explanation) -> None:
    other = sfumato.explain(model, REQUEST.with_(seed=4), "profile", layers=LAYERS, every=2)
    found = diverge(profile, other)
    np.testing.assert_array_equal(alike_chart(found).data[0].y, found.steps["normalised_ssim"].values)
    apart = apart_chart(found)
    assert apart is not None
    assert [line.name for line in apart.data] == [*LAYERS, "attention map"]
    for line in apart.data:
        assert max(value for value in line.y if value is not None) == 1.0


def test_a_switch_and_an_ablation_are_shown_with_their_numbers(model: Model) -> None:
    result = sfumato.explain(model, REQUEST, "switch", to="1100", at=(1, 3))
    shown = switched(result, Facts("bits", BITS))
    captions = [cell["caption"] for cell in shown["rows"][0]["cells"]]
    assert captions[0] == "bangs, male alone"
    assert captions[-1] == "smile, lipstick alone"
    assert [caption.partition(",")[0] for caption in captions[1:-1]] == ["step 1", "step 3"]
    assert [line.name for line in switch_chart(result).data] == ["to the first alone", "to the second alone"]
    gone = sfumato.explain(model, REQUEST, "ablation", channels=("downs.0.3:1",))
    value = ablated(gone, "downs.0.3", 1)
    assert f"normalised SSIM {float(gone.tree['ablation']['normalised_ssim']):.3f}" in value["note"]
    assert len(value["rows"][0]["cells"]) == 3
