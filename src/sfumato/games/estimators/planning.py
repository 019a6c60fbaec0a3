"""What an estimator is: from players and a budget it plans coalitions, and from their values it estimates worths."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sfumato.games.coalitions import Coalitions

Floats = NDArray[np.float64]

LEAST_DRAWS = 5
"""Draws below which there is no standard error: the spread of so few says too little."""


@dataclass(frozen=True)
class Estimate:
    """What each player is worth.

    Attributes:
        phi: (player,) worth, in units of the value.
        error: (player,) standard error from the coalitions that were not seen: 0 if none was needed, NaN if unknown.
        freedom: (player,) degrees of freedom of the error, which say how wide an interval is (Student's t): infinite
            where nothing was drawn, NaN where the estimator has no error at all.
        empty: Value of the empty coalition.
        full: Value of the coalition of all players.
        r2: Share of the variance of the values that the sum of the worths of the members explains, weighted as the
            estimator weighs coalitions; NaN if it fits no such sum or the values do not vary.
        interactions: (player, player) Shapley interaction index of every pair, 0 on the diagonal; None unless all
            coalitions are known.
    """

    phi: Floats
    error: Floats
    freedom: Floats
    empty: float
    full: float
    r2: float = math.nan
    interactions: Floats | None = None


@dataclass(frozen=True)
class Plan:
    """Coalitions to evaluate, and what to make of their values.

    Attributes:
        estimator: Its name.
        coalitions: (coalition, player), all different; first the empty one, then that of all players.
        fit: Values (coalition,) to an estimate. It is linear in the values and knows no model.
    """

    estimator: str
    coalitions: Coalitions
    fit: Callable[[Floats], Estimate]


class Estimator(Protocol):
    """A way to plan: the number of coalitions is at most ``budget``, the empty and the full one included."""

    def __call__(self, players: int, budget: int, generator: np.random.Generator) -> Plan:
        """Plan for a number of players."""
        ...
