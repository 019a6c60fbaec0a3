"""Matching of segments: all cuts and players are judged, and the matched parts never beat the best there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sfumato
from sfumato.errors import ModelError, OptionError
from sfumato.models.loading import load
from sfumato.runs.task import Item, ModelFacts, NoOptions, Record, find_task
from sfumato.tasks import segment_matching
from sfumato.tasks.segment_matching import CHOICES, PLAYERS, WAYS
from sfumato.writing.json_text import json_value

FEATURES = frozenset({"words", "replay"})


@pytest.fixture(scope="module")
def model() -> Any:
    return load("studio/scenes")


def test_rows_are_means_over_the_words_of_all_prompts() -> None:
    """Words of two prompts are judged by one cut; a cut or a kind of players without any has no row."""
    records = []
    for caption, overlaps in (("a red circle", (0.6, 0.4)), ("a blue square", (0.9,))):
        rows = [
            {"cut by": "regions", "players": "word", "matched": one, "best there is": 1.0, "at random": 0.0}
            for one in overlaps
        ]
        records.append((Item(sfumato.Request(caption), {"caption": caption}), Record(rows=rows)))
    found = find_task("segment_matching").parts.conclude(records, NoOptions(), {})
    matched, best, chance = found.rows
    assert [row["parts"] for row in found.rows] == [*CHOICES]
    assert (matched["cut by"], matched["players"]) == ("regions", "word (3)")
    assert (matched["right"].mean, matched["IoU"].mean) == pytest.approx((2 / 3, 1.9 / 3))
    assert (best["right"].mean, chance["right"].mean) == (1, 0)
    assert "regions, word (3) 0.667" in found.sentence


def test_images_without_the_objects_give_no_scores(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_matching, "_rows", lambda *given: [])
    found = sfumato.run("segment_matching", model, out=tmp_path / "run", prompts=["a red circle"])
    assert found.finding["rows"] == []
    assert "nothing can be scored" in found.finding["sentence"]


def test_what_is_no_caption_of_the_scenes_is_invalid_and_the_rest_goes_on(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_matching, "_rows", lambda *given: [])
    prompts = ["a photo of an astronaut", "a red circle"]
    found = sfumato.run("segment_matching", model, out=tmp_path / "run", prompts=prompts)
    assert (found.counts.ok, found.counts.invalid) == (1, 1)


@pytest.mark.slow
def test_both_ways_and_both_kinds_of_players_are_judged(model: Any, tmp_path: Path) -> None:
    found = sfumato.run("segment_matching", model, out=tmp_path / "run", prompts=2)
    items = found.items
    assert set(zip(items["cut by"], items["players"], strict=True)) == {
        (way, group) for way in WAYS for group in PLAYERS
    }
    assert (items["matched"] <= items["best there is"] + 1e-12).all()
    assert ((items["matched"] >= 0) & (items["best there is"] <= 1)).all()
    assert [row["parts"] for row in found.finding["rows"][:3]] == [*CHOICES]
    alone = sfumato.run(
        "segment_matching", model, out=tmp_path / "alone", prompts=["two red stars"], common={"seed": 1}
    )
    second = items[items["caption"] == "two red stars"]
    assert json_value(second[[*CHOICES]].to_dict("records")) == json_value(alone.items[[*CHOICES]].to_dict("records"))


def test_no_prompts_are_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="expected a whole number from 1 to 100000"):
        sfumato.run("segment_matching", model, out=tmp_path / "run", prompts=0)


def test_models_of_other_images_are_refused_before_any_is_made() -> None:
    parts = find_task("segment_matching").parts
    with pytest.raises(ModelError, match="works for the scenes alone"):
        parts.plan(ModelFacts("drawn", "none", FEATURES, 512, 512), (), NoOptions())
    with pytest.raises(ModelError, match="segments needs"):
        parts.plan(ModelFacts("drawn", "none", frozenset({"words"}), 128, 128), (), NoOptions())
