"""How widely a map is spread: its effective area, which depends on neither its scale nor its sign."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def effective_area(maps: ArrayLike) -> NDArray[np.float64]:
    """The share of the image that maps effectively cover.

    The absolute map is brought to a sum of 1, and the exponential of its entropy is the number of pixels that it
    covers: n where the map is the same on n pixels and zero elsewhere. Of a gradient volume, whose maps belong to one
    pixel each, the mean over the mask's pixels does not grow with the number of these pixels.

    Args:
        maps: (..., y, x), any finite values.

    Returns:
        (...): from 1 / (height x width), a single pixel, to 1, the same everywhere; NaN for a map of zeros.

    Example:
        >>> float(effective_area([[5.0, 0.0], [-5.0, 0.0]]))
        0.5
    """
    values = np.abs(np.asarray(maps, np.float64))
    flat = values.reshape(*values.shape[:-2], -1)
    total = flat.sum(-1, keepdims=True)
    share = flat / np.where(total > 0, total, np.nan)
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(-1)
    return np.asarray(np.exp(entropy) / flat.shape[-1], np.float64)
