"""A number with its confidence interval: one cell of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class _Numbers(NamedTuple):
    """What an interval unpacks to."""

    mean: float
    low: float
    high: float
    n: int


class Interval(_Numbers):
    """A mean, the ends of its confidence interval and the number of items behind it.

    Attributes:
        independent: How many independent observations these are: the groups that the items belong to, such as prompts,
            or the items where each stands for itself. Not among the four numbers that an interval unpacks to.
    """

    independent: int

    def __new__(cls, mean: float, low: float, high: float, n: int, groups: int | None = None) -> Interval:
        """Four numbers, and how many groups the items belong to where they are not independent."""
        made = super().__new__(cls, mean, low, high, n)
        made.independent = n if groups is None else groups
        return made

    @classmethod
    def from_dict(cls, cell: Mapping[str, float | int | None]) -> Interval:
        """The interval that `to_dict` wrote."""
        value, low, high = (math.nan if (end := cell[name]) is None else end for name in ("value", "low", "high"))
        return cls(value, low, high, int(cell["n"] or 0))

    @property
    def brief(self) -> str:
        """The mean and the ends without the number of items; "-" where nothing was measured."""
        return f"{decimal(self.mean)} [{decimal(self.low)}, {decimal(self.high)}]" if self.n else "-"

    def to_dict(self) -> dict[str, float | int | None]:
        """``value``, ``low``, ``high`` and ``n``; None where nothing was measured."""
        ends = {"value": self.mean, "low": self.low, "high": self.high}
        finite: dict[str, float | int | None] = {
            name: float(end) if math.isfinite(end) else None for name, end in ends.items()
        }
        return finite | {"n": int(self.n)}

    def __format__(self, spec: str) -> str:
        """The mean and the ends, each in the format of a number: ``f"{found:.0%}"`` is such as "50% [45%, 55%]"."""
        return f"{self.mean:{spec}} [{self.low:{spec}}, {self.high:{spec}}]" if spec else str(self)

    def __str__(self) -> str:
        return f"{decimal(self.mean)} [{decimal(self.low)}, {decimal(self.high)}] (n={self.n})"


def decimal(value: Any) -> str:
    """A number with three decimals, or with two significant digits where three decimals would show fewer.

    Example:
        >>> decimal(0.8764), decimal(-0.00123), decimal(0.0)
        ('0.876', '-0.0012', '0.000')
    """
    return f"{value:.2g}" if 0 < abs(value) < 0.01 else f"{value:.3f}"
