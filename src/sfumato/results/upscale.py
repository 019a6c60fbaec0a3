"""Maps and masks on other grids without torch.

Maps are upscaled bicubic, equal to ``torch.nn.functional.interpolate``; a mask gives each cell the share it covers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfumato.errors import OptionError

A = -0.75  # the cubic's free parameter, as PyTorch and OpenCV have it (Pillow has -0.5)


@lru_cache(maxsize=64)
def bicubic_matrix(n_in: int, n_out: int) -> NDArray[np.float64]:
    """The matrix that resamples one axis: cell centres aligned as with ``align_corners=False``, edges repeated.

    Args:
        n_in: Length of the axis as it is.
        n_out: Length wanted. Shorter is allowed; nothing is smoothed first (no antialiasing), as in PyTorch.

    Returns:
        A read-only float64 array (n_out, n_in); every row sums to one and holds at most four weights.

    Raises:
        OptionError: A length is below 1.

    Example:
        >>> bicubic_matrix(2, 2)
        array([[1., 0.],
               [0., 1.]])
    """
    if n_in < 1 or n_out < 1:
        raise OptionError(f"cannot resample {n_in} cells to {n_out}; both must be at least 1")
    centre = (np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5
    left = np.floor(centre)
    matrix = np.zeros((n_out, n_in))
    for tap in range(-1, 3):
        cell = np.clip(left + tap, 0, n_in - 1).astype(np.intp)
        np.add.at(matrix, (np.arange(n_out), cell), _cubic(np.abs(centre - left - tap)))
    matrix.setflags(write=False)
    return matrix


def bicubic(maps: ArrayLike, size: tuple[int, int]) -> NDArray[Any]:
    """Resample maps to another height and width.

    Args:
        maps: (..., y, x), any number of leading axes.
        size: (height, width) wanted.

    Returns:
        (..., height, width) in the input's floating type (whole numbers become float64), computed in float64.
        A NaN anywhere in a map spreads over all of it: half a map is no map.

    Raises:
        OptionError: There are fewer than two axes, or the size is empty.
    """
    given = np.asarray(maps)
    if given.ndim < 2:
        raise OptionError(f"maps has shape {given.shape}; expected (..., y, x)")
    kind = given.dtype if np.issubdtype(given.dtype, np.floating) else np.dtype(np.float64)
    height, width = given.shape[-2:]
    rows, columns = bicubic_matrix(height, size[0]), bicubic_matrix(width, size[1])
    with np.errstate(invalid="ignore"):  # infinity times a weight of zero
        resampled = rows @ given.astype(np.float64) @ columns.T  # (..., height, width)
    return resampled.astype(kind, copy=False)


def resized(mask: ArrayLike, shape: tuple[int, int]) -> NDArray[np.float64]:
    """A mask (y, x) brought to another grid, from 0 to 1: means over blocks where it shrinks, else bilinear."""
    from PIL import Image

    values = np.asarray(mask, np.float32)
    smaller = shape[0] <= values.shape[0] and shape[1] <= values.shape[1]
    how = Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(values).resize((shape[1], shape[0]), how), np.float64).clip(0, 1)


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' kernel (1981) at a distance in cells."""
    near = ((A + 2) * distance - (A + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * A - 4 * A
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
