"""Hard maps: where a map reaches a share of its maximum, how much of the image that is, and how far two agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfumato.errors import OptionError

TAU = 0.4  # DAAM's best threshold, relative to the map's maximum


def hard(heat: ArrayLike, tau: float = TAU) -> NDArray[np.bool_]:
    """The pixels where a map reaches ``tau`` times its maximum.

    Args:
        heat: (..., y, x), any real values; each map has its own maximum.
        tau: Threshold relative to the maximum, from 0 to 1.

    Returns:
        (..., y, x). Marks nothing where there is nothing to threshold: in a map without a positive value or with a NaN.

    Raises:
        OptionError: The threshold is no share.
    """
    if not 0 <= tau <= 1:
        raise OptionError(f"tau is {tau!r}; expected a share of the maximum, from 0 to 1")
    values = np.asarray(heat)
    if not values.size:
        return np.zeros(values.shape, dtype=bool)
    top = values.max((-2, -1), keepdims=True)
    marked: NDArray[np.bool_] = values >= tau * np.where(np.isfinite(top) & (top > 0), top, np.nan)
    return marked


def coverage(heat: ArrayLike, tau: float = TAU) -> float:
    """The share of the image where a map reaches ``tau`` times its maximum; NaN for a map with a NaN."""
    values = np.asarray(heat)
    return float("nan") if np.isnan(values).any() else float(hard(values, tau).mean())


def mask_iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks (y, x); 0 if both are empty.

    Example:
        >>> mask_iou(np.array([[True, True, False]]), np.array([[False, True, True]]))
        0.3333333333333333
    """
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 0.0
