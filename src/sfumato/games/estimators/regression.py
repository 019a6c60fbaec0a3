"""Shapley values as a weighted regression (Lundberg and Lee 2017, arXiv 1705.07874), on sampled coalitions.

The Shapley value is the additive game that fits v best when a coalition of size s weighs 1 / (C(d, s) s (d - s)) and
the empty and full coalitions are met exactly. Coalitions are drawn with their complements (Covert and Lee 2021, arXiv
2012.01536), without replacement, size by size, and weighted by the inverse of their chance to be drawn. Kernel and
Leverage SHAP (Musco and Witter 2024, arXiv 2410.01917) differ only in how often each size is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import OptionError
from sfumato.games.coalitions import Coalitions, of_size
from sfumato.games.estimators.exact import exact
from sfumato.games.estimators.planning import LEAST_DRAWS, Estimate, Floats, Plan

MOST_DRAWS = 1000
LEAST_LEFT = 1e-3
"""Least share of a pair's value that is held against the fit."""
MOST_LISTED = 100_000
"""Coalitions of one size up to which they are listed and chosen from; beyond, they are drawn one by one."""


def kernel(players: int, budget: int, generator: np.random.Generator) -> Plan:
    """Plan coalitions with sizes as often as they weigh: Kernel SHAP, paired."""
    return _regression("kernel", players, budget, generator, lambda size: 1 / (size * (players - size)))


def leverage(players: int, budget: int, generator: np.random.Generator) -> Plan:
    """Plan coalitions with every size equally often, which is by their leverage scores 1 / C(d, s): Leverage SHAP."""
    return _regression("leverage", players, budget, generator, lambda size: 1.0)


