"""Which generated place looked at which patch of the reference: questions that an explanation answers without a model.

The node ``pairs`` holds, for every grid, ``rows`` (layer, y, x, token), the softmax over tokens, and ``columns``, the
softmax over generated places (I2AM, Park and Jang 2024); ``calls`` says how many calls each group of steps had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sfumato.errors import OptionError
from sfumato.results.upscale import bicubic, resized

NODE = "pairs"
Floats = NDArray[np.float64]


def seen_from(grids: Iterable[xr.Dataset], place: tuple[float, float]) -> Floats:
    """What a generated place looked at: the mean over layers of its row (token,).

    Args:
        grids: Of the node ``pairs``.
        place: (y, x) as shares of the image's height and width, each from 0 to 1, 1 excluded.

    Raises:
        OptionError: The place lies outside.
    """
    return _mean(grids, "rows", lambda rows: rows[:, *_cell(rows.shape[1:3], place)])


def seen_from_part(grids: Iterable[xr.Dataset], inside: NDArray[np.bool_]) -> Floats:
    """What a part of the image looked at: the mean of the rows of its places, over layers (token,).

    Args:
        grids: Of the node ``pairs``.
        inside: (y, x) of the image.
    """

    def mean(rows: Floats) -> Floats:
        shares = resized(inside, (rows.shape[1], rows.shape[2]))
        return np.asarray(np.einsum("lyxt,yx->lt", rows, shares) / shares.sum())

    return _mean(grids, "rows", mean)


def looking_at(grids: Iterable[xr.Dataset], token: int, size: tuple[int, int]) -> Floats:
    """Which generated places looked at a token: the mean over layers of its column, on a common grid (y, x).

    In multiples of an even share; see `in_shares`.
    """
    return _mean(grids, "columns", lambda columns: in_shares(columns[..., token], size))


def in_shares(maps: Floats, size: tuple[int, int]) -> Floats:
    """A layer's softmax over its generated places, in multiples of an even share, on a common grid (..., y, x).

    Such a softmax sums to 1, so its values are larger where there are fewer places. In multiples of an even share its
    mean is 1 on every grid, and a mean over layers gives all of them equal weight.
    """
    places = maps.shape[-2] * maps.shape[-1]
    return np.asarray(np.clip(bicubic(places * maps, size), 0, None))


def _mean(grids: Iterable[xr.Dataset], name: str, of: Callable[[Floats], Floats]) -> Floats:
    """The mean over the layers of all grids; other axes that were kept are averaged first."""
    found = []
    for grid in grids:
        kept = grid[name].astype(np.float64)
        if "group" in kept.dims:
            kept = kept.weighted(grid["calls"]).mean("group")
        if "head" in kept.dims:
            kept = kept.mean("head")
        found.append(of(kept.transpose("layer", "y", "x", "token").values))
    return np.asarray(np.concatenate(found).mean(0))


def _cell(grid: tuple[int, ...], place: tuple[float, float]) -> tuple[int, int]:
    if not all(0 <= one < 1 for one in place):
        raise OptionError(f"the place {place} lies outside the image; give shares of its height and width, 0 to 1")
    return int(place[0] * grid[0]), int(place[1] * grid[1])
