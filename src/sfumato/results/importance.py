"""What the methods over words as players found: their names and rows, read from the tree."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfumato.results.explanation import Explanation

NODE = "word_importance"
Z = 1.96
"""Standard errors to either side of a 95% interval."""


def importance_methods(explanation: Explanation) -> list[str]:
    """The methods that say how much each word is worth, in the order of the tree."""
    return [name for name, node in explanation.tree.children.items() if NODE in node.children]


def importance_rows(explanation: Explanation, method: str, image: int = 0) -> list[dict[str, Any]]:
    """One row per word or phrase, in prompt order.

    Returns:
        ``image``, ``player``, ``phi``, ``share`` (None if the worths do not sum to more than 0), and ``low`` and
        ``high``, the ends of the 95% interval from coalitions that were not seen (None if unknown).
    """
    node = explanation.tree[f"{method}/{NODE}"].to_dataset()
    one = node.isel(image=image) if "image" in node.dims else node
    rows = []
    for player, phi, share, error in zip(
        one["player"].values.tolist(),
        one["phi"].values.tolist(),
        one["share"].values.tolist(),
        one["error"].values.tolist(),
        strict=True,
    ):
        known = math.isfinite(error)
        rows.append(
            {
                "image": image,
                "player": player,
                "phi": phi,
                "share": share if math.isfinite(share) else None,
                "low": phi - Z * error if known else None,
                "high": phi + Z * error if known else None,
            }
        )
    return rows
