"""How far a mean can be trusted: the percentile bootstrap over items, or over groups of items."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from sfumato.errors import OptionError
from sfumato.results.interval import Interval

_DRAWS_AT_ONCE = 2_000_000


def bootstrap(
    values: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The mean of the values with a percentile bootstrap interval.

    Args:
        values: One number per item; NaN stands for an item that could not be judged and is left out.
        groups: What each item belongs to, such as its prompt. Whole groups are drawn then: the words of one image
            go wrong together, and an interval over single words would be too narrow.
        level: Share of resampled means inside the interval.
        resamples: How often to draw.
        seed: Of the draws.

    Returns:
        NaN everywhere and n = 0 if no value is left; both ends equal the mean if only one item (or group) is.

    Raises:
        OptionError: An argument is out of range or does not fit the values.

    Example:
        >>> print(bootstrap([0.5, 0.5, 0.5]))
        0.500 [0.500, 0.500] (n=3)
    """
    numbers = np.asarray(values, dtype=np.float64).ravel()
    if not 0 < level < 1:
        raise OptionError(f"level is {level!r}; expected a share between 0 and 1, such as 0.95")
    if resamples < 1:
        raise OptionError(f"resamples is {resamples!r}; expected at least 1")
    if groups is not None and len(groups) != numbers.size:
        raise OptionError(f"there are {len(groups)} groups for {numbers.size} values; give each value its group")
    kept = ~np.isnan(numbers)
    numbers = numbers[kept]
    if numbers.size == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    member = np.arange(numbers.size)
    if groups is not None:
        numbering: dict[Hashable, int] = {}
        member = np.array([numbering.setdefault(groups[i], len(numbering)) for i in np.flatnonzero(kept).tolist()])
    sums = np.bincount(member, weights=numbers)
    counts = np.bincount(member)
    generator = np.random.default_rng(seed)
    means: list[float] = []
    while len(means) < resamples:
        draws = min(resamples - len(means), max(1, _DRAWS_AT_ONCE // sums.size))
        drawn = generator.integers(0, sums.size, size=(draws, sums.size))
        means += (sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)).tolist()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(numbers.mean()), float(low), float(high), int(numbers.size), int(sums.size))
