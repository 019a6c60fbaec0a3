"""IMACS: does a map lie inside a mask, and not beside it? Defined by I2AM (Park and Jang 2024)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from sfumato.errors import OptionError
from sfumato.metrics.localisation import fitted
from sfumato.metrics.registry import metric

LAMBDA = 3.0
THRESHOLD = 0.4


@metric(
    "IMACS",
    compares="map",
    better="higher",
    bounds=(-LAMBDA, 1),
    source="Park and Jang 2024",
    summary=f"Mean of the map inside the mask less {LAMBDA:g} times that outside; values up to {THRESHOLD} count as 0.",
)
def imacs(heat: ArrayLike, mask: ArrayLike, *, penalty: float = LAMBDA, threshold: float = THRESHOLD) -> float:
    """The mean of a map inside a mask less its mean outside, times a penalty.

    The map is first brought to 0 to 1, and values up to the threshold set to 0.

    Args:
        heat: (y, x) on any grid.
        mask: (y, x), true inside.
        penalty: Lambda of the source.
        threshold: Of the source; from 0 to 1, 1 excluded.

    Returns:
        From minus the penalty (the mask's complement) to 1 (the mask itself); higher is better. NaN for a map with a
        NaN, or a mask that marks nothing or everything.

    Raises:
        OptionError: The threshold is no share, or an array has other axes.
    """
    if not 0 <= threshold < 1:
        raise OptionError(f"threshold is {threshold}; expected a share from 0 to 1, 1 excluded")
    values, inside = fitted(np.asarray(heat, np.float64), mask)
    if np.isnan(values).any() or not inside.any() or inside.all():
        return math.nan
    spread = np.ptp(values)
    scaled = (values - values.min()) / spread if spread > 0 else np.zeros(values.shape)
    scaled = np.where(scaled > threshold, scaled, 0.0)
    return float(scaled[inside].mean() - penalty * scaled[~inside].mean())
