"""Do shares of importance agree with a truth? Ranks aligned and RMSE (Gupta and Kanoria 2024)."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfumato.errors import OptionError
from sfumato.metrics.registry import metric

Variant = Literal["true", "paper"]


def ranks(shares: ArrayLike) -> NDArray[np.int64]:
    """The rank of each part, 1 for the largest; parts of equal share have the same, better rank.

    Example:
        >>> ranks([0.05, 0.45, 0.5]).tolist()
        [3, 2, 1]
    """
    values = np.asarray(shares, dtype=np.float64)
    found: NDArray[np.int64] = 1 + (values[None] > values[:, None]).sum(1)
    return found


@metric(
    "ranks aligned",
    compares="shares",
    better="higher",
    bounds=(0, 1),
    source="Gupta and Kanoria 2024",
    summary="The share of words whose rank is the true one.",
)
def ranks_aligned(truth: ArrayLike, found: ArrayLike) -> float:
    """The share of parts whose rank is the true one; NaN if a share is NaN.

    Example:
        >>> round(ranks_aligned([0.05, 0.45, 0.5], [0.13, 0.59, 0.28]), 4)
        0.3333
    """
    expected, given = _alike(truth, found)
    if np.isnan(expected).any() or np.isnan(given).any():
        return math.nan
    return float((ranks(expected) == ranks(given)).mean())


@metric(
    "RMSE",
    compares="shares",
    better="lower",
    bounds=(0, 1),
    source="Gupta and Kanoria 2024",
    summary="Root mean squared error of the shares of all words.",
)
def rmse(truth: ArrayLike, found: ArrayLike, variant: Variant = "true") -> float:
    """Root mean squared error between shares.

    Args:
        truth: (part,) shares.
        found: (part,) shares.
        variant: "true": over all parts. "paper": the length of the first three errors, without dividing, which is what
            the figures printed by Gupta and Kanoria 2024 turn out to be.

    Raises:
        OptionError: The shares do not belong together, or there is no such variant.

    Example:
        >>> shares = [0.05, 0.45, 0.5], [0.13, 0.59, 0.28]
        >>> round(rmse(*shares), 3), round(rmse(*shares, variant="paper"), 2)
        (0.157, 0.27)
    """
    if variant not in ("true", "paper"):
        raise OptionError(f"variant is {variant!r}; choose from: true, paper")
    expected, given = _alike(truth, found)
    squared = (expected - given) ** 2
    return float(np.sqrt(squared.mean())) if variant == "true" else float(np.sqrt(squared[:3].sum()))


metric(
    "RMSE (paper)",
    compares="shares",
    better="lower",
    bounds=(0, math.sqrt(2)),
    source="Gupta and Kanoria 2024, as its printed figures were computed",
    summary="The length of the errors of the first three words, without dividing; not comparable with RMSE.",
)(partial(rmse, variant="paper"))


def _alike(truth: ArrayLike, found: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    expected, given = np.asarray(truth, dtype=np.float64), np.asarray(found, dtype=np.float64)
    if expected.ndim != 1 or expected.shape != given.shape or not expected.size:
        raise OptionError(f"shares have the shapes {expected.shape} and {given.shape}; expected one of each per part")
    return expected, given
