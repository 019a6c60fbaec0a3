"""Every coalition: the Shapley value itself (Shapley 1953), and interactions of pairs (Grabisch and Roubens 1999)."""

from __future__ import annotations

import itertools
import math

import numpy as np

from sfumato.errors import OptionError
from sfumato.games.coalitions import MOST_LISTED, all_coalitions
from sfumato.games.estimators.planning import Estimate, Floats, Plan


def exact(players: int, budget: int, generator: np.random.Generator) -> Plan:
    """Plan all coalitions; draws nothing.

    Raises:
        OptionError: There are more coalitions than the budget allows.
    """
    count = 2**players
    if count > budget or players > MOST_LISTED:
        raise OptionError(
            f"exact needs all {count:,} coalitions of {players} players, and {budget:,} are allowed; "
            "choose the estimator 'kernel', which needs a few hundred, or raise the budget"
        )
    rows = all_coalitions(players)
    order = np.array([0, count - 1, *range(1, count - 1)])

    def fit(values: Floats) -> Estimate:
        worth = np.empty(count)
        worth[order] = values
        return Estimate(
            phi=shapley_values(worth, players),
            error=np.zeros(players),
            freedom=np.full(players, math.inf),
            empty=float(worth[0]),
            full=float(worth[-1]),
            interactions=interaction_index(worth, players),
        )

    return Plan("exact", rows[order], fit)


def shapley_values(worth: Floats, players: int) -> Floats:
    """Shapley values of a whole game: phi_i = sum over S without i of |S|! (d-1-|S|)! / d! (v(S + i) - v(S)).

    Args:
        worth: (coalition,) value of each coalition, in the order of ``coalitions.all_coalitions``.
        players: d.
    """
    numbers = np.arange(2**players)
    sizes = all_coalitions(players).sum(1)
    weight = np.array([1 / (players * math.comb(players - 1, size)) for size in range(players)])
    phi = np.empty(players)
    for player in range(players):
        without = numbers[numbers >> player & 1 == 0]
        phi[player] = weight[sizes[without]] @ (worth[without | 1 << player] - worth[without])
    return phi


def interaction_index(worth: Floats, players: int) -> Floats:
    """Shapley interaction index of every pair: what two players are worth together beyond what each adds alone.

    The mean over S without i and j, weighted by |S|! (d-2-|S|)! / (d-1)!, of v(S + i + j) - v(S + i) - v(S + j) + v(S).

    Args:
        worth: (coalition,) value of each coalition, in the order of ``coalitions.all_coalitions``.
        players: d.

    Returns:
        (player, player), symmetric, 0 on the diagonal.
    """
    numbers = np.arange(2**players)
    sizes = all_coalitions(players).sum(1)
    weight = np.array([1 / ((players - 1) * math.comb(players - 2, size)) for size in range(players - 1)])
    found = np.zeros((players, players))
    for one, other in itertools.combinations(range(players), 2):
        pair = 1 << one | 1 << other
        without = numbers[numbers & pair == 0]
        together = worth[without | pair] - worth[without | 1 << one] - worth[without | 1 << other] + worth[without]
        found[one, other] = found[other, one] = weight[sizes[without]] @ together
    return found