def _regression(
    name: str, players: int, budget: int, generator: np.random.Generator, often: Callable[[int], float]
) -> Plan:
    if budget >= 2**players:
        return exact(players, budget, generator)
    least = 2 * players
    if budget < least:
        raise OptionError(f"{name} needs at least {least} coalitions for {players} players; the budget is {budget}")
    sizes = np.arange(1, players // 2 + 1)
    # A class holds the pairs of a coalition of a size up to half of the players and its complement.
    halves = np.array([2 if 2 * size == players else 1 for size in sizes])
    pairs = np.array([float(math.comb(players, size)) for size in sizes.tolist()]) / halves
    shares = np.array([often(size) for size in sizes.tolist()]) / halves
    expected = allocated(shares, pairs, (budget - 2) // 2)
    for _ in range(MOST_DRAWS):
        counts = rounded(expected, generator)
        drawn = [
            _drawn(players, size, count, generator) for size, count in zip(sizes.tolist(), counts.tolist(), strict=True)
        ]
        half = np.concatenate(drawn)  # (pair, player)
        if np.linalg.matrix_rank(half - half.mean(1, keepdims=True)) == players - 1:
            break  # otherwise the pairs do not tell all players apart, as {a}, {b} and {a, b} of four do not
    else:
        raise OptionError(f"{budget} coalitions do not tell {players} players apart; raise the budget")
    chance = np.repeat(expected / pairs, counts)  # (pair,) of being drawn
    weight = np.repeat(1 / (pairs * halves * sizes * (players - sizes)), counts) / chance
    coalitions = np.concatenate([np.zeros((1, players), bool), np.ones((1, players), bool), half, ~half])

    def fit(values: Floats) -> Estimate:
        return fitted_values(half, values, weight, chance)

    return Plan(name, coalitions, fit)


def allocated(shares: Floats, room: Floats, total: int) -> Floats:
    """Divide a total by shares, no class getting more than it has room for.

    Example:
        >>> allocated(np.array([1.0, 1.0]), np.array([2.0, 10.0]), 6).tolist()
        [2.0, 4.0]
    """
    given = np.zeros(len(shares))
    full = np.zeros(len(shares), bool)
    while True:
        left = total - room[full].sum()
        given = np.where(full, room, 0.0)
        if not full.all():
            given[~full] = left * shares[~full] / shares[~full].sum()
        over = given > room
        if not over.any():
            return given
        full |= over


def rounded(expected: Floats, generator: np.random.Generator) -> NDArray[np.int64]:
    """Round up or down at random, so that each count is right on average and their sum stays (systematic sampling)."""
    ends = np.concatenate([[0.0], np.cumsum(expected)])
    ends = np.where(np.isclose(ends, np.round(ends)), np.round(ends), ends)
    found: NDArray[np.int64] = np.diff(np.floor(ends + generator.random())).astype(np.int64)
    return found


def fitted_values(half: Coalitions, values: Floats, weight: Floats, chance: Floats) -> Estimate:
    """Fit worths that sum to v(all) - v(none) to pairs of complementary coalitions.

    Args:
        half: (pair, player) one coalition of each pair.
        values: (coalition,) of the empty and the full coalition, then of each pair's first, then of its second half.
        weight: (pair,) of either coalition.
        chance: (pair,) of having been drawn; where it is 1, nothing was left to chance and there is no error.
    """
    count, players = half.shape
    empty, full = float(values[0]), float(values[1])
    # Worths = an equal share each + what sums to zero, so the constraint leaves an ordinary regression.
    basis = np.linalg.qr(np.eye(players) - 1 / players)[0][:, : players - 1]  # (player, free)
    rows = np.concatenate([half, ~half]).astype(np.float64)
    both = np.concatenate([weight, weight])
    target = values[2:] - empty - rows.sum(1) * (full - empty) / players
    design = rows @ basis
    scaled = np.sqrt(both)[:, None] * design
    free = np.linalg.lstsq(scaled, np.sqrt(both) * target, rcond=None)[0]
    phi = (full - empty) / players + basis @ free
    residual = target - design @ free
    # A coalition and its complement have opposite rows, so a pair is one observation: half the difference of the two.
    inverse = np.linalg.pinv(scaled.T @ scaled)
    reach = 2 * weight[:, None] * (design[:count] @ inverse)  # (pair, free)
    seen = (reach * design[:count]).sum(1)  # (pair,) by how much a pair's own value pulls the fit towards itself
    half_way = (residual[:count] - residual[count:]) / 2 / np.sqrt(np.clip(1 - seen, LEAST_LEFT, 1))
    left = basis @ reach.T * np.sqrt(np.clip(1 - chance, 0, 1))  # (player, pair)
    error = np.sqrt((left**2) @ (half_way**2))
    freedom = _freedom(left, count, players)
    error[freedom < LEAST_DRAWS - 1] = math.nan
    return Estimate(phi, error, freedom, empty, full, r2=weighted_r2(values[2:], rows @ phi + empty, both))


def _freedom(left: Floats, count: int, players: int) -> Floats:
    """Degrees of freedom of each player's error (Satterthwaite): few where few of the drawn pairs weigh much."""
    squares = left**2
    total, most = squares.sum(1), (squares**2).sum(1)
    alone = np.divide(total**2, most, out=np.full(len(left), math.inf), where=most > 0)
    return np.asarray(alone * (count - players + 1) / count)


def weighted_r2(values: Floats, fit: Floats, weight: Floats) -> float:
    """Weighted R^2; NaN if the values do not vary beyond rounding."""
    if np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())):
        return math.nan
    total = weight @ (values - np.average(values, weights=weight)) ** 2
    return float(1 - weight @ (values - fit) ** 2 / total)


def _drawn(players: int, size: int, count: int, generator: np.random.Generator) -> Coalitions:
    """Different coalitions of a size, of which none is another's complement: (coalition, player)."""
    halved = 2 * size == players
    if math.comb(players, size) <= MOST_LISTED:
        rows = of_size(players, size)
        rows = rows[rows[:, 0]] if halved else rows  # the first player is in one of two complements
        return rows[generator.choice(len(rows), count, replace=False)]
    found: dict[bytes, NDArray[np.bool_]] = {}
    while len(found) < count:
        row = np.zeros(players, bool)
        row[generator.choice(players, size, replace=False)] = True
        row = ~row if halved and not row[0] else row
        found[row.tobytes()] = row
    return np.array(list(found.values()), dtype=bool).reshape(count, players)
