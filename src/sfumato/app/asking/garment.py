"""The example of the tab Reference: a garment and a figure to wear it, drawn here, so that the truth is known."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sfumato.inputs.image import Picture
from sfumato.request import Request
from sfumato.studio.garments import Pair, pair

SEED = 8
"""Of the pair that the documentation shows, too."""


@lru_cache(maxsize=1)
def example() -> Pair:
    """The pair."""
    return pair(SEED)


def truth(request: Request, x: int, y: int) -> tuple[float, float] | None:
    """Where on the example's reference a pixel of the painted image truly comes from, as shares of its sides (x, y).

    None for other pictures, and where the garment is not.
    """
    one = example()
    own = (Picture.of(one.reference), Picture.of(one.scene))
    if (request.reference, request.image) != own or not (0 <= y < one.source.shape[0] and 0 <= x < one.source.shape[1]):
        return None
    row, column = one.source[y, x].tolist()
    if not np.isfinite([row, column]).all():
        return None
    return column / one.reference.shape[1], row / one.reference.shape[0]
