"""The bench of maps: a perfect map scores 1, a map of the change agrees with it, calls are counted."""

from __future__ import annotations

import json
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
from sfumato.studio.benches import maps as benching
from sfumato.studio.benches.maps import CONTROLS, MEASURES, SCENES, bench_maps, contenders
from sfumato.studio.scenes import scene_of

MODEL: Any = SimpleNamespace(
    source=SimpleNamespace(name="drawn by hand"), tokens=lambda text: Tokens(split(text, pos), (), 77)
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))


def drawn(model: Any, requests: Any, *, method: str, progress: Any = None, **options: Any) -> list[Mapped]:
    """Drawn scenes: the maps of information are the true masks, those of others the masks of everything else."""
    found = []
    for request in requests:
        caption = request.prompt
        scene = scene_of(caption, request.seed)
        heat = scene.masks if method == "information" else ~scene.masks
        found.append(Mapped(request, scene.image, split(caption, pos), heat.astype(np.float32)))
    return found


def changed(model: Any, requests: Any, progress: Any) -> dict[tuple[str, int], Any]:
    """Without a word its object is another one."""
    scenes = [(request.prompt, scene_of(request.prompt, request.seed)) for request in requests]
    return {(caption, n): mask.astype(float) for caption, scene in scenes for n, mask in enumerate(scene.masks)}


def test_true_masks_score_almost_one_and_agree_with_the_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benching, "mapped", drawn)
    monkeypatch.setattr(benching, "_changes", changed)
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
    calls = {row["map"]: row["calls"] for row in rows if row["scenes"] == "generated"}
    assert calls["daam"] == calls["random"] == 0
    assert calls["information alone"] == calls["information"] + 10
    assert all(set(MEASURES) < set(row) for row in rows)
    told = json.loads(bench.to_json())
    assert told["rows"] == rows
    assert bench.figure().width > 600


def test_attention_is_also_compared_with_weights_where_they_are_given() -> None:
    names = [one.name for one in contenders(48, "weights.json")]
    assert names == ["daam", "daam, calibrated", "ovam", "information", "information alone"]
    assert "daam, calibrated" not in [one.name for one in contenders(48)]


@pytest.mark.parametrize(("prompts", "samples"), [(1, 48), (8, 1), (True, 48)])
def test_numbers_that_are_too_small_are_refused(prompts: Any, samples: int) -> None:
    with pytest.raises(OptionError, match="expected a whole number, 2 or more"):
        bench_maps(MODEL, prompts, samples=samples)


@pytest.mark.slow
def test_information_agrees_more_with_removal_than_attention_does() -> None:
    bench = bench_maps(sfumato.load("studio/scenes"), 6, samples=24)
    one, other = (bench.score("generated", name, "agreement with removal") for name in ("information", "daam"))
    assert one.low > other.high
