"""What the methods over words as players found: their names and rows, read from the tree."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

NODE = "word_importance"
UP_TO = 0.975
"""The quantile to either side of a 95% interval."""


def half_width(error: ArrayLike, freedom: ArrayLike) -> NDArray[np.float64]:
    """Half of a 95% interval, by Student's t: the error times the quantile of its degrees of freedom; NaN if unknown.

    Example:
        >>> half_width([1.0, 1.0], [4, np.inf]).round(2).tolist()
        [2.78, 1.96]
    """
    return np.asarray(np.asarray(error, np.float64) * stdtrit(np.asarray(freedom, np.float64), UP_TO))


def importance_methods(tree: xr.DataTree) -> list[str]:
    """The methods that say how much each word is worth, in the order of the tree."""
    return [name for name, node in tree.children.items() if NODE in node.children]


def importance_rows(tree: xr.DataTree, method: str, image: int = 0) -> list[dict[str, Any]]:
    """One row per word or phrase, in prompt order.

    Returns:
        ``image``, ``player``, ``phi``, ``share`` (None if the sum of the worths is 0 or less, or lies within its own
        95% interval of 0), and ``low`` and ``high``, the ends of the 95% interval from coalitions that were not seen
        (None if unknown, as with fewer than 5 draws).
    """
    node = tree[f"{method}/{NODE}"].to_dataset()
    one = node.isel(image=image) if "image" in node.dims else node
    freedom = one.get("freedom", math.inf)  # results of older versions do not have it
    rows = []
    for player, phi, share, half in zip(
        one["player"].values.tolist(),
        one["phi"].values.tolist(),
        one["share"].values.tolist(),
        half_width(one["error"], freedom).tolist(),
        strict=True,
    ):
        known = math.isfinite(half)
        rows.append(
            {
                "image": image,
                "player": player,
                "phi": phi,
                "share": share if math.isfinite(share) else None,
                "low": phi - half if known else None,
                "high": phi + half if known else None,
            }
        )
    return rows
