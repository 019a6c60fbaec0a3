"""Mean and spread of numbers that pass by once."""

from __future__ import annotations

import math


class RunningMean:
    """Count, mean and standard deviation by Welford's recurrence, in constant memory.

    Example:
        >>> found = RunningMean()
        >>> for value in (1.0, 2.0, 3.0):
        ...     found.add(value)
        >>> found.count, found.mean, found.deviation
        (3, 2.0, 1.0)
    """

    def __init__(self) -> None:
        self.count, self.mean, self._squares = 0, math.nan, 0.0

    def add(self, value: float) -> None:
        """Take one more number; one that is not finite is left out."""
        if not math.isfinite(value):
            return
        self.count += 1
        before = self.mean if self.count > 1 else 0.0
        self.mean = before + (value - before) / self.count
        self._squares += (value - before) * (value - self.mean)

    @property
    def deviation(self) -> float:
        """Standard deviation with n - 1; NaN below two numbers."""
        return math.sqrt(self._squares / (self.count - 1)) if self.count > 1 else math.nan
