"""Does a map point at the right place? IoU, average precision and the pointing game against a true mask.

A map on another grid than the mask is first upscaled to the mask's size, bicubic, so that every method is judged at
the resolution of the truth. What cannot be judged is NaN, never a number that looks like one: a map that holds a NaN,
and a mask that marks nothing. A map without a positive value marks nothing, so its IoU and its pointing are 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfumato.errors import OptionError
from sfumato.metrics.registry import metric
from sfumato.results.hard_maps import TAU, coverage, hard, mask_iou
from sfumato.results.upscale import bicubic

__all__ = ["average_precision", "box", "box_iou", "coverage", "fitted", "hard", "iou", "miou", "pointing"]


def fitted(heat: ArrayLike, mask: ArrayLike) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """A map and a mask of the same size: the mask as it is, the map upscaled to it.

    Args:
        heat: (y, x) on any grid.
        mask: (y, x), true where the object is.

    Raises:
        OptionError: One of them has other axes.
    """
    values, truth = np.asarray(heat), np.asarray(mask).astype(bool)
    if values.ndim != 2 or truth.ndim != 2:
        raise OptionError(f"map and mask have the shapes {values.shape} and {truth.shape}; expected (y, x) for both")
    if values.shape != truth.shape:
        height, width = truth.shape
        values = bicubic(values, (height, width))
    return values, truth


def iou(heat: ArrayLike, mask: ArrayLike, tau: float = TAU) -> float:
    """Intersection over union of a mask and the places where a map reaches ``tau`` times its maximum.

    Args:
        heat: (y, x) on any grid.
        mask: (y, x), true where the object is.
        tau: Threshold relative to the maximum, from 0 to 1.

    Returns:
        From 0 to 1; NaN for a map with a NaN or an empty mask.
    """
    values, truth = fitted(heat, mask)
    if _undefined(values, truth):
        return math.nan
    return mask_iou(hard(values, tau), truth)


def miou(pairs: Iterable[tuple[ArrayLike, ArrayLike]], tau: float = TAU) -> float:
    """The mean IoU over pairs of map and mask; pairs that cannot be judged are left out, NaN if none is left."""
    scores = [score for heat, mask in pairs if not math.isnan(score := iou(heat, mask, tau))]
    return float(np.mean(scores)) if scores else math.nan


TAUS = (0.3, 0.4, 0.5)
for _tau in TAUS:
    metric(
        f"mIoU@{_tau:g}",
        compares="map",
        better="higher",
        bounds=(0, 1),
        source="Tang et al. 2022",
        summary=f"Intersection over union of the mask and the pixels from {_tau:g} of the map's maximum on.",
    )(partial(iou, tau=_tau))


@metric(
    "AP",
    compares="map",
    better="higher",
    bounds=(0, 1),
    source="Everingham et al. 2010",
    summary="Area under precision over recall, each pixel ranked by the map.",
)
def average_precision(heat: ArrayLike, mask: ArrayLike) -> float:
    """The area under the steps of precision over recall, each pixel ranked by the map: no threshold to choose.

    Equal values count as one step, as in scikit-learn's ``average_precision_score``; a constant map thus scores the
    mask's share of the image.

    Args:
        heat: (y, x) on any grid.
        mask: (y, x), true where the object is.

    Returns:
        From 0 to 1; NaN for a map with a NaN or an empty mask.
    """
    values, truth = fitted(heat, mask)
    if _undefined(values, truth):
        return math.nan
    order = np.argsort(-values, axis=None, kind="stable")
    ranked = values.ravel()[order]
    step_ends = np.append(np.flatnonzero(np.diff(ranked)), ranked.size - 1)
    hits = np.cumsum(truth.ravel()[order])[step_ends]
    precision = hits / (step_ends + 1)
    recall = hits / hits[-1]
    return float((np.diff(recall, prepend=0) * precision).sum())


@metric(
    "pointing",
    compares="map",
    better="higher",
    bounds=(0, 1),
    source="Zhang et al. 2018",
    summary="The pointing game: whether the map's maximum lies inside the mask.",
)
def pointing(heat: ArrayLike, mask: ArrayLike, tolerance: float = 0) -> float:
    """The pointing game: does the map's maximum lie inside the mask?

    Args:
        heat: (y, x) on any grid.
        mask: (y, x), true where the object is.
        tolerance: How many pixels of the mask's grid beside the mask still count as inside.

    Returns:
        1 or 0; where several pixels share the maximum, the share of them that hit. 0 for a map without a positive
        value, NaN for a map with a NaN or an empty mask.
    """
    if tolerance < 0:
        raise OptionError(f"tolerance is {tolerance!r}; expected pixels, 0 or more")
    values, truth = fitted(heat, mask)
    if _undefined(values, truth):
        return math.nan
    if values.max() <= 0:
        return 0.0
    if tolerance:
        from skimage.morphology import isotropic_dilation

        truth = isotropic_dilation(truth, tolerance)
    return float(truth[values == values.max()].mean())


def box(found: NDArray[np.bool_]) -> list[int]:
    """The box around what is true: left, upper, right, lower in pixels, the latter two excluded; [] for nothing."""
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    if not len(rows):
        return []
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def box_iou(one: Sequence[int], other: Sequence[int]) -> float:
    """Intersection over union of two boxes; 0 where one is missing."""
    if not one or not other:
        return 0.0
    across = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    down = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return across * down / (sum(areas) - across * down)


def _undefined(values: NDArray[Any], truth: NDArray[np.bool_]) -> bool:
    return bool(np.isnan(values).any()) or not truth.any()
