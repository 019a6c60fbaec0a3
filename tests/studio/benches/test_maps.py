"""The bench of maps: a perfect map scores 1, a map of the change agrees with it, calls are counted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import sfumato
from sfumato.errors import OptionError
from sfumato.mapped import Mapped
from sfumato.models.lexicon import pos
from sfumato.models.words import Tokens, split
from sfumato.results.rows import plain_rows
from sfumato.studio.benches import maps as benching
from sfumato.studio.benches.contenders import Contender, Time, contenders, found_by, timed
from sfumato.studio.benches.maps import CONTROLS, MEASURES, SCENES, MapBench, bench_maps
from sfumato.studio.scenes import scene_of

MODEL: Any = SimpleNamespace(
    source=SimpleNamespace(name="drawn by hand"), tokens=lambda text: Tokens(split(text, pos), (), 77)
)


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


def times(model: Any, requests: Any, chosen: Any, progress: Any) -> dict[str, Time]:
    """Every contender takes 2 seconds, four times as long as a generation."""
    return {one.name: Time(2.0, 4.0) for one in chosen}


def changed(model: Any, requests: Any, progress: Any) -> dict[tuple[str, int], Any]:
    """Without a word its object is another one."""
    scenes = [(request.prompt, scene_of(request.prompt, request.seed)) for request in requests]
    return {(caption, n): mask.astype(float) for caption, scene in scenes for n, mask in enumerate(scene.masks)}


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps, changes and times that are known."""
    monkeypatch.setattr(benching, "found_by", drawn)
    monkeypatch.setattr(benching, "_changes", changed)
    monkeypatch.setattr(benching, "timed", times)


def test_true_masks_score_almost_one_and_agree_with_the_change(made_up: None) -> None:
    bench = bench_maps(MODEL, 8, samples=10)
    assert bench.score("generated", "information", "AP").mean > 0.95
    assert bench.score("generated", "information", "agreement with removal").mean > 0.95
    assert bench.score("generated", "daam", "agreement with removal").mean < -0.9
    assert bench.score("generated", "daam", "AP").high < 0.3
    outline = bench.score("drawn", "information", "AP, outline of nouns")
    assert 0.1 < outline.mean < 0.9  # a filled mask is no outline
    assert bench.score("drawn", "information", "agreement with removal").n == 0
    rows = bench.rows()
    assert [(row["scenes"], row["map"]) for row in rows] == [(one, name) for one in SCENES for name in bench.maps]
    assert set(CONTROLS) < set(bench.maps)
    generated = {row["map"]: row for row in rows if row["scenes"] == "generated"}
    assert generated["daam"]["calls"] == len("daam")
    assert generated["random"]["calls"] == 0
    assert (generated["ovam"]["seconds"], generated["ovam"]["times plain"]) == (2.0, 4.0)
    assert generated["random"]["seconds"] is rows[-1]["seconds"] is None
    assert all(set(MEASURES) < set(row) for row in rows)
    told = json.loads(bench.to_json())
    assert told["rows"] == plain_rows(rows)
    assert bench.figure().width > 600


def test_gains_are_differences_of_the_same_words() -> None:
    """One map is better at every word by 0.1, though words differ by far more: only pairs show that."""
    chance = np.random.default_rng(0)
    items = []
    for prompt in range(12):
        for place in range(3):
            base = chance.random()
            for name, more in (("daam", 0.0), ("information", 0.1 + 0.01 * chance.random())):
                about = {"scenes": "generated", "prompt": str(prompt), "place": place, "map": name, "calls": 0}
                items.append(about | dict.fromkeys(MEASURES, base + more))
    items.append(items[-1] | {"place": 9, "AP": 1000.0})  # has no partner, so it counts for nothing
    bench = MapBench("made up", 12, 10, items)
    gain = bench.gain("information", "daam", "AP")
    assert gain.n == 36
    assert 0.1 < gain.low <= gain.mean <= gain.high < 0.11
    assert bench.gain("daam", "information", "AP").mean == pytest.approx(-gain.mean)
    one, other = (bench.score("generated", name, "pointing") for name in ("information", "daam"))
    assert one.low < other.high  # whose intervals overlap
    (row, blank) = bench.gains()
    assert (row["map"], round(row["AP"].mean, 2), blank["AP"].n) == ("information", 0.1, 0)
    assert MapBench("made up", 12, 10, items).gains(over="another") == []


