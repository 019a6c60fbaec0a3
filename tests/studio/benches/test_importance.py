from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import sfumato
from sfumato.errors import OptionError
from sfumato.studio.benches.importance import bench_importance, scene_change
from sfumato.studio.reader import read
from sfumato.studio.scenes import scene_of

PROMPT = "a red circle left of a blue square, gray background"


def test_the_same_scene_has_not_changed() -> None:
    reading = read(scene_of(PROMPT, 1).image)
    assert scene_change(reading, reading) == 0
    assert scene_change(reading, replace(reading, things=reading.things[::-1])) == 0


def test_every_fact_counts_once() -> None:
    reading = read(scene_of(PROMPT, 1).image)
    first, second = reading.things
    assert scene_change(reading, replace(reading, background="teal")) == pytest.approx(1 / 7)
    assert scene_change(reading, replace(reading, things=(replace(first, colour="green"), second))) == pytest.approx(
        1 / 7
    )
    moved = replace(first, shape="star", x=first.x + 40)
    assert scene_change(reading, replace(reading, things=(moved, second))) == pytest.approx(2 / 7)
    assert scene_change(reading, replace(reading, things=(second,))) == pytest.approx(3 / 7)
    assert scene_change(replace(reading, things=()), replace(reading, things=(), background="pink")) == 1


@pytest.mark.slow
def test_all_methods_are_judged_on_the_same_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    found = bench_importance(sfumato.load("studio/scenes"), 2, steps=4)
    names = [row["method"] for row in found.rows()]
    assert names[:4] == ["shapley (clip)", "shapley (vae)", "shapley (latent)", "shapley (ssim)"]
    assert {"daam coverage", "even share", "lime, half of the coalitions (clip)"} <= set(names)
    assert "word_gradients (similarity)" in names
    assert found.scores["shapley (clip)"]["like shapley"] == pytest.approx([1] * found.prompts)
    assert "error" not in found.scores["shapley (clip)"]
    assert all(error >= 0 for error in found.scores["kernel, half of the coalitions (clip)"]["error"])
    for scores in found.scores.values():
        assert len(scores["RMSE"]) == found.prompts
    assert json.loads(found.to_json())["prompts"] == found.prompts


def test_no_prompts_are_refused() -> None:
    with pytest.raises(OptionError, match="expected a whole number from 1 to 100000"):
        bench_importance(sfumato.load("studio/scenes"), 0)
