"""How well a number tells two kinds apart: the area is that of a rank test, and whole groups are drawn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from sfumato.errors import OptionError
from sfumato.metrics import Interval, separation

FEW = {"resamples": 200}


def unknown(found: Interval) -> bool:
    return all(math.isnan(number) for number in found[:3])


def test_kinds_that_do_not_overlap_are_told_apart() -> None:
    values, kind = [5.0, 6.0, 7.0, 1.0, 2.0, 3.0], [True] * 3 + [False] * 3
    found = separation(values, kind)
    assert found.difference.mean == pytest.approx(4)
    assert found.difference.low > 0
    assert found.auc == (1, 1, 1, 6)
    back = separation(values, np.logical_not(kind))
    assert back.difference.mean == pytest.approx(-4)
    assert back.auc == (0, 0, 0, 6)


def test_equal_numbers_say_nothing() -> None:
    found = separation([2.0] * 6, [True, False] * 3)
    assert found.difference == (0, 0, 0, 6)
    assert found.auc == (0.5, 0.5, 0.5, 6)


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40).filter(
        lambda items: 0 < sum(kind for _, kind in items) < len(items)
    )
)
def test_the_area_is_that_of_the_rank_test(items: list[tuple[int, bool]]) -> None:
    values = np.array([value for value, _ in items], float)  # few values, so with ties
    kind = np.array([kind for _, kind in items])
    found = separation(values, kind, resamples=50)
    one, other = values[kind], values[~kind]
    assert found.auc.mean == pytest.approx(mannwhitneyu(one, other).statistic / (len(one) * len(other)))
    assert found.difference.mean == pytest.approx(one.mean() - other.mean())
    assert separation(values, kind, resamples=50) == found or min(len(one), len(other)) == 1  # NaN is not NaN
    if min(len(one), len(other)) > 1:
        assert -1e-9 <= found.auc.low <= found.auc.high <= 1 + 1e-9
        assert found.difference.low <= found.difference.mean + 1e-9
        assert found.difference.high >= found.difference.mean - 1e-9


def test_agrees_with_the_normal_interval_on_many_items() -> None:
    draw = np.random.default_rng(0)
    values = np.concatenate([draw.normal(1, 1, 300), draw.normal(0, 2, 200)])
    found = separation(values, np.arange(500) < 300).difference
    half = 1.96 * math.hypot(values[:300].std() / math.sqrt(300), values[300:].std() / math.sqrt(200))
    assert found.low == pytest.approx(found.mean - half, abs=0.03)
    assert found.high == pytest.approx(found.mean + half, abs=0.03)


def test_words_of_one_prompt_are_not_independent() -> None:
    # twenty prompts of ten words that share one value: there are twenty observations, not two hundred
    values = np.repeat(np.random.default_rng(1).random(20), 10)
    kind, prompts = np.arange(200) < 100, [i // 10 for i in range(200)]
    alone, grouped = separation(values, kind), separation(values, kind, groups=prompts)
    for name in ("difference", "auc"):
        narrow, wide = getattr(alone, name), getattr(grouped, name)
        assert (wide.mean, wide.n) == (narrow.mean, 200)
        assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert separation(values, kind, groups=[f"p{i}" for i in range(200)]) == alone


def test_groups_may_hold_both_kinds() -> None:
    # within each prompt the one kind is higher by exactly 1, however different the prompts are
    base = np.repeat(np.random.default_rng(2).normal(0, 10, 12), 2)
    kind, prompts = np.tile([True, False], 12), np.repeat(np.arange(12), 2).tolist()
    found = separation(base + kind, kind, groups=prompts)
    np.testing.assert_allclose(found.difference[:3], 1)
    assert separation(base + kind, kind).difference.low < 0


@pytest.mark.parametrize("kind", [[True] * 4, [False] * 4, [True, False, False, False]])
def test_one_kind_alone_says_nothing(kind: list[bool]) -> None:
    values = [math.nan, 1.0, 2.0, 3.0]  # which leaves none of the kind, or none of the others
    found = separation(values, kind)
    for interval in found:
        assert unknown(interval)
        assert interval.n == 3


def test_nothing_at_all_says_nothing() -> None:
    found = separation([], [], groups=[])
    assert unknown(found.auc)
    assert found.auc.n == found.difference.n == 0


@pytest.mark.parametrize(
    ("kind", "groups"),
    [([True, False, False, False], None), ([True, True, True, False], None), ([True, True, False, False], "aabc")],
)
def test_a_single_item_or_group_of_a_kind_has_a_mean_but_no_interval(kind: list[bool], groups: Any) -> None:
    values = [4.0, 3.0, 1.0, 0.0]
    found = separation(values, kind, groups=groups and list(groups))
    one, other = np.array(values)[kind], np.array(values)[np.logical_not(kind)]
    assert found.difference.mean == pytest.approx(one.mean() - other.mean())
    assert found.auc.mean == 1
    for interval in found:
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)


def test_items_without_a_number_are_left_out() -> None:
    values, kind = [5.0, 6.0, math.nan, 1.0, 2.0, math.nan], [True, True, True, False, False, False]
    owners = ["a", "a", "c", "b", "d", "e"]
    kept = [0, 1, 3, 4]
    found = separation(values, kind, groups=owners, **FEW)
    alone = separation(np.array(values)[kept], np.array(kind)[kept], groups=[owners[place] for place in kept], **FEW)
    np.testing.assert_equal(found, alone)
    assert found.difference.n == 4


def test_the_level_widens_the_interval() -> None:
    values = np.random.default_rng(3).random(60)
    narrow, wide = (separation(values, np.arange(60) % 2 == 0, level=level).auc for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_wrong_arguments_are_said() -> None:
    with pytest.raises(OptionError, match="there are 3 values, 2 kinds and 3 groups; give one each"):
        separation([1, 2, 3], [True, False])
    with pytest.raises(OptionError, match="there are 2 values, 2 kinds and 1 groups"):
        separation([1, 2], [True, False], groups=["a"])
    with pytest.raises(OptionError, match="level is 95"):
        separation([1, 2], [True, False], level=95)
    with pytest.raises(OptionError, match="resamples is 0"):
        separation([1, 2], [True, False], resamples=0)
