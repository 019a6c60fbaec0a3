"""How far two word maps cover the same places: mIoD, mIoH and IoU of a word and its head (Tang et al. 2023)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sfumato.errors import OptionError
from sfumato.results.hard_maps import TAU, hard, mask_iou


class Overlap(NamedTuple):
    """Of the hard maps D of a dependent and H of its head.

    Attributes:
        iod: |D and H| / |D|: how much of the dependent lies within the head.
        ioh: |D and H| / |H|: how much of the head lies within the dependent.
        iou: |D and H| / |D or H|.
    """

    iod: float
    ioh: float
    iou: float


def overlap(dependent: ArrayLike, head: ArrayLike, tau: float = TAU) -> Overlap:
    """The overlap of two maps, each thresholded at ``tau`` times its own maximum.

    The first two have one numerator, so ``iod > ioh`` says just that the head's hard map is the larger one.

    Args:
        dependent: (y, x).
        head: (y, x), on the same grid.
        tau: Threshold relative to the maximum, from 0 to 1.

    Returns:
        NaN where a map marks nothing or holds a NaN.

    Raises:
        OptionError: The grids differ.
    """
    first, second = np.asarray(dependent), np.asarray(head)
    if first.shape != second.shape:
        raise OptionError(f"maps of one grid overlap; got {first.shape} and {second.shape}")
    one, other = hard(first, tau), hard(second, tau)
    if not one.any() or not other.any():
        return Overlap(math.nan, math.nan, math.nan)
    both = float((one & other).sum())
    return Overlap(both / float(one.sum()), both / float(other.sum()), mask_iou(one, other))
