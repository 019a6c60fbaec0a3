"""LIME (Ribeiro et al. 2016, arXiv 1602.04938): a weighted linear surrogate of the value around all players."""

from __future__ import annotations

import math

import numpy as np

from sfumato.errors import OptionError
from sfumato.games.coalitions import MOST_LISTED, all_coalitions
from sfumato.games.estimators.planning import Estimate, Floats, Plan
from sfumato.games.estimators.regression import kernel, weighted_r2

WIDTH = 0.25
"""Of the kernel, in cosine distance; the one of the reference implementation for text."""


def lime(
    players: int, budget: int, generator: np.random.Generator, *, width: float = WIDTH, ridge: float = 0.0
) -> Plan:
    """Plan all coalitions if the budget allows, or else those of Kernel SHAP, so that both share their images.

    Args:
        players: How many.
        budget: Most coalitions.
        generator: Draws them.
        width: Of the exponential kernel over the cosine distance between a coalition and all players.
        ridge: Penalty on squared weights, beside weighted squared errors. The reference uses 1, which shrinks weights
            much where there are few coalitions; 0 makes LIME exact on additive games.
    """
    least = 2 if players == 1 else 2 * players
    if budget < least:
        raise OptionError(f"lime needs at least {least} coalitions for {players} players; the budget is {budget}")
    if not width > 0 or not ridge >= 0:
        raise OptionError(
            f"lime has width {width} and ridge {ridge}; expected a width above 0 and a ridge of 0 or more"
        )
    if 2**players <= budget and players <= MOST_LISTED:
        rows = all_coalitions(players)
        coalitions = np.concatenate([rows[[0, -1]], rows[1:-1]])
    else:
        coalitions = kernel(players, budget, generator).coalitions
    distance = 1 - np.sqrt(coalitions.mean(1))
    weight = np.sqrt(np.exp(-((distance / width) ** 2)))

    def fit(values: Floats) -> Estimate:
        design = coalitions.astype(np.float64)
        middle, level = np.average(design, axis=0, weights=weight), np.average(values, weights=weight)
        root = np.sqrt(weight)
        rows = np.concatenate([root[:, None] * (design - middle), math.sqrt(ridge) * np.eye(players)])
        phi = np.linalg.lstsq(rows, np.concatenate([root * (values - level), np.zeros(players)]), rcond=None)[0]
        r2 = weighted_r2(values, level + (design - middle) @ phi, weight)
        unknown = np.full(players, math.nan)
        return Estimate(phi, unknown, unknown, float(values[0]), float(values[1]), r2=r2)

    return Plan("lime", coalitions, fit)
