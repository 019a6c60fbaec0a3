"""How well a number tells two kinds of items apart: the difference of means and the area under the ROC curve."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sfumato.errors import OptionError
from sfumato.metrics.intervals import bootstrap, group_numbers, percentile_ends
from sfumato.results.interval import Interval


class Separation(NamedTuple):
    """Of the items of one kind against the others.

    Attributes:
        difference: Mean of the kind minus mean of the others.
        auc: Chance that an item of the kind has the larger number, ties counted half; 0.5 says nothing.
    """

    difference: Interval
    auc: Interval


def separation(
    values: ArrayLike,
    kind: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Separation:
    """Compare the numbers of the items of a kind with those of the others.

    Args:
        values: A number per item; items with NaN are left out.
        kind: True for the items of the kind.
        groups: What each item belongs to, such as its prompt; whole groups are drawn then.
        level: Of the intervals, by the percentile bootstrap.
        resamples: How often to draw.
        seed: Of the draws.

    Returns:
        NaN everywhere where one of the two kinds has no item; n counts the items of both, and the independent
        observations are the groups of the kind that has fewer. NaN for the ends of the intervals where the items of a
        kind belong to one group, for then their spread is unknown.

    Raises:
        OptionError: The lengths differ, or the level or the number of draws is out of range.
    """
    bootstrap([], level=level, resamples=resamples)  # which refuses what is out of range
    numbers, marked = np.asarray(values, np.float64).ravel(), np.asarray(kind, bool).ravel()
    owners = list(groups) if groups is not None else list(range(numbers.size))
    if not numbers.size == marked.size == len(owners):
        raise OptionError(
            f"there are {numbers.size} values, {marked.size} kinds and {len(owners)} groups; give one each"
        )
    kept = ~np.isnan(numbers)
    numbers, marked = numbers[kept], marked[kept]
    if not marked.any() or marked.all():
        none = Interval(math.nan, math.nan, math.nan, int(numbers.size))
        return Separation(none, none)
    member = group_numbers([owners[i] for i in np.flatnonzero(kept).tolist()])
    one, other = numbers[marked], numbers[~marked]
    larger = (one[:, None] > other[None]) + 0.5 * (one[:, None] == other[None])  # (item of the kind, other item)
    generator = np.random.default_rng(seed)
    count = int(member.max()) + 1
    drawn = generator.multinomial(count, np.full(count, 1 / count), size=resamples)  # (resample, group)
    fewest = min(len(np.unique(member[marked])), len(np.unique(member[~marked])))
    varied = fewest > 1
    differences, areas = [], []
    for weights in (np.ones(count), *drawn):
        mine, theirs = weights[member[marked]], weights[member[~marked]]
        if mine.sum() and theirs.sum():
            mine, theirs = mine / mine.sum(), theirs / theirs.sum()
            differences.append(float(mine @ one - theirs @ other))
            areas.append(float(mine @ larger @ theirs))
    found = [_interval(one, level, numbers.size, fewest, varied=varied) for one in (differences, areas)]
    return Separation(*found)


def _interval(found: list[float], level: float, count: int, groups: int, *, varied: bool) -> Interval:
    """The first number with the quantiles of the others."""
    ends = percentile_ends(found[1:] or found, level) if varied else (math.nan, math.nan)
    return Interval(found[0], *ends, count, groups)
