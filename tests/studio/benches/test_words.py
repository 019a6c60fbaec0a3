"""The word bench: a perfect map scores 1, the embedded model beats the controls."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sfumato.errors import OptionError
from sfumato.mapped import Mapped
from sfumato.models.lexicon import pos
from sfumato.models.loading import load
from sfumato.models.words import split
from sfumato.studio.benches import words as benching
from sfumato.studio.benches.words import bench_words
from sfumato.studio.scenes import scene_of

MODEL: Any = SimpleNamespace(source=SimpleNamespace(name="drawn by hand"))


def perfect(model: Any, requests: Any, *, method: str, progress: Any) -> list[Mapped]:
    """Drawn scenes whose maps are the true masks."""
    found = []
    for request in requests:
        scene = scene_of(request.prompt, request.seed)
        found.append(Mapped(request, scene.image, split(request.prompt, pos), scene.masks.astype(np.float32)))
    return found


def test_true_masks_score_almost_one_and_controls_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benching, "mapped", perfect)
    bench = bench_words(MODEL, 12)
    table = bench.tables["all"]
    assert table.score("daam", "mIoU@0.4").mean > 0.95  # the reader's masks against the drawn ones
    assert table.score("daam", "pointing").mean > 0.95
    for control in ("random", "smooth random", "centre", "whole image"):
        assert table.score(control, "mIoU@0.4").high < 0.5, control
    assert {row["words"].split()[0] for row in bench.rows()} == {"all", "nouns", "colours", "others"}


def test_no_prompts_are_refused() -> None:
    with pytest.raises(OptionError, match="prompts is 0"):
        bench_words(MODEL, 0)


@pytest.mark.slow
def test_the_embedded_model_beats_every_control() -> None:
    table = bench_words(load("studio/scenes"), 16).tables["nouns"]
    best = max(table.score(name, "AP").mean for name in table.methods if name != "daam")
    assert table.score("daam", "AP").low > best
