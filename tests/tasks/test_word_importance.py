"""Importance of words: facts of scenes are counted, and all methods are judged on the same prompts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sfumato
from sfumato.errors import ModelError, OptionError
from sfumato.models.loading import load
from sfumato.runs.task import Item, ModelFacts, Record, find_task
from sfumato.studio.reader import read
from sfumato.studio.scenes import scene_of
from sfumato.tasks.word_importance import WordImportanceOptions, scene_change

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


def test_rows_are_means_over_the_prompts_with_a_truth() -> None:
    def record(*aligned: float | None) -> Record:
        methods = ("shapley (clip)", "daam coverage", "even share")
        return Record(rows=[{"method": name, "ranks aligned": one} for name, one in zip(methods, aligned, strict=True)])

    prompts = ("a red circle", "a blue square", "two red stars")
    records = [
        (Item(sfumato.Request(prompt), {"caption": prompt}), one)
        for prompt, one in zip(prompts, (record(1.0, None, 0.5), Record(), record(0.5, 0.2, 0.5)), strict=True)
    ]
    parts, options = find_task("word_importance").parts, WordImportanceOptions()
    found = parts.conclude(records, options, {})
    assert [(row["ranks aligned"].mean, row["ranks aligned"].n) for row in found.rows] == [
        (0.75, 2),
        (0.2, 1),
        (0.5, 2),
    ]
    assert found.about["truths"] == 2
    assert "2 prompts had a truth" in found.sentence
    assert "by shapley (clip)" in found.sentence
    nothing = parts.conclude(records[1:2], options, {})
    assert nothing.rows == []
    assert "there is no truth" in nothing.sentence


@pytest.mark.slow
def test_all_methods_are_judged_on_the_same_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    model: Any = load("studio/scenes")
    found = sfumato.run("word_importance", model, out=tmp_path / "run", prompts=2, common={"steps": 4})
    names = [row["method"] for row in found.finding["rows"]]
    assert names[:4] == ["shapley (clip)", "shapley (vae)", "shapley (latent)", "shapley (ssim)"]
    assert {"daam coverage", "even share", "lime, half of the coalitions (clip)"} <= set(names)
    assert "word_gradients (similarity)" in names
    truths = found.finding["about"]["truths"]
    items = found.items[found.items["method"].notna()]
    own = {name: items[items["method"] == name] for name in names}
    assert own["shapley (clip)"]["like shapley"].tolist() == pytest.approx([1] * truths)
    assert own["shapley (clip)"]["error"].isna().all()
    assert (own["kernel, half of the coalitions (clip)"]["error"] >= 0).all()
    assert {len(rows) for rows in own.values()} == {truths}
    assert "seconds" not in items
    folder = tmp_path / "timed"
    timed = sfumato.run("word_importance", model, out=folder, prompts=1, common={"steps": 4}, seconds=True)
    assert np.nanmax(timed.items["seconds"]) > 0


def test_no_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="expected a whole number from 1 to 100000"):
        sfumato.run("word_importance", load("studio/scenes"), out=tmp_path / "run", prompts=0)


def test_prompts_and_models_that_do_not_fit_are_refused() -> None:
    parts, options = find_task("word_importance").parts, WordImportanceOptions()
    with pytest.raises(ModelError, match="daam needs"):
        parts.plan(ModelFacts("drawn", "none", frozenset({"words"}), 128, 128), (), options)
    facts = ModelFacts("drawn", "none", load("studio/scenes").features, 128, 128)
    with pytest.raises(ModelError, match="works for the scenes alone"):
        parts.plan(replace(facts, height=512), (), options)
    prompts = ("a red circle", "an astronaut", "a red circle left of a blue square")
    made = list(parts.plan(facts, sfumato.runs.prompts.rows_of(prompts), options))
    assert [type(one).__name__ for one in made] == ["Item", "Row", "Row"]
    assert made[2].reason == "it has 8 words; expected 6 at most, since every part is generated"
