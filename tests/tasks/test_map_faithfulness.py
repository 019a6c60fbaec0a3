"""Faithfulness of maps: a perfect map scores 1, a map of the change agrees with it, calls are counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sfumato
from sfumato.errors import ModelError, OptionError
from sfumato.models.lexicon import pos
from sfumato.models.loading import load
from sfumato.models.words import split
from sfumato.runs.task import ModelFacts, find_task
from sfumato.studio.scenes import scene_of
from sfumato.tasks import map_faithfulness
from sfumato.tasks.map_faithfulness import (
    CONTROLS,
    MEASURES,
    SCENES,
    MapFaithfulnessOptions,
    figure,
    gain,
    gains,
    maps_of,
    score,
)
from sfumato.tasks.shared.contenders import Contender, contenders, found_by, timed
from sfumato.tasks.shared.word_maps import Mapped


@pytest.fixture(scope="module")
def model() -> Any:
    return load("studio/scenes")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))


def drawn(model: Any, requests: Any, one: Contender, progress: Any = None) -> list[tuple[Mapped, int]]:
    """Drawn scenes: the maps of information are the true masks, those of others the masks of everything else."""
    found = []
    for request in requests:
        caption = request.prompt
        scene = scene_of(caption, request.seed)
        heat = scene.masks if one.method == "information" else ~scene.masks
        found.append((Mapped(request, scene.image, split(caption, pos), heat.astype(np.float32)), len(one.name)))
    return found


def times(model: Any, request: Any, chosen: Any, progress: Any) -> dict[str, tuple[float, float]]:
    """Every contender takes 2 seconds, four times as long as a generation."""
    return {one.name: (2.0, 4.0) for one in chosen}


def changed(model: Any, request: Any, generator: Any) -> dict[int, Any]:
    """Without a word its object is another one."""
    return {n: mask.astype(float) for n, mask in enumerate(scene_of(request.prompt, request.seed).masks)}


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps, changes and times that are known."""
    monkeypatch.setattr(map_faithfulness, "found_by", drawn)
    monkeypatch.setattr(map_faithfulness, "_changes", changed)
    monkeypatch.setattr(map_faithfulness, "timed", times)


def rows_in(run: Any) -> list[dict[str, Any]]:
    """The row of every word and map of a run."""
    items = run.items[run.items["scenes"].isin(SCENES)]
    rows: list[dict[str, Any]] = items.to_dict("records")
    return rows


@pytest.mark.usefixtures("made_up")
def test_true_masks_score_almost_one_and_agree_with_the_change(model: Any, tmp_path: Path) -> None:
    run = sfumato.run("map_faithfulness", model, out=tmp_path / "run", prompts=8, samples=10, rounds=2)
    items = rows_in(run)
    assert score(items, "generated", "information", "AP").mean > 0.95
    assert score(items, "generated", "information", "agreement with removal").mean > 0.95
    assert score(items, "generated", "daam", "agreement with removal").mean < -0.9
    assert score(items, "generated", "daam", "AP").high < 0.3
    outline = score(items, "drawn", "information", "AP, outline of nouns")
    assert 0.1 < outline.mean < 0.9  # a filled mask is no outline
    assert score(items, "drawn", "information", "agreement with removal").n == 0
    rows = run.finding["rows"]
    assert [(row["scenes"], row["map"]) for row in rows] == [(one, name) for one in SCENES for name in maps_of(items)]
    assert set(CONTROLS) < set(maps_of(items))
    generated = {row["map"]: row for row in rows if row["scenes"] == "generated"}
    assert generated["daam"]["calls"] == len("daam")
    assert generated["random"]["calls"] == 0
    assert (generated["ovam"]["seconds"], generated["ovam"]["times plain"]) == (2.0, 4.0)
    assert generated["random"]["seconds"] is rows[-1]["seconds"] is None
    assert all(set(MEASURES) < set(row) for row in rows)
    own = score(items, "generated", "information", "AP").to_dict()
    assert generated["information"]["AP"] == own
    assert {row["map"] for row in run.finding["about"]["gains over daam"]} == set(maps_of(items)) - {"daam", *CONTROLS}
    assert figure(items).width > 600
    assert (tmp_path / "run" / "figure.png").exists()
    assert run.counts.ok == 8 * 2 + 2


def test_gains_are_differences_of_the_same_words() -> None:
    """One map is better at every word by 0.1, though words differ by far more: only pairs show that."""
    chance = np.random.default_rng(0)
    items = []
    for prompt in range(12):
        for place in range(3):
            base = chance.random()
            for name, more in (("daam", 0.0), ("information", 0.1 + 0.01 * chance.random())):
                about = {"scenes": "generated", "caption": str(prompt), "seed": 0, "place": place, "map": name}
                items.append(about | {"calls": 0} | dict.fromkeys(MEASURES, base + more))
    items.append(items[-1] | {"place": 9, "AP": 1000.0})  # has no partner, so it counts for nothing
    found = gain(items, "information", "daam", "AP")
    assert found.n == 36
    assert 0.1 < found.low <= found.mean <= found.high < 0.11
    assert gain(items, "daam", "information", "AP").mean == pytest.approx(-found.mean)
    one, other = (score(items, "generated", name, "pointing") for name in ("information", "daam"))
    assert one.low < other.high  # whose intervals overlap
    (row, blank) = gains(items)
    assert (row["map"], round(row["AP"].mean, 2), blank["AP"].n) == ("information", 0.1, 0)
    assert gains(items, over="another") == []


