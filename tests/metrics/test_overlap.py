"""Overlap of two word maps: known answers, and that the difference of the two shares is that of the sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.errors import OptionError
from sfumato.metrics import overlap

SMALL = np.zeros((4, 6))
SMALL[1:3, 1:3] = 1  # 4 pixels
LARGE = np.zeros((4, 6))
LARGE[:, :4] = 1  # 16 pixels around them


def test_what_lies_within_its_head_has_an_iod_of_one() -> None:
    assert overlap(SMALL, LARGE) == (1.0, 4 / 16, 4 / 16)
    assert overlap(LARGE, SMALL) == (4 / 16, 1.0, 4 / 16)
    assert overlap(LARGE, LARGE) == (1.0, 1.0, 1.0)
    assert overlap(SMALL, 1 - LARGE) == (0.0, 0.0, 0.0)


def test_a_half_overlap() -> None:
    other = np.roll(SMALL, 1, axis=1)
    assert overlap(SMALL, other) == (0.5, 0.5, 2 / 6)


def test_each_map_has_a_threshold_of_its_own() -> None:
    graded = np.array([[1.0, 0.5, 0.1, 0.0]])
    assert overlap(graded, 100 * graded) == (1.0, 1.0, 1.0)
    flat = np.array([[3.0, 3.0, 3.0, 0.0]])
    assert overlap(graded, flat, 0.05) == (1.0, 1.0, 1.0)
    assert overlap(graded, flat, 0.4) == (1.0, 2 / 3, 2 / 3)
    assert overlap(graded, flat, 0.6) == (1.0, 1 / 3, 1 / 3)


maps = st.lists(st.floats(-1, 1, width=32), min_size=12, max_size=12).map(lambda v: np.reshape(v, (3, 4)))


@given(maps, maps, st.sampled_from([0.1, 0.4, 0.9]))
def test_the_sign_of_the_difference_is_that_of_the_sizes(one: np.ndarray, other: np.ndarray, tau: float) -> None:
    found, back = overlap(one, other, tau), overlap(other, one, tau)
    if one.max() <= 0 or other.max() <= 0:
        assert all(math.isnan(value) for value in (*found, *back))
        return
    sizes = [int((values >= tau * values.max()).sum()) for values in (one, other)]
    assert (found.iod, found.ioh, found.iou) == (back.ioh, back.iod, back.iou)
    assert 0 <= found.iou <= min(found.iod, found.ioh) <= max(found.iod, found.ioh) <= 1
    if found.iod:  # without any overlap both are 0, whatever the sizes
        assert np.sign(found.iod - found.ioh) == np.sign(sizes[1] - sizes[0])


@pytest.mark.parametrize("nothing", [np.zeros((4, 6)), -SMALL, np.full((4, 6), math.nan), np.where(SMALL, math.nan, 1)])
def test_a_map_that_marks_nothing_overlaps_with_nothing(nothing: np.ndarray) -> None:
    assert all(math.isnan(value) for value in overlap(nothing, LARGE))
    assert all(math.isnan(value) for value in overlap(LARGE, nothing))


def test_what_cannot_overlap_is_said() -> None:
    with pytest.raises(OptionError, match=r"maps of one grid overlap; got \(4, 6\) and \(6, 4\)"):
        overlap(SMALL, LARGE.T)
    with pytest.raises(OptionError, match="tau is 40"):
        overlap(SMALL, LARGE, 40)
