from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from sfumato.errors import OptionError
from sfumato.metrics import average_precision, coverage, hard, iou, miou, pointing
from sfumato.results.upscale import bicubic

SHAPE = (5, 7)
heats = arrays(np.float64, SHAPE, elements=st.floats(0.125, 8))
levels = arrays(np.float64, SHAPE, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0]))  # many ties
masks = arrays(np.bool_, SHAPE).filter(lambda mask: bool(mask.any()))

LEFT = np.zeros((4, 8), dtype=bool)
LEFT[:, :4] = True
RAMP = np.tile(np.arange(8.0, 0.0, -1.0), (4, 1))  # 8 at the left edge, 1 at the right


def test_hard_maps_are_relative_to_the_maximum() -> None:
    np.testing.assert_array_equal(hard(RAMP, 0.5), RAMP >= 4)
    np.testing.assert_array_equal(hard(100 * RAMP, 0.5), RAMP >= 4)
    assert hard(RAMP, 0).all()
    np.testing.assert_array_equal(hard(RAMP, 1), RAMP == 8)
    np.testing.assert_array_equal(hard(np.array([[-3.0, 1.0, 2.0]]), 0.5), [[False, True, True]])


@pytest.mark.parametrize("heat", [np.zeros((3, 3)), -np.ones((3, 3)), np.array([[1.0, np.nan]]), np.zeros((0, 3))])
def test_a_map_without_a_finding_marks_nothing(heat: NDArray[np.float64]) -> None:
    assert not hard(heat, 0.4).any()
    assert not hard(heat, 0).any()


@pytest.mark.parametrize("tau", [-0.1, 1.1, math.nan])
def test_tau_is_a_share(tau: float) -> None:
    with pytest.raises(OptionError, match="expected a share of the maximum, from 0 to 1"):
        hard(RAMP, tau)


def test_iou_by_hand() -> None:
    # tau 0.5 marks columns 0 to 4: 20 pixels, 16 of them in the left half
    assert iou(RAMP, LEFT, 0.5) == pytest.approx(16 / 20)
    assert iou(RAMP, ~LEFT, 0.5) == pytest.approx(4 / 32)
    assert iou(LEFT.astype(float), LEFT) == 1
    assert iou(LEFT.astype(float), ~LEFT) == 0


def test_maps_on_a_coarse_grid_are_upscaled_first() -> None:
    coarse = np.random.default_rng(0).random((4, 6))
    mask = np.zeros((32, 36), dtype=bool)
    mask[5:20, 7:30] = True
    fine = bicubic(coarse, (32, 36))
    for score in (iou, average_precision, pointing):
        assert score(coarse, mask) == score(fine, mask)
    assert iou(coarse, mask) != iou(coarse.T[:4, :4], mask)


@given(masks)
def test_the_mask_itself_is_found_perfectly(mask: NDArray[np.bool_]) -> None:
    heat = mask.astype(float)
    assert (iou(heat, mask), average_precision(heat, mask), pointing(heat, mask)) == (1, 1, 1)
    if not mask.all():
        assert (iou(1 - heat, mask), pointing(1 - heat, mask)) == (0, 0)


@given(heats, masks, st.floats(0.01, 100))
def test_scores_do_not_depend_on_the_unit_of_the_map(
    heat: NDArray[np.float64], mask: NDArray[np.bool_], unit: float
) -> None:
    doubled = heat * 2.0 ** round(math.log2(unit))  # exact in binary
    for score in (iou, average_precision, pointing):
        assert score(doubled, mask) == score(heat, mask)


def brute_force(heat: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    """The definition: for every distinct value as threshold, from high to low, precision times the gain in recall."""
    area, recall_before = 0.0, 0.0
    for threshold in sorted(set(heat.ravel().tolist()), reverse=True):
        marked = heat >= threshold
        recall = (marked & mask).sum() / mask.sum()
        area += (recall - recall_before) * (marked & mask).sum() / marked.sum()
        recall_before = recall
    return area


@given(heats | levels, masks)
def test_average_precision_equals_its_definition(heat: NDArray[np.float64], mask: NDArray[np.bool_]) -> None:
    assert average_precision(heat, mask) == pytest.approx(brute_force(heat, mask), abs=1e-12)


def test_average_precision_known_answers() -> None:
    # scikit-learn's own example: average_precision_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) is 0.83
    score = average_precision(np.array([[0.1, 0.4, 0.35, 0.8]]), np.array([[0, 0, 1, 1]]))
    assert score == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert average_precision(np.ones((4, 8)), LEFT) == pytest.approx(0.5)
    assert average_precision(np.zeros((4, 8)), LEFT) == pytest.approx(0.5)


def test_pointing_by_hand() -> None:
    heat = np.zeros((9, 9))
    heat[4, 2] = 1.0
    mask = np.zeros((9, 9), dtype=bool)
    mask[4, 5] = True
    assert pointing(heat, mask) == 0
    assert pointing(heat, mask, tolerance=2.9) == 0
    assert pointing(heat, mask, tolerance=3) == 1
    heat[4, 5] = 1.0
    assert pointing(heat, mask) == 0.5  # two maxima, one hits
    with pytest.raises(OptionError, match="expected pixels, 0 or more"):
        pointing(heat, mask, tolerance=-1)


def test_a_constant_map_points_as_well_as_chance() -> None:
    assert pointing(np.ones((4, 8)), LEFT) == 0.5


def test_coverage_is_a_share_of_the_image() -> None:
    assert coverage(RAMP, 0.5) == pytest.approx(5 / 8)
    assert coverage(np.ones((4, 4))) == 1
    assert coverage(np.zeros((4, 4))) == 0
    assert math.isnan(coverage(np.full((4, 4), np.nan)))


@pytest.mark.parametrize("score", [iou, average_precision, pointing])
def test_what_cannot_be_judged_is_nan(score: object) -> None:
    assert callable(score)
    broken = RAMP.copy()
    broken[0, 0] = np.nan
    assert math.isnan(score(broken, LEFT))
    assert math.isnan(score(np.full((2, 4), np.nan), LEFT))
    assert math.isnan(score(RAMP, np.zeros((4, 8), dtype=bool)))


def test_a_zero_map_finds_nothing() -> None:
    zero = np.zeros((4, 8))
    assert iou(zero, LEFT) == 0
    assert pointing(zero, LEFT) == 0
    assert pointing(zero - 1, LEFT, tolerance=3) == 0


def test_miou_leaves_out_what_cannot_be_judged() -> None:
    empty = np.zeros((4, 8), dtype=bool)
    pairs = [(RAMP, LEFT), (RAMP, ~LEFT), (RAMP, empty), (np.full((4, 8), np.nan), LEFT)]
    assert miou(pairs, 0.5) == pytest.approx((16 / 20 + 4 / 32) / 2)
    assert math.isnan(miou([(RAMP, empty)]))
    assert math.isnan(miou([]))


def test_other_axes_are_refused() -> None:
    with pytest.raises(OptionError, match=r"shapes \(2, 4, 8\) and \(4, 8\); expected \(y, x\) for both"):
        iou(np.stack([RAMP, RAMP]), LEFT)
