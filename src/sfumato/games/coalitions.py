"""Coalitions: which players take part, as rows of truth values (coalition, player)."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

Coalitions = NDArray[np.bool_]

MOST_LISTED = 20
"""Players up to which all coalitions fit into memory at once."""


def all_coalitions(players: int) -> Coalitions:
    """All 2^players coalitions, the number of a row being its players' bits: (coalition, player).

    Example:
        >>> all_coalitions(2).tolist()
        [[False, False], [True, False], [False, True], [True, True]]
    """
    rows = np.arange(2**players, dtype=np.int64)
    found: Coalitions = (rows[:, None] >> np.arange(players)) % 2 == 1
    return found


def numbers(coalitions: Coalitions) -> NDArray[np.int64]:
    """The row number in ``all_coalitions`` of each coalition."""
    bits = np.left_shift(1, np.arange(coalitions.shape[1], dtype=np.int64))
    found: NDArray[np.int64] = coalitions.astype(np.int64) @ bits
    return found


def of_size(players: int, size: int) -> Coalitions:
    """All coalitions of a size, in lexicographic order: (coalition, player)."""
    rows = np.zeros((math.comb(players, size), players), bool)
    for row, members in enumerate(itertools.combinations(range(players), size)):
        rows[row, list(members)] = True
    return rows


def coalition_name(coalition: NDArray[np.bool_], players: tuple[str, ...]) -> str:
    """A coalition in words, for messages.

    Example:
        >>> coalition_name(np.array([True, False]), ("red", "circle"))
        '{red}'
    """
    return "{" + ", ".join(name for name, kept in zip(players, coalition.tolist(), strict=True) if kept) + "}"
