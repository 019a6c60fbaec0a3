"""Permutations: players join one after another, and each is credited with what it adds.

Random orders are the Monte Carlo estimate of Castro et al. 2009; an order together with its reverse is the antithetic
one of Mitchell et al. 2022 (arXiv 2104.12199), whose error is lower for the same number of coalitions. The first
order that does not fit into what is left of the budget ends the draw: to pass over it and try others would favour
orders whose coalitions are known already, and the standard error would say too little.
"""

from __future__ import annotations

import math

import numpy as np

from sfumato.errors import OptionError
from sfumato.games.estimators.exact import exact
from sfumato.games.estimators.planning import LEAST_DRAWS, Estimate, Floats, Plan

FROM_ALL = 4
"""So many degrees of freedom of a player's spread come from that of all players."""


def monte_carlo(players: int, budget: int, generator: np.random.Generator) -> Plan:
    """Plan random orders, one after another."""
    return _orders("monte-carlo", players, budget, generator, reverse=False)


def permutation(players: int, budget: int, generator: np.random.Generator) -> Plan:
    """Plan random orders, each with its reverse."""
    return _orders("permutation", players, budget, generator, reverse=True)


def _orders(name: str, players: int, budget: int, generator: np.random.Generator, *, reverse: bool) -> Plan:
    if budget >= 2**players:
        return exact(players, budget, generator)
    least = 2 + (players - 1) * (2 if reverse else 1)
    if budget < least:
        raise OptionError(f"{name} needs at least {least} coalitions for {players} players; the budget is {budget}")
    rows = [np.zeros(players, bool), np.ones(players, bool)]
    place = {row.tobytes(): number for number, row in enumerate(rows)}
    groups: list[
        list[tuple[list[int], list[int]]]
    ] = []  # per draw, per order: the order and the places of its prefixes
    while len(rows) < budget:
        order = generator.permutation(players)
        drawn = [order, order[::-1]] if reverse else [order]
        prefixes = [np.tril(np.ones((players + 1, players), bool), -1)[:, np.argsort(one)] for one in drawn]
        new = {row.tobytes(): row for row in np.concatenate(prefixes) if row.tobytes() not in place}
        if len(rows) + len(new) > budget:
            break
        for key, row in new.items():
            place[key] = len(rows)
            rows.append(row)
        groups.append(
            [(one.tolist(), [place[row.tobytes()] for row in part]) for one, part in zip(drawn, prefixes, strict=True)]
        )

    def fit(values: Floats) -> Estimate:
        worths = np.zeros((len(groups), players))
        for number, group in enumerate(groups):
            for order, places in group:
                worths[number, order] += np.diff(values[places]) / len(group)
        error, freedom = _error(worths)
        return Estimate(worths.mean(0), error, freedom, float(values[0]), float(values[1]))

    return Plan(name, np.array(rows), fit)


def _error(worths: Floats) -> tuple[Floats, Floats]:
    """Standard error of each player's mean over draws (draw, player), and its degrees of freedom.

    A few orders may all miss the rare place in which a player adds much, and their own spread is then far too small.
    So it is moderated by that of all players, as in Smyth 2004 (doi 10.2202/1544-6115.1027).
    """
    draws, players = worths.shape
    if draws < LEAST_DRAWS:
        return np.full(players, math.nan), np.full(players, float(max(draws - 1, 0)))
    own = worths.var(0, ddof=1)
    freedom = draws - 1 + FROM_ALL
    spread = ((draws - 1) * own + FROM_ALL * own.mean()) / freedom
    return np.sqrt(spread / draws), np.full(players, float(freedom))
