"""Playing a game: every coalition of a plan is evaluated once, in batches, and the estimator reads the values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import NonFinite, SfumatoError
from sfumato.games.coalitions import Coalitions, coalition_name
from sfumato.games.estimators.planning import Estimate, Plan
from sfumato.progress import Progress, silent

Value = Callable[[Coalitions], NDArray[np.float64]]
"""Coalitions (coalition, player) to what each is worth (coalition,)."""


@dataclass(frozen=True)
class Played:
    """A game that was played.

    Attributes:
        plan: What was evaluated.
        values: (coalition,) what each coalition of the plan is worth.
        estimate: What each player is worth.
    """

    plan: Plan
    values: NDArray[np.float64]
    estimate: Estimate


def play(
    value: Value, plan: Plan, *, players: tuple[str, ...] = (), batch: int = 8, progress: Progress = silent
) -> Played:
    """Evaluate the coalitions of a plan and estimate what each player is worth.

    Args:
        value: What a coalition is worth.
        plan: From ``games.plan``.
        players: Their names, for messages.
        batch: Coalitions that are evaluated together.
        progress: Told after every batch.

    Raises:
        NonFinite: A coalition's value is NaN or infinite; the message names the coalition.
    """
    count, width = plan.coalitions.shape
    named = players or tuple(str(number) for number in range(width))
    values = np.empty(count)
    progress("coalitions", 0, count)
    for start in range(0, count, batch):
        part = plan.coalitions[start : start + batch]
        found = np.asarray(value(part), dtype=np.float64)
        if found.shape != (len(part),):
            raise SfumatoError(
                f"the value of {len(part)} coalitions has the shape {found.shape}; expected one number each"
            )
        if not np.isfinite(found).all():
            place = int(np.flatnonzero(~np.isfinite(found))[0])
            raise NonFinite(
                f"the value of {coalition_name(part[place], named)} is {found[place]}; no player can be judged by it"
            )
        values[start : start + len(part)] = found
        progress("coalitions", start + len(part), count)
    return Played(plan, values, plan.fit(values))
