"""The node of a saliency: maps at steps, with the pictures that the steps recover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sfumato.results.images import centres
from sfumato.results.meaning import Meaning
from sfumato.saliency.recovering import Recovery

NODES = "saliency"
"""The parent of all such nodes; a node is called after its method or baseline."""


def saliency_node(
    recoveries: Sequence[Recovery],
    maps: Sequence[NDArray[Any]],
    more: Mapping[str, tuple[tuple[str, ...], Any]] | None = None,
    **attrs: Any,
) -> xr.Dataset:
    """Maps of one way of finding saliency.

    Args:
        recoveries: The steps, in order.
        maps: A map (y, x) for each, larger where a place matters more.
        more: Further variables, each with its dimensions.
        attrs: What a reader should know: "method" at least.

    Returns:
        ``map`` (step, y, x) as the method made it; ``picture`` (step, row, column, rgb), what the step recovers.
    """
    stacked = np.stack(list(maps)).astype(np.float32)
    height, width = stacked.shape[1:]
    return xr.Dataset(
        {
            "map": (("step", "y", "x"), stacked, Meaning("map").attrs),
            "picture": (("step", "row", "column", "rgb"), np.stack([one.picture for one in recoveries])),
            **(more or {}),
        },
        coords={
            "step": ("step", [one.step for one in recoveries]),
            "timestep": ("step", [one.timestep for one in recoveries]),
            "y": ("y", centres(height)),
            "x": ("x", centres(width)),
        },
        attrs=attrs,
    )
