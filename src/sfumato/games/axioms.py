"""The axioms of the Shapley value (Shapley 1953), measured on a game that was played."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from sfumato.games.playing import Played


@dataclass(frozen=True)
class Axioms:
    """How far an estimate is from each axiom, in units of the value; NaN where no case arose.

    Attributes:
        efficiency: Sum of the players' worths less v(all) - v(none).
        symmetry: Largest difference between two players who were interchangeable wherever that could be seen.
        null_player: Largest worth of a player who changed nothing wherever that could be seen.
        linearity: Largest difference between the worths in a v + b u and a, b times those in v and u, for another
            game u on the same coalitions.
    """

    efficiency: float
    symmetry: float
    null_player: float
    linearity: float


def check_axioms(played: Played, *, tolerance: float = 1e-9, seed: int = 0) -> Axioms:
    """Measure the axioms.

    Args:
        played: The game.
        tolerance: Values that differ by less count as equal.
        seed: Of the other game that linearity is measured with.
    """
    phi, fit = played.estimate.phi, played.plan.fit
    other = np.random.default_rng(seed).standard_normal(len(played.values))
    mixed = fit(2 * played.values - 3 * other).phi
    worth = {row.tobytes(): value for row, value in zip(played.plan.coalitions, played.values.tolist(), strict=True)}
    return Axioms(
        efficiency=float(phi.sum() - (played.estimate.full - played.estimate.empty)),
        symmetry=_symmetry(played, worth, tolerance),
        null_player=_null_player(played, worth, tolerance),
        linearity=float(np.abs(mixed - 2 * phi + 3 * fit(other).phi).max()),
    )


def _null_player(played: Played, worth: dict[bytes, float], tolerance: float) -> float:
    found = [math.nan]
    for player, phi in enumerate(played.estimate.phi.tolist()):
        without = played.plan.coalitions[~played.plan.coalitions[:, player]]
        larger = without.copy()
        larger[:, player] = True
        steps = [
            worth[b.tobytes()] - worth[a.tobytes()]
            for a, b in zip(without, larger, strict=True)
            if b.tobytes() in worth
        ]
        if steps and max(map(abs, steps)) <= tolerance:
            found.append(abs(phi))
    return float(np.fmax.reduce(found))


def _symmetry(played: Played, worth: dict[bytes, float], tolerance: float) -> float:
    found = [math.nan]
    for one, other in itertools.combinations(range(len(played.estimate.phi)), 2):
        rows = played.plan.coalitions
        with_one = rows[rows[:, one] & ~rows[:, other]]
        swapped = with_one.copy()
        swapped[:, [one, other]] = with_one[:, [other, one]]
        steps = [
            worth[a.tobytes()] - worth[b.tobytes()]
            for a, b in zip(with_one, swapped, strict=True)
            if b.tobytes() in worth
        ]
        if steps and max(map(abs, steps)) <= tolerance:
            found.append(abs(float(played.estimate.phi[one] - played.estimate.phi[other])))
    return float(np.fmax.reduce(found))
