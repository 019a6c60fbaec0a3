"""Scores of a model that draws exactly what it is told, and of one that draws something else."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfumato.errors import OptionError
from sfumato.request import Request
from sfumato.studio import scoring
from sfumato.studio.scenes import held_out_captions, scene_of
from sfumato.studio.scoring import retrieved, score

MODEL: Any = SimpleNamespace(source=SimpleNamespace(name="drawn by hand"))


def drawn_as(caption_of: Callable[[str], str]) -> Callable[..., Any]:
    """A generator whose images show what `caption_of` makes of each prompt."""

    def generate(model: Any, requests: Sequence[Request]) -> Any:
        images = [Image.fromarray(scene_of(caption_of(r.prompt), r.seed).image) for r in requests]
        return SimpleNamespace(images=images)

    return generate


def test_true_scenes_are_all_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "generate", drawn_as(lambda prompt: prompt))
    told: list[int] = []
    found = score(MODEL, 24, progress=lambda what, done, total: told.append(done))
    means = {row["measure"]: row["mean"] for row in found.rows()}
    for measure in ("one object right", "objects right, two-object prompts", "relations right", "counts right"):
        assert means[measure] == 1.0, measure
    assert told[-1] == 24
    assert json.loads(found.to_json())["prompts"] == 24


def test_other_scenes_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "generate", drawn_as(lambda prompt: "a white cross"))
    means = {row["measure"]: row["mean"] for row in score(MODEL, 24).rows()}
    assert means["counts right"] == 0.0
    assert means["relations right"] == 0.0
    assert means["one object right"] <= 0.5


def test_no_prompts_are_refused() -> None:
    with pytest.raises(OptionError, match="prompts is 0"):
        score(MODEL, 0)


def test_clip_finds_the_captions_of_true_scenes() -> None:
    captions = held_out_captions(40)
    images = [scene_of(caption, i).image for i, caption in enumerate(captions)]
    right = float(np.mean(retrieved(captions, images)))
    shuffled = float(np.mean(retrieved(captions, images[::-1])))
    assert right > 0.8
    assert shuffled < 0.2
