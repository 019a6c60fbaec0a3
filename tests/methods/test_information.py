"""Information as a method: what its maps, sums and pairs say of one another, of other runs and of the estimate."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import sfumato
from sfumato.errors import ModelError, NonFinite, OptionError, RequestError, SfumatoWarning
from sfumato.generation.generate import generate
from sfumato.information.estimating import Contexts, sample
from sfumato.information.levels import LIMIT, levels_at, trained_levels
from sfumato.registry import find
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from tests.methods.steps import REQUESTS, model_of, not_a_number, watched
from tests.pipelines import fingerprint

REQUEST = REQUESTS["text"].with_(prompt="a red cat, a dog")
WORDS = ["a", "red", "cat", ",", "a", "dog"]
PLAYERS = ["a#1", "red", "cat", ",", "a#2", "dog"]
GRID = (8, 12)
SAMPLES = 14


def explained(request: Request = REQUEST, kind: str = "text", **options: Any) -> Explanation:
    found: Explanation = sfumato.explain(model_of(kind), request, "information", **{"samples": SAMPLES, **options})
    return found


def node(explanation: Explanation, name: str = "word_importance") -> xr.Dataset:
    return explanation.tree[f"information/{name}"].to_dataset()


def nats(explanation: Explanation) -> Any:
    return node(explanation, "maps")["nats"].values


def assert_alike(one: Any, other: Any) -> None:
    """Maps that differ by rounding: networks with random weights tell little, so their differences have few digits."""
    np.testing.assert_allclose(one, other, rtol=0, atol=min(1e-5, 5e-3 * float(np.max(other))))


@cache
def found(given: str = "rest") -> Explanation:
    """The image and the pipeline must have stayed as they were."""
    return watched("text", "information", REQUEST, samples=SAMPLES, given=given, pairs=("red+cat", "a#1+dog"))


def test_every_word_has_a_map_whose_sum_is_its_importance() -> None:
    one = found()
    maps, sums = node(one, "maps"), node(one)
    assert maps["player"].values.tolist() == sums["player"].values.tolist() == PLAYERS
    assert maps["nats"].dims == ("player", "y", "x")
    assert maps["nats"].shape == maps["error"].shape == (6, *GRID)
    assert maps["nats"].dtype == np.float32
    assert float(maps["nats"].min()) >= 0
    np.testing.assert_allclose(maps["nats"].sum(("y", "x")), sums["phi"], rtol=1e-5)
    np.testing.assert_allclose(sums["bits"], sums["phi"] / math.log(2))
    np.testing.assert_allclose(sums["share"], sums["phi"] / sums["phi"].sum())
    assert float(sums["error"].min()) > 0
    np.testing.assert_allclose(maps["y"], (np.arange(8) + 0.5) / 8)
    np.testing.assert_allclose(maps["x"], (np.arange(12) + 0.5) / 12)
    assert sums.attrs["value"] == "nats of information about the image, given the other words"
    assert sums.attrs["coalitions"] == 9  # the prompt, six without a word, two without a pair
    assert node(found("empty")).attrs["value"] == "nats of information about the image, alone"


def test_words_have_the_maps_of_the_players() -> None:
    words = found().words
    assert words["word"].values.tolist() == WORDS
    assert words["occurrence"].values.tolist() == [1, 1, 1, 1, 2, 1]
    assert words["index"].values.tolist() == list(range(6))
    assert words["seen"].values.all()
    np.testing.assert_array_equal(words["map"].values, nats(found()))
    np.testing.assert_array_equal(found().word_map("dog").values, nats(found())[5])


def test_when_adds_up_to_the_whole() -> None:
    timing = node(found(), "timing")
    assert timing["nats"].dims == ("player", "log_snr")
    assert timing["log_snr"].values.tolist() == list(range(1 - int(LIMIT), int(LIMIT), 2))
    np.testing.assert_allclose(timing["nats"].sum("log_snr"), node(found())["phi"], rtol=1e-6)
    assert float(timing["nats"].min()) >= 0


def test_the_maps_are_those_of_the_estimate_of_the_final_latent() -> None:
    model = model_of("text")
    trace = generate(model, REQUEST, record=(0,))
    contexts = Contexts((REQUEST.prompt, "a cat, a dog"), ((1, 0),))
    own = sample(trace, trace.latents, contexts, levels_at(model, (300, 600)), samples=6, adapt=False, seed=4)
    one = explained(samples=6, at=(600, 300), seed=4)
    assert_alike(nats(one)[1], own.maps[0])
    assert node(one)["error"].values[1] == pytest.approx(own.errors[0], rel=1e-3)


@pytest.mark.parametrize("given", ["rest", "empty"])
def test_pairs_are_taken_apart_into_what_adds_up(given: str) -> None:
    pairs = node(found(given), "interactions_of_pairs")
    assert pairs["pair"].values.tolist() == ["red + cat", "a#1 + dog"]
    assert pairs["kind"].values.tolist() == ["redundancy", "only the first", "only the second", "synergy"]
    maps = pairs["map_of_pair"]
    assert maps.dims == ("pair", "kind", "y", "x")
    np.testing.assert_allclose(pairs["nats"], maps.sum(("y", "x")), rtol=1e-5, atol=1e-7)
    shared, one, other, _ = (maps.values[:, kind] for kind in range(4))
    assert min(shared.min(), one.min(), other.min()) >= 0
    np.testing.assert_array_equal(np.minimum(one, other), 0)  # at each place, only one of them knows more
    model = model_of("text")
    trace = generate(model, REQUEST, record=(0,))
    texts = ("", "red", "cat", "red cat") if given == "empty" else (
        "a , a dog", "a red , a dog", "a cat, a dog", REQUEST.prompt
    )  # fmt: skip
    contexts = Contexts(texts, ((0, 1), (0, 2), (0, 3)))
    options = {"samples": 12, "at": (200, 500), "seed": 1, "given": given, "pairs": "red+cat"}
    values = node(explained(**options), "interactions_of_pairs")["map_of_pair"].values[0]
    own = sample(trace, trace.latents, contexts, levels_at(model, (200, 500)), samples=12, adapt=False, seed=1)
    assert_alike(values[0] + values[1], own.maps[0])
    assert_alike(values[0] + values[2], own.maps[1])
    assert_alike(values.sum(0), own.maps[2])


def test_alone_the_two_of_a_pair_are_the_words_themselves() -> None:
    maps = node(found("empty"), "interactions_of_pairs")["map_of_pair"].values
    for pair, (first, second) in enumerate(((1, 2), (0, 5))):
        np.testing.assert_allclose(maps[pair, 0] + maps[pair, 1], nats(found("empty"))[first], rtol=1e-5)
        np.testing.assert_allclose(maps[pair, 0] + maps[pair, 2], nats(found("empty"))[second], rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 32])
def test_a_word_that_the_model_cannot_read_tells_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("text")
    read = model.encode

    def deaf(texts: Any, **more: Any) -> torch.Tensor:
        return read([" ".join(text.replace("red", "").split()) for text in texts], **more)

    monkeypatch.setattr(model, "encode", deaf)
    for given in ("rest", "empty"):
        one = explained(given=given, rows=rows)
        assert nats(one)[1].tolist() == np.zeros(GRID).tolist()
        assert float(node(one)["phi"][1]) == float(node(one)["error"][1]) == 0
        assert float(node(one)["phi"].sel(player="cat")) > 0


def test_the_same_seed_gives_the_same_and_another_seed_other_noise() -> None:
    one, same, other = (explained(seed=seed) for seed in (0, 0, 1))
    for name in ("word_importance", "maps", "timing"):
        xr.testing.assert_identical(node(one, name), node(same, name))
    assert np.abs(nats(one) - nats(other)).max() > 0
    apart = np.abs(node(one)["phi"] - node(other)["phi"])
    assert (apart < 6 * np.hypot(node(one)["error"], node(other)["error"])).all()


def test_maps_do_not_depend_on_batches_or_on_what_else_is_explained() -> None:
    options = {"samples": 6, "at": (200, 500, 800)}
    one = explained(**options)
    for rows in (1, 4):
        assert_alike(nats(explained(rows=rows, **options)), nats(one))
    requests = [REQUEST.with_(prompt="a blue dog", seed=9), REQUEST]
    _, same = sfumato.explain(model_of("text"), requests, "information", **options)
    np.testing.assert_array_equal(nats(same), nats(one))


@pytest.mark.parametrize("variation", [None, (40, 0.6)])
def test_every_image_is_explained_as_it_is_alone(variation: tuple[int, float] | None) -> None:
    request = REQUEST.with_(prompt="red dog", images=3, variation=variation)
    one = explained(request)
    assert one.tree["image"]["seed"].values.tolist() == [2, 3, 4]
    assert node(one)["phi"].dims == ("image", "player")
    assert one.provenance["information"] == {"denoiser_calls": 3 * 3 * SAMPLES, "samples": [SAMPLES] * 3}
    for place in range(3):
        other = None if variation is None else (40 + place, 0.6)
        single = explained(request.with_(images=1, seed=2 + place, variation=other))
        np.testing.assert_array_equal(nats(one)[place], nats(single))
        np.testing.assert_array_equal(one.words["map"].values[place], single.words["map"].values)
        pixels = one.tree["image"]["pixels"].values[place].astype(int)
        assert np.abs(pixels - generate(model_of("text"), request).images[place]).max() <= 1


def test_labels_and_their_bits() -> None:
    one = watched("labels", "information", samples=SAMPLES)
    names = ["label 0011", "bit 1, 0 or 1", "bit 2, 0 or 1", "bit 3, 1 or 0", "bit 4, 1 or 0"]
    assert node(one)["player"].values.tolist() == names
    assert node(one, "maps")["nats"].shape == (5, 16, 16)
    assert "words" not in one.tree.children
    assert node(one).attrs["value"] == "nats of information about the image, against no label or the other bit"


def test_phrases_have_maps_but_no_words() -> None:
    one = explained(players="phrase")
    assert node(one)["player"].values.tolist() == ["a red cat", "a dog"]
    assert "words" not in one.tree.children


def test_words_that_were_cut_off_have_no_map() -> None:
    request = REQUEST.with_(prompt=" ".join(["cat"] * 74) + " red dog left")
    with pytest.warns(SfumatoWarning, match="not seen by the model: dog, left"):
        one = explained(request, samples=4)
    assert node(one)["player"].values.tolist()[-2:] == ["cat#74", "red"]
    words = one.words
    assert words["word"].values.tolist()[-3:] == ["red", "dog", "left"]
    assert words["seen"].values.tolist() == [True] * 75 + [False] * 2
    assert np.isfinite(words["map"].values[:75]).all()
    assert np.isnan(words["map"].values[75:]).all()


def test_a_word_in_the_middle_that_is_not_read_leaves_the_others_their_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("text")
    own = model.tokens(REQUEST.prompt)
    words = tuple(replace(word, seen=word.text != "red") for word in own.words)
    monkeypatch.setattr(model, "tokens", lambda prompt, **more: replace(own, words=words))
    with pytest.warns(SfumatoWarning, match="not seen by the model: red"):
        one = explained(samples=4)
    assert node(one)["player"].values.tolist() == ["a#1", "cat", ",", "a#2", "dog"]
    assert np.isnan(one.words["map"].values[1]).all()
    np.testing.assert_array_equal(one.words["map"].values[[0, 2, 3, 4, 5]], nats(one))


def test_it_stops_where_the_sum_over_words_is_known_well_enough() -> None:
    one = explained(REQUEST.with_(prompt="red dog"), samples=300, until=0.1)
    (taken,) = one.provenance["information"]["samples"]
    assert 12 <= taken < 300
    assert one.provenance["information"]["denoiser_calls"] == 3 * taken
    assert float(node(one)["phi"].sum()) > 0


def test_along_the_run_there_is_no_chance() -> None:
    one, other = explained(of="trajectory"), explained(of="trajectory", seed=5, samples=99)
    np.testing.assert_array_equal(nats(one), nats(other))
    assert one.provenance["information"] == {"denoiser_calls": 3 * 7, "samples": [3]}
    assert np.isnan(node(one)["error"]).all()
    assert np.isnan(node(one, "maps")["error"]).all()
    model = model_of("text")
    trace = generate(model, REQUEST, record=True)
    known = levels_at(model, [call.timestep for call in trace.calls])
    expected = np.zeros(GRID)
    for call in trace.calls:
        row = call.sample[1:]
        both = trace.replay(call.step, sample=row, condition=model.encode(["a cat, a dog", REQUEST.prompt]))
        width = known.width[known.timesteps.tolist().index(call.timestep)]
        expected += width / 2 * (both[0] - both[1]).square().sum(0).numpy()
    assert_alike(nats(one)[1], expected)
    assert node(one)["phi"].values[1] == pytest.approx(expected.sum(), rel=1e-3)


@pytest.mark.parametrize("scale", [1, 2])
def test_a_given_image_is_measured_in_the_latent_of_the_vae(scale: int) -> None:
    model = model_of("text")
    pixels = np.random.default_rng(0).integers(0, 255, (16 * scale, 24 * scale, 3), np.uint8)
    size = {"height": 16, "width": 24}
    request = Request("red dog", image=pixels, invert="noise", at=300, **size)  # type: ignore[arg-type]
    one = explained(request, samples=6, at=(200, 700))
    trace = generate(model, REQUEST, record=(0,))  # of another image: only what is asked of it counts
    completed = model.complete(request)
    assert completed.image is not None
    looked = np.array(completed.image.image.convert("RGB"))
    np.testing.assert_array_equal(np.asarray(one.image), looked)
    latent = model.embed(torch.from_numpy(looked).permute(2, 0, 1)[None].float() / 127.5 - 1)
    contexts = Contexts(("red dog", "dog", "red"), ((1, 0), (2, 0)))
    own = sample(trace, latent, contexts, levels_at(model, (200, 700)), samples=6, adapt=False)
    assert_alike(nats(one), own.maps)


def test_a_given_image_along_its_only_step_has_nats_per_unit() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (16, 24, 3), np.uint8)
    request = Request("red dog", image=pixels, invert="noise", at=300, height=16, width=24)  # type: ignore[arg-type]
    one = explained(request, of="trajectory")
    assert (nats(one) > 0).any()
    trace = generate(model_of("text"), request, record=True)
    both = trace.replay(0, condition=model_of("text").encode(["dog", "red dog"]))
    expected = (both[0] - both[1]).square().sum(0).numpy() / 2
    assert_alike(nats(one)[0], expected)


def test_one_timestep_alone_has_nats_per_unit() -> None:
    one = explained(at=500)
    assert np.isfinite(nats(one)).all()
    assert (node(one)["phi"].values > 0).all()


def test_the_standard_estimator_may_be_negative() -> None:
    one = explained(estimator="standard")
    assert nats(one).min() < 0
    assert node(one).attrs["estimator"] == "the standard estimator"
    np.testing.assert_allclose(nats(one).sum((1, 2)), node(one)["phi"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"samples": 20, "given": "empty"}, 20 * 7),
        ({"of": "trajectory"}, 3 * 7),
        ({"samples": 6, "pairs": "red+dog"}, 6 * 8),
    ],
)
def test_the_cost_is_told_and_paid(options: dict[str, Any], count: int) -> None:
    method, model = find("information"), model_of("text")
    assert f"one generation (3 denoiser calls), then {count} calls" in method.cost(
        model, model.complete(REQUEST), method.configure(options)
    )
    assert "336 calls (48 noise levels, 7 prompts each)" in method.cost(
        model, model.complete(REQUEST), method.configure({})
    )
    one = explained(**options)
    assert one.provenance["information"]["denoiser_calls"] == count


def test_an_output_that_is_not_finite_is_an_error_and_leaves_nothing_behind() -> None:
    model = model_of("text")
    before = fingerprint(model.pipeline)
    with not_a_number(model, 5), pytest.raises(NonFinite, match="the denoiser's output became NaN or infinite at time"):
        explained()
    assert fingerprint(model.pipeline) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"players": "token"}, "players is 'token'; choose from: word, phrase, label"),
        ({"players": "label"}, "players is 'label', but"),
        ({"given": "none"}, "given is 'none'; choose from: rest, empty"),
        ({"of": "noise"}, "of is 'noise'; choose from: image, trajectory"),
        ({"estimator": "best"}, "estimator is 'best'; choose from: orthogonal, standard"),
        ({"of": "trajectory", "estimator": "standard"}, "the standard estimator needs the noise that was added; take"),
        ({"samples": 0}, "samples is 0; expected a whole number from 1 to 100000"),
        ({"samples": 1}, "samples is 1; expected 2 or more, and 5 or more for an error"),
        ({"rows": True}, "rows is True; expected a whole number from 1 to 1024"),
        ({"until": 1.0}, "until is 1.0; expected a number between 0 and 1"),
        ({"until": 0}, "until is 0; expected a number between 0 and 1"),
        ({"at": (-1,)}, "at is -1; expected a whole number from 0"),
        ({"at": "300"}, "at is '300'; expected a whole number"),
        ({"at": (300, 1000)}, "there is no timestep 1000; this model was trained on 0 to 999"),
        ({"pairs": "red+blue"}, "pairs has 'red+blue'; expected two of these, joined by +: a#1, red, cat, ,, a#2, dog"),
        ({"word": "cat"}, "information has no option 'word'"),
    ],
)
def test_wrong_options_say_what_to_do(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        explained(**options)


def test_what_cannot_be_explained_is_refused_before_the_first_image() -> None:
    calls: list[str] = []

    def told(what: str, done: int, total: int) -> None:
        calls.append(what)

    with pytest.raises(RequestError, match="the prompt has no words; write what the image shows"):
        explained(REQUEST.with_(prompt=" "), progress=told)
    with pytest.raises(RequestError, match="there is no label whose information could be asked for"):
        explained(Request(steps=2), "labels", progress=told)
    with pytest.raises(ModelError, match="information needs words or label or reference, which .* does not have"):
        explained(REQUESTS["unconditional"], "unconditional", progress=told)
    with pytest.raises(OptionError, match="pairs are of words"):
        explained(REQUESTS["labels"], "labels", pairs="bit 1+bit 2", progress=told)
    with pytest.raises(OptionError, match="there is no timestep 1000"):
        explained(at=(1000,), progress=told)
    assert not calls


def test_trained_levels_are_looked_at_where_nothing_is_said() -> None:
    assert len(trained_levels(model_of("text")).timesteps) == 1000