def test_words_of_one_prompt_are_drawn_together() -> None:
    items = []
    for prompt, more in enumerate((0.0, 0.4)):
        for place in range(50):
            for name in ("daam", "ovam"):
                value = more if name == "ovam" else 0.0
                about = {"scenes": "generated", "caption": str(prompt), "seed": 0, "place": place, "map": name}
                items.append(about | {"AP": value})
    found = gain(items, "ovam", "daam", "AP")
    assert (found.low, found.high) == pytest.approx((0.0, 0.4))  # two prompts know little, however many words they have


def test_attention_is_also_compared_with_weights_where_they_are_given() -> None:
    names = [one.name for one in contenders(48, "weights.json")]
    assert names[:5] == ["daam", "daam, calibrated", "ovam", "information", "information alone"]
    assert "daam, calibrated" not in [one.name for one in contenders(48)]


@pytest.mark.usefixtures("made_up")
def test_only_some_compete_where_that_is_asked_for(model: Any, tmp_path: Path) -> None:
    only = ("ovam", "information")
    run = sfumato.run("map_faithfulness", model, out=tmp_path / "run", prompts=4, samples=10, only=only)
    assert set(maps_of(rows_in(run))) == {*only, *CONTROLS}
    with pytest.raises(OptionError, match="'dam' does not compete; choose from: daam, ovam, information"):
        MapFaithfulnessOptions(only=("dam",))


@pytest.mark.parametrize(("prompts", "samples"), [(0, 48), (8, 1), (True, 48)])
def test_numbers_that_are_too_small_are_refused(model: Any, tmp_path: Path, prompts: Any, samples: int) -> None:
    with pytest.raises(OptionError, match="expected a whole number from [12] to 100000"):
        sfumato.run("map_faithfulness", model, out=tmp_path / "run", prompts=prompts, samples=samples)


def test_what_cannot_be_is_refused_before_any_image(model: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="rounds is -1; expected a whole number from 0 to 100000"):
        sfumato.run("map_faithfulness", model, out=tmp_path / "run", rounds=-1)
    facts = ModelFacts("drawn", "none", model.features, 512, 512)
    parts = find_task("map_faithfulness").parts
    with pytest.raises(ModelError, match="works for the scenes alone"):
        parts.plan(facts, (), MapFaithfulnessOptions())
    with pytest.raises(ModelError, match="daam needs"):
        parts.plan(replace(facts, features=frozenset({"words"})), (), MapFaithfulnessOptions())


@pytest.mark.usefixtures("made_up")
def test_images_without_the_objects_give_no_scores(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_faithfulness, "masked_words", lambda *given: [])
    run = sfumato.run("map_faithfulness", model, out=tmp_path / "run", prompts=1, rounds=1)
    assert run.finding["rows"] == []
    assert "nothing can be scored" in run.finding["sentence"]


@pytest.mark.slow
def test_every_contender_gives_a_map_of_the_words_it_is_asked_for(model: Any) -> None:
    request = model.complete(sfumato.Request("a red circle", seed=3, steps=4))
    small = {"df_rise": {"masks": 4}, "lime_image": {"budget": 30, "superpixels": 6}}
    for one in contenders(2):
        one = replace(one, options=dict(one.options) | small.get(one.method, {}))
        ((found, calls),) = found_by(model, [request], one)
        finite = np.isfinite(found.maps).all((1, 2)).tolist()
        assert finite == ([False, True, True] if one.way == "word" else [True] * 3), one.name
        assert (calls > 0) == (one.method not in ("daam", "ovam", "lime_image")), one.name
        assert found.image.shape == (128, 128, 3)
        if one.way == "image":
            np.testing.assert_array_equal(found.maps[0], found.maps[2])
        elif one.way == "word":
            assert np.abs(found.maps[1] - found.maps[2]).max() > 0
            assert found.maps.shape[1:] == (16, 16)
    known = timed(model, request, contenders(2)[:2])
    assert list(known) == ["daam", "ovam"]
    assert all(seconds > 0 and plain > 0.5 for seconds, plain in known.values())


@pytest.mark.slow
def test_calls_are_counted(model: Any) -> None:
    request = model.complete(sfumato.Request("a red circle", seed=3, steps=4))
    calls = {one.name: found_by(model, [request], one)[0][1] for one in contenders(2)[2:5]}
    assert calls == {"information": 2 * 4, "information alone": 2 * 5, "df_cam of the word": 2 * 3 * 3}


@pytest.mark.soak
def test_information_agrees_more_with_removal_than_attention_does(model: Any, tmp_path: Path) -> None:
    """Word by word: means over few prompts have wide intervals, since words differ more than maps do."""
    given: dict[str, Any] = {"samples": 12, "only": ("daam", "information"), "scenes": ("generated",)}
    run = sfumato.run("map_faithfulness", model, out=tmp_path / "run", prompts=6, common={"steps": 10}, **given)
    found = gain(rows_in(run), "information", "daam", "agreement with removal")
    assert found.n >= 14
    assert found.low > 0.1
