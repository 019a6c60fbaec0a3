"""Spearman's rank correlation: against SciPy, on ties, and of many maps at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.stats import spearmanr

from sfumato.metrics import rank_correlation
from sfumato.metrics.correlation import pairwise_rank_correlation
from tests.judging.made_up import GRID, pattern

LEVELS = arrays(np.float64, 12, elements=st.sampled_from([-1.0, 0.0, 0.25, 0.5, 2.0]))  # many ties


@given(LEVELS, LEVELS)
def test_it_is_that_of_scipy(one: NDArray[np.float64], other: NDArray[np.float64]) -> None:
    found = rank_correlation(one, other)
    if np.ptp(one) and np.ptp(other):
        assert found == spearmanr(one, other).statistic
    else:
        assert math.isnan(found)


def test_only_the_order_counts() -> None:
    values = np.array([0.1, 0.4, 0.2, 0.9])
    assert rank_correlation(values, np.exp(values)) == pytest.approx(1)
    assert rank_correlation(values, -values) == pytest.approx(-1)
    assert math.isnan(rank_correlation([1.0], [2.0]))
    assert math.isnan(rank_correlation([1.0, math.nan], [1.0, 2.0]))


def test_a_table_of_rank_correlations() -> None:
    ones = [pattern(0), pattern(1), np.ones(GRID), pattern(2, (3, 4)), np.round(3 * pattern(3))]
    others = [pattern(1), pattern(4, (3, 4)), np.round(2 * pattern(5)), pattern(6, (12, 8)), np.zeros(GRID)]
    table = pairwise_rank_correlation(ones, others)
    assert table.shape == (5, 5)
    for row, one in enumerate(ones):
        for column, other in enumerate(others):
            if one.shape == other.shape:  # others cannot be compared
                expected = rank_correlation(one, other)
                np.testing.assert_allclose(table[row, column], expected, atol=1e-12)
            else:
                assert math.isnan(table[row, column])
    assert table[1, 0] == pytest.approx(1)
    assert np.isnan(table[2]).all()
    assert np.isnan(table[:, 4]).all()
    assert np.isnan(pairwise_rank_correlation([np.ones((1, 1))], [np.ones((1, 1))])).all()
