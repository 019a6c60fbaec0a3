"""What an interval allows to say of a claim, and what claims allow to say of a finding: one rule, three values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from sfumato.results.interval import Interval

Outcome = Literal["replicated", "not replicated", "inconclusive"]

LEAST = 5
"""The least number of independent seeds, prompts or words. The bootstrap interval of fewer is far too narrow: of 4 that
differ by chance alone, all lie on one side of zero in one case of 8."""

ROUNDING = 1e-9
"""By so little a mean may differ from a bound because numbers are rounded."""

Decision = bool | None
"""Whether a claim is true; None where the interval leaves it open."""


def lies(mean: Interval, *, above: float = -math.inf, below: float = math.inf) -> Decision:
    """Whether a mean lies between two bounds, as far as its interval can say.

    Args:
        mean: With its interval.
        above: The lower bound; none by default.
        below: The upper bound; none by default.

    Returns:
        True where the whole interval lies inside the bounds, False where it lies outside, None where it includes a
        bound, is not defined, or rests on fewer than `LEAST` independent items.

    Example:
        >>> lies(Interval(0.2, 0.1, 0.3, 9), above=0), lies(Interval(0.2, -0.1, 0.5, 9), above=0)
        (True, None)
    """
    if mean.independent < LEAST or math.isnan(mean.low) or math.isnan(mean.high):
        return None
    if mean.low > above + ROUNDING and mean.high < below - ROUNDING:
        return True
    return False if mean.high < above - ROUNDING or mean.low > below + ROUNDING else None


def every(claims: Iterable[Decision]) -> Decision:
    """Whether all claims are true: False as soon as one is false, None where one is open and none false."""
    found = tuple(claims)
    return False if False in found else None if None in found or not found else True


def some(claims: Iterable[Decision]) -> Decision:
    """Whether one claim is true: True as soon as one is, None where one is open and none true."""
    found = tuple(claims)
    return True if True in found else None if None in found or not found else False


def verdict_of(*claims: Decision) -> Outcome:
    """The verdict on a finding that makes all of these claims.

    Example:
        >>> verdict_of(True, None), verdict_of(None, False)
        ('inconclusive', 'not replicated')
    """
    decided = every(claims)
    return "inconclusive" if decided is None else "replicated" if decided else "not replicated"
