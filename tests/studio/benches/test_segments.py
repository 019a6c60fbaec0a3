from __future__ import annotations

import json

import numpy as np
import pytest

import sfumato
from sfumato.errors import OptionError
from sfumato.studio.benches.segments import CHOICES, bench_segments, overlap


def test_the_overlap_of_known_masks() -> None:
    one, other = np.zeros((2, 4, 4), bool)
    assert overlap(one, other) == 0
    one[:2], other[1:3] = True, True
    assert overlap(one, one) == 1
    assert overlap(one, other) == pytest.approx(1 / 3)


@pytest.mark.slow
def test_both_ways_and_both_kinds_of_players_are_judged() -> None:
    found = bench_segments(sfumato.load("studio/scenes"), 2)
    kinds = {key[:2] for key in found.overlaps}
    assert kinds == {(way, group) for way in ("regions", "saliency") for group in ("word", "phrase")}
    for way, group in kinds:
        matched, best, _ = (np.array(found.overlaps[way, group, choice]) for choice in CHOICES)
        assert (matched <= best + 1e-12).all()
        assert ((matched >= 0) & (best <= 1)).all()
    assert [row["parts"] for row in found.rows()[:3]] == [*CHOICES]
    assert len(json.loads(found.to_json())["scores"]) == len(found.rows())


def test_no_prompts_are_refused() -> None:
    with pytest.raises(OptionError, match="expected a whole number from 1 to 100000"):
        bench_segments(sfumato.load("studio/scenes"), 0)
