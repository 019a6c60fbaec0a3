"""The estimators, each under its name, with one call signature: players, budget and a source of random numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sfumato.errors import OptionError
from sfumato.games.estimators.exact import exact
from sfumato.games.estimators.leave_one_out import leave_one_out
from sfumato.games.estimators.permutations import monte_carlo, permutation
from sfumato.games.estimators.planning import Estimator, Plan
from sfumato.games.estimators.regression import kernel, leverage
from sfumato.games.estimators.surrogate import lime

ESTIMATORS: Mapping[str, Estimator] = {
    "exact": exact,
    "permutation": permutation,
    "monte-carlo": monte_carlo,
    "kernel": kernel,
    "leverage": leverage,
    "lime": lime,
    "leave-one-out": leave_one_out,
}

EXACT_UP_TO = 6
"""Players up to which all coalitions are evaluated by default."""

EXACT_WHEN_ASKED = 10
"""Players up to which all coalitions are evaluated where ``exact`` is asked for without a budget."""

PER_PLAYER = 9
"""Coalitions for each player that are evaluated by default where there are more players."""


def default_estimator(players: int) -> tuple[str, int]:
    """The estimator and the budget that suit a number of players; docs/benchmarks.md says by what measurement."""
    if players <= EXACT_UP_TO:
        return "exact", 2**players
    return "kernel", PER_PLAYER * players


def plan(
    players: int,
    *,
    estimator: str | None = None,
    budget: int | None = None,
    seed: int = 0,
) -> Plan:
    """Plan which coalitions to evaluate.

    Args:
        players: How many.
        estimator: A name in ``ESTIMATORS``, or None for what suits the number of players.
        budget: Most coalitions, the empty and the full one included, or None for what suits the estimator.
        seed: Of what is drawn.

    Raises:
        OptionError: There is no such estimator, or the budget does not suit it.

    Example:
        >>> plan(3).coalitions.shape
        (8, 3)
    """
    if players < 1:
        raise OptionError("a game needs at least one player")
    if estimator is not None and estimator not in ESTIMATORS:
        raise OptionError(f"there is no estimator {estimator!r}; choose from: {', '.join(ESTIMATORS)}")
    usual, enough = default_estimator(players)
    if estimator == "exact":
        enough = 2 ** min(players, EXACT_WHEN_ASKED)
    if budget is not None and budget < 2:
        raise OptionError(f"the budget is {budget}; expected at least 2 coalitions, the empty and the full one")
    return ESTIMATORS[estimator or usual](players, enough if budget is None else budget, np.random.default_rng(seed))
