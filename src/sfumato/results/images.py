"""The images of an explanation and their axis: the node ``image``, and nodes that one image needs no axis for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray


def image_node(pictures: Sequence[NDArray[Any]], seeds: Sequence[int]) -> xr.Dataset:
    """The node ``image``.

    Args:
        pictures: (y, x, channel) uint8 for each image, all of one size.
        seeds: Of each image.
    """
    return xr.Dataset(
        {"pixels": (("image", "y", "x", "channel"), np.stack(list(pictures)))},
        coords={
            "image": ("image", list(range(len(pictures)))),
            "seed": ("image", list(seeds)),
            "channel": ("channel", ["R", "G", "B"]),
        },
    )


def centres(count: int) -> NDArray[np.float64]:
    """The middles of so many cells of an axis, as shares of its length."""
    return (np.arange(count) + 0.5) / count


def single(node: xr.Dataset) -> xr.Dataset:
    """A node without its axis ``image`` where there is one image."""
    return node.isel(image=0) if node.sizes.get("image") == 1 else node
