"""Hard maps and the overlap of two masks, on maps whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from sfumato.results.hard_maps import coverage, hard, mask_iou

STACKS = arrays(np.float32, (2, 3, 4, 5), elements=st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0, np.nan, np.inf]))
MASKS = arrays(np.bool_, (4, 5))


@given(STACKS, st.sampled_from([0.0, 0.25, 0.4, 1.0]))
def test_each_map_of_a_stack_has_its_own_maximum(stack: NDArray[np.float32], tau: float) -> None:
    found = hard(stack, tau)
    for place in np.ndindex(stack.shape[:2]):
        np.testing.assert_array_equal(found[place], hard(stack[place], tau))


@pytest.mark.parametrize("tau", [0.0, 0.4, 1.0])
def test_a_constant_map_is_whole_where_it_is_positive_and_empty_where_it_is_not(tau: float) -> None:
    assert hard(np.full((3, 4), 0.1, np.float32), tau).all()  # it reaches its maximum everywhere
    assert not hard(np.zeros((3, 4), np.float32), tau).any()
    assert coverage(np.full((3, 4), 0.1, np.float32), tau) == 1


def test_a_value_at_the_threshold_is_inside() -> None:
    np.testing.assert_array_equal(hard([[1.0, 0.5, 0.25]], 0.5), [[True, True, False]])
    np.testing.assert_array_equal(hard([[1.0, 0.5, 0.25]], 1.0), [[True, False, False]])


def test_an_unseen_word_of_a_stack_marks_nothing_and_spoils_no_other() -> None:
    stack = np.stack([np.full((2, 2), np.nan), np.array([[0.0, 4.0], [1.0, 2.0]])])
    np.testing.assert_array_equal(hard(stack, 0.5), [np.zeros((2, 2), bool), [[False, True], [False, True]]])


def test_the_overlap_of_known_masks() -> None:
    one, other = np.array([[True, True, False]]), np.array([[False, True, True]])
    assert mask_iou(one, other) == pytest.approx(1 / 3)
    assert mask_iou(one, ~one) == 0
    assert mask_iou(one & other, np.array([[False, True, False]])) == 1
    assert mask_iou(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 0


@given(MASKS, MASKS)
def test_overlap_has_no_order_and_counts_pixels(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> None:
    assert mask_iou(one, other) == mask_iou(other, one)
    assert mask_iou(one, one) == float(one.any())
    inside, around = set(np.flatnonzero(one)), set(np.flatnonzero(other))
    assert mask_iou(one, other) == len(inside & around) / max(1, len(inside | around))
