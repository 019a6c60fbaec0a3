"""What checks of an explanation give: a number, the number of a control that knows nothing, and what follows."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sfumato.metrics import Interval, bootstrap, lies, rank_correlation
from sfumato.metrics.controls import control_map

CHANCES = 32
"""So many random maps stand for what a map is like by chance."""

LIKE = 0.1
"""A rank correlation is like that of its control where it lies above it by less than this."""

Wanted = Literal["above", "below", "like"]
"""Where a number should be: above that of the control, below it, or above it by less than `LIKE`."""


@dataclass(frozen=True)
class CheckResult:
    """One number of a check.

    Attributes:
        check: Which check.
        number: What was measured.
        value: The mean over maps, or over pairs of maps.
        against: What the control is.
        control: The same number of the control.
        gain: By how much the value is above the control, over pairs of one map.
        wanted: Where the value should be.
    """

    check: str
    number: str
    value: Interval
    against: str
    control: Interval
    gain: Interval
    wanted: Wanted

    @property
    def verdict(self) -> str:
        """What the interval of the gain allows to say: "passed", "failed" or "inconclusive"."""
        bounds = {"above": {"above": 0.0}, "below": {"below": 0.0}, "like": {"below": LIKE}}
        decided = lies(self.gain, **bounds[self.wanted])
        return "inconclusive" if decided is None else "passed" if decided else "failed"

    def row(self) -> dict[str, Any]:
        """The number as the row of a table."""
        return {
            "check": self.check,
            "number": self.number,
            "value": self.value,
            "control": self.against,
            "its value": self.control,
            "difference": self.gain,
            "verdict": self.verdict,
        }


def measured(
    check: str,
    number: str,
    values: Sequence[float],
    against: str,
    controls: Sequence[float],
    wanted: Wanted,
    groups: Sequence[Hashable] | None = None,
) -> CheckResult:
    """The means of values and of their controls, one for each value, and of the differences.

    Args:
        check: Which check.
        number: What was measured.
        values: Of each map or pair; NaN where there is none.
        against: What the control is.
        controls: As many.
        wanted: Where the values should be.
        groups: What each belongs to; see `bootstrap`.
    """
    own, others = np.asarray(values, np.float64), np.asarray(controls, np.float64)
    own, others = np.where(np.isnan(others), np.nan, own), np.where(np.isnan(own), np.nan, others)
    value, control, gain = (bootstrap(one, groups=groups) for one in (own, others, own - others))
    return CheckResult(check, number, value, against, control, gain, wanted)


def by_chance(heat: NDArray[np.float64], seed: int) -> float:
    """The mean rank correlation of a map (y, x) with smooth random ones: about 0, and NaN for a map without order."""
    grid = (heat.shape[0], heat.shape[1])
    return float(np.mean([rank_correlation(heat, control_map("smooth random", grid, seed, n)) for n in range(CHANCES)]))
