"""How far a number of many items can be trusted: the percentile bootstrap over items, or over groups of items."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
        member = group_numbers([groups[i] for i in np.flatnonzero(kept).tolist()])
    sums = np.bincount(member, weights=numbers)
    counts = np.bincount(member)
    generator = np.random.default_rng(seed)
    means: list[float] = []
    while len(means) < resamples:
        draws = min(resamples - len(means), max(1, _DRAWS_AT_ONCE // sums.size))
        drawn = generator.integers(0, sums.size, size=(draws, sums.size))
        means += (sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)).tolist()
    return Interval(float(numbers.mean()), *percentile_ends(means, level), int(numbers.size), int(sums.size))


def group_numbers(groups: Sequence[Hashable]) -> NDArray[np.int64]:
    """The number of each item's group (item,): from 0, in the order in which groups come first.

    Example:
        >>> group_numbers(["a red cat", "a dog", "a red cat"]).tolist()
        [0, 1, 0]
    """
    numbering: dict[Hashable, int] = {}
    return np.array([numbering.setdefault(group, len(numbering)) for group in groups], np.int64)


def resampled(groups: Sequence[Hashable], resamples: int, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Indices of items (item,), whole groups of them drawn with replacement, as `bootstrap` draws them.

    For a number that is no mean over items, such as a correlation.

    Args:
        groups: What each item belongs to; at least one item.
        resamples: How often to draw.
        seed: Of the draws.
    """
    member = group_numbers(groups)
    items = [np.flatnonzero(member == number) for number in range(member.max() + 1)]
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.concatenate([items[number] for number in generator.integers(0, len(items), len(items))])


def percentile_ends(found: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """The ends of the interval that holds this share of the resampled numbers; NaN where none is defined."""
    values = np.asarray(found, np.float64)
    values = values[~np.isnan(values)]
    if not values.size:
        return math.nan, math.nan
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
