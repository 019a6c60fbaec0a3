"""A number with its confidence interval: one cell of a table."""

from __future__ import annotations

import math
from typing import Any, NamedTuple


class Interval(NamedTuple):
    """A mean, the ends of its confidence interval and the number of items behind it."""

    mean: float
    low: float
    high: float
    n: int

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

    def __str__(self) -> str:
        return f"{decimal(self.mean)} [{decimal(self.low)}, {decimal(self.high)}] (n={self.n})"


def decimal(value: Any) -> str:
    """A number with three decimals, or with two significant digits where three decimals would show fewer.

    Example:
        >>> decimal(0.8764), decimal(-0.00123), decimal(0.0)
        ('0.876', '-0.0012', '0.000')
    """
    return f"{value:.2g}" if 0 < abs(value) < 0.01 else f"{value:.3f}"
