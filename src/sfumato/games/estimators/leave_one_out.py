"""Leave one out: what is lost when a player alone is missing."""

from __future__ import annotations

import math

import numpy as np

from sfumato.errors import OptionError
from sfumato.games.estimators.planning import Estimate, Floats, Plan


def leave_one_out(players: int, budget: int, generator: np.random.Generator) -> Plan:
    """Plan the full coalition, the empty one and those that lack one player; draws nothing.

    Worths are v(all) - v(all but i). They do not sum to v(all) - v(none) unless the game is additive: two players who
    can stand in for each other both get nothing.
    """
    least = 2 if players == 1 else players + 2
    if budget < least:
        raise OptionError(f"leave-one-out needs {least} coalitions for {players} players; the budget is {budget}")
    rows = [np.zeros((1, players), bool), np.ones((1, players), bool)]
    coalitions = np.concatenate(rows + ([~np.eye(players, dtype=bool)] if players > 1 else []))

    def fit(values: Floats) -> Estimate:
        without = values[2:] if players > 1 else values[:1]
        known = np.full(players, math.inf)
        return Estimate(values[1] - without, np.zeros(players), known, float(values[0]), float(values[1]))

    return Plan("leave-one-out", coalitions, fit)
