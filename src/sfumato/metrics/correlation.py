"""Spearman's rank correlation: of two arrays, and of every pair of many maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfumato.metrics.registry import metric


@metric(
    "rank correlation",
    compares="shares",
    better="higher",
    bounds=(-1, 1),
    source="Spearman 1904",
    summary="Spearman's rank correlation of the shares of all words.",
)
def rank_correlation(one: ArrayLike, other: ArrayLike) -> float:
    """Spearman's rank correlation of two arrays of one size; NaN for fewer than two values, or all equal."""
    from scipy.stats import rankdata  # not before it is needed: scipy.stats takes long to load

    first, second = np.ravel(one), np.ravel(other)
    if len(first) < 2 or not np.ptp(first) or not np.ptp(second):
        return float("nan")
    # as scipy.stats.spearmanr, without the test of significance, which takes most of its time
    return float(np.corrcoef(rankdata(first), rankdata(second))[1, 0])


def pairwise_rank_correlation(
    ones: Sequence[NDArray[np.float64]], others: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Spearman's rank correlation of every map (y, x) with every other one: (one, other).

    NaN for a map without order, and for two on different grids. Every map is ranked once, however many there are.
    """
    first, second = [_unit_ranks(one) for one in ones], [_unit_ranks(other) for other in others]
    found = np.full((len(ones), len(others)), np.nan)
    for shape in {one.shape for one in ones}:
        rows, columns = ([n for n, map_ in enumerate(maps) if map_.shape == shape] for maps in (ones, others))
        if columns:
            table = np.stack([first[n] for n in rows]) @ np.stack([second[n] for n in columns]).T
            found[np.ix_(rows, columns)] = table
    return found


def _unit_ranks(heat: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ranks of a map's values, their sum 0 and the sum of their squares 1; NaN where all are the same."""
    from scipy.stats import rankdata

    ranks = rankdata(heat.ravel())
    ranks -= ranks.mean()
    size = float(np.linalg.norm(ranks))
    return np.asarray(ranks / size if size else np.full(ranks.shape, np.nan), np.float64)
