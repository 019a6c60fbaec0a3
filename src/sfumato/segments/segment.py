"""One part of an image, and which of many are worth showing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.results.hard_maps import mask_iou

MOST = 10
SAME = 0.85
"""Intersection over union from which two segments are one."""


@dataclass(frozen=True)
class Segment:
    """One part of an image.

    Attributes:
        mask: (y, x) bool.
        quality: From 0 to 1, as whatever found it judges: SAM's predicted IoU, or how much the part stands out from
            what is around it.
    """

    mask: NDArray[np.bool_]
    quality: float

    @property
    def area(self) -> float:
        """Share of the image."""
        return float(self.mask.mean())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """First row, first column, one past the last row, one past the last column."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def ranked(segments: Iterable[Segment], most: int = MOST) -> list[Segment]:
    """The segments of largest size times quality, without empty ones and doubles, at most so many."""
    kept: list[Segment] = []
    for one in sorted((s for s in segments if s.mask.any()), key=lambda s: s.area * s.quality, reverse=True):
        if len(kept) == most:
            break
        if all(mask_iou(one.mask, other.mask) < SAME for other in kept):
            kept.append(one)
    return kept
