"""What the methods over words as players found: their names and rows, read from the tree."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from sfumato.results.meaning import IMAGE, Declared, Role, declared

UP_TO = 0.975
"""The quantile to either side of a 95% interval."""


def half_width(error: ArrayLike, freedom: ArrayLike) -> NDArray[np.float64]:
    """Half of a 95% interval, by Student's t: the error times the quantile of its degrees of freedom; NaN if unknown.

    Example:
        >>> half_width([1.0, 1.0], [4, np.inf]).round(2).tolist()
        [2.78, 1.96]
    """
    return np.asarray(np.asarray(error, np.float64) * stdtrit(np.asarray(freedom, np.float64), UP_TO))


def importances(tree: xr.DataTree) -> dict[str, Declared]:
    """What says how much each word or other player is worth, by the name of its method, in the order of the tree.

    The name is that of the outermost node, or the whole path where this holds several.
    """
    found = declared(tree, "importance")
    outermost = Counter(one.path.partition("/")[0] for one in found)
    return {top if outermost[top := one.path.partition("/")[0]] == 1 else one.path: one for one in found}


def importance_methods(tree: xr.DataTree) -> list[str]:
    """The methods that say how much each word is worth, in the order of the tree."""
    return list(importances(tree))


def importance_rows(tree: xr.DataTree, method: str, image: int = 0) -> list[dict[str, Any]]:
    """One row per word or phrase of a method, in prompt order; see ``rows_of``."""
    return rows_of(importances(tree)[method], image)


def rows_of(found: Declared, image: int = 0) -> list[dict[str, Any]]:
    """One row per player of an importance, such as a word, in its order.

    Returns:
        ``image``, ``player``, ``phi``, ``share`` (None if the sum of the worths is 0 or less, or lies within its own
        95% interval of 0), and ``low`` and ``high``, the ends of the 95% interval from coalitions that were not seen
        (None if unknown, as with fewer than 5 draws).
    """
    worths = found.array.isel({IMAGE: image}, missing_dims="ignore")
    phi = worths.values.astype(np.float64)

    def beside(role: Role, otherwise: ArrayLike) -> NDArray[np.float64]:
        array = found.beside(role)
        values = otherwise if array is None else array.isel({IMAGE: image}, missing_dims="ignore").values
        return np.broadcast_to(np.asarray(values, np.float64), phi.shape)

    total = phi.sum()
    shares = beside("share", phi / total if total > 0 else np.nan)
    halves = half_width(beside("error", np.nan), beside("freedom", np.inf))  # older versions did not have the latter
    rows = []
    for player, value, share, half in zip(
        worths[found.player].values.tolist(), worths.values.tolist(), shares.tolist(), halves.tolist(), strict=True
    ):
        known = math.isfinite(half)
        rows.append(
            {
                "image": image,
                "player": str(player),
                "phi": value,
                "share": share if math.isfinite(share) else None,
                "low": value - half if known else None,
                "high": value + half if known else None,
            }
        )
    return rows