def test_words_of_one_prompt_are_drawn_together() -> None:
    items = []
    for prompt, more in enumerate((0.0, 0.4)):
        for place in range(50):
            for name in ("daam", "ovam"):
                value = more if name == "ovam" else 0.0
                about = {"scenes": "generated", "prompt": str(prompt), "place": place, "map": name}
                items.append(about | {"AP": value})
    gain = MapBench("made up", 2, 10, items).gain("ovam", "daam", "AP")
    assert (gain.low, gain.high) == pytest.approx((0.0, 0.4))  # two prompts know little, however many words they have


def test_attention_is_also_compared_with_weights_where_they_are_given() -> None:
    names = [one.name for one in contenders(48, "weights.json")]
    assert names[:5] == ["daam", "daam, calibrated", "ovam", "information", "information alone"]
    assert "daam, calibrated" not in [one.name for one in contenders(48)]


def test_only_some_compete_where_that_is_asked_for(made_up: None) -> None:
    bench = bench_maps(MODEL, 4, samples=10, only=("ovam", "information"))
    assert set(bench.maps) == {"ovam", "information", *CONTROLS}
    with pytest.raises(OptionError, match="'dam' does not compete; choose from: daam, ovam, information"):
        bench_maps(MODEL, 4, only=("dam",))


@pytest.mark.parametrize(("prompts", "samples"), [(1, 48), (8, 1), (True, 48)])
def test_numbers_that_are_too_small_are_refused(prompts: Any, samples: int) -> None:
    with pytest.raises(OptionError, match="expected a whole number from 2 to 100000"):
        bench_maps(MODEL, prompts, samples=samples)


def test_nothing_is_timed_where_that_is_not_wanted() -> None:
    assert timed(MODEL, [], contenders(2), lambda *told: None) == {}
    with pytest.raises(OptionError, match="rounds is -1; expected a whole number from 0 to 100000"):
        bench_maps(MODEL, 4, rounds=-1)


@pytest.mark.slow
def test_every_contender_gives_a_map_of_the_words_it_is_asked_for() -> None:
    model = sfumato.load("studio/scenes")
    request = sfumato.Request("a red circle", seed=3, steps=4)
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
    ((again, calls),) = found_by(model, [request], one)  # from the cache
    np.testing.assert_array_equal(again.maps, found.maps)
    known = timed(model, [request], contenders(2)[:2], lambda *told: None)
    assert list(known) == ["daam", "ovam"]
    assert all(one.seconds > 0 and one.plain > 0.5 for one in known.values())


@pytest.mark.slow
def test_calls_are_counted() -> None:
    model = sfumato.load("studio/scenes")
    request = sfumato.Request("a red circle", seed=3, steps=4)
    calls = {one.name: found_by(model, [request], one)[0][1] for one in contenders(2)[2:5]}
    assert calls == {"information": 2 * 4, "information alone": 2 * 5, "df_cam of the word": 2 * 3 * 3}


@pytest.mark.soak
def test_information_agrees_more_with_removal_than_attention_does() -> None:
    """Word by word: means over few prompts have wide intervals, since words differ more than maps do."""
    model = sfumato.load("studio/scenes")
    bench = bench_maps(model, 6, samples=12, only=("daam", "information"), scenes=("generated",), rounds=0, steps=10)
    gain = bench.gain("information", "daam", "agreement with removal")
    assert gain.n >= 14
    assert gain.low > 0.1
