from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.errors import OptionError
from sfumato.metrics import Interval, bootstrap
from sfumato.metrics.intervals import group_numbers, percentile_ends, resampled

numbers = st.lists(st.floats(-100, 100), min_size=1, max_size=30)


def test_agrees_with_the_normal_interval_on_many_items() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=400)
    found = bootstrap(values, resamples=4000)
    half = 1.96 * values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    assert found.n == 400
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    held = [(i := bootstrap(draw.random(40), level=0.9, resamples=300)).low <= 0.5 <= i.high for _ in range(300)]
    assert 0.84 <= np.mean(held) <= 0.95


@given(numbers)
def test_the_interval_surrounds_the_mean_within_the_range(values: list[float]) -> None:
    found = bootstrap(values, resamples=400)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert found.mean == pytest.approx(np.mean(values))
    assert bootstrap(values, resamples=400) == found
    assert bootstrap([*values, math.nan], resamples=400) == found


def test_few_items_are_told_as_they_are() -> None:
    assert bootstrap([0.25]) == (0.25, 0.25, 0.25, 1)
    nothing = bootstrap([math.nan, math.nan])
    assert nothing.n == 0
    assert all(math.isnan(number) for number in nothing[:3])
    assert bootstrap([], groups=[]).n == 0


def test_the_level_widens_the_interval() -> None:
    values = np.random.default_rng(2).random(50)
    narrow, wide = bootstrap(values, level=0.5), bootstrap(values, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_words_of_one_prompt_are_not_independent() -> None:
    # ten prompts of twenty words that share one value: there are ten observations, not two hundred
    values = np.repeat(np.random.default_rng(3).random(10), 20)
    alone = bootstrap(values)
    grouped = bootstrap(values, groups=[i // 20 for i in range(200)])
    assert grouped.mean == alone.mean
    assert grouped.n == 200
    assert (grouped.independent, alone.independent) == (10, 200)
    ratio = (grouped.high - grouped.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(math.sqrt(20), rel=0.15)


def test_an_interval_unpacks_to_four_numbers_and_knows_how_many_are_independent() -> None:
    found = bootstrap([1.0, 2.0, 3.0], groups=["a", "a", "b"])
    assert (len(found), found.n, found.independent) == (4, 3, 2)
    for copied in (pickle.loads(pickle.dumps(found)), copy.copy(found)):
        assert (copied, copied.independent) == (found, 2)
    assert Interval(0.5, 0.4, 0.6, 9).independent == 9


def test_groups_of_one_are_no_groups() -> None:
    values = np.random.default_rng(4).random(20)
    assert bootstrap(values, groups=[f"p{i}" for i in range(20)]) == bootstrap(values)


def test_wrong_arguments_are_said() -> None:
    with pytest.raises(OptionError, match="there are 2 groups for 3 values"):
        bootstrap([1, 2, 3], groups=["a", "b"])
    with pytest.raises(OptionError, match="level is 95"):
        bootstrap([1, 2], level=95)
    with pytest.raises(OptionError, match="resamples is 0"):
        bootstrap([1, 2], resamples=0)


def test_groups_are_numbered_as_they_come() -> None:
    assert group_numbers(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]
    assert group_numbers([]).tolist() == []


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20))
def test_whole_groups_are_drawn_as_many_as_there_are(groups: list[int]) -> None:
    sizes = {group: groups.count(group) for group in groups}
    for items in resampled(groups, 5):
        owners = [groups[item] for item in items]
        times = {group: owners.count(group) / size for group, size in sizes.items() if group in owners}
        assert all(count == round(count) for count in times.values())  # none is drawn in part
        assert sum(times.values()) == len(sizes)


def test_the_mean_of_drawn_items_has_the_interval_of_the_mean() -> None:
    values, groups = np.random.default_rng(8).random(30), [place // 3 for place in range(30)]
    found = bootstrap(values, groups=groups, resamples=500)
    means = [values[items].mean() for items in resampled(groups, 500)]
    assert percentile_ends(means) == pytest.approx((found.low, found.high))


def test_numbers_that_are_not_defined_move_no_end() -> None:
    assert percentile_ends([math.nan, 2.0, 1.0, 3.0], level=0.5) == (1.5, 2.5)
    assert all(math.isnan(end) for end in percentile_ends([math.nan]))


def test_an_interval_is_written_in_the_format_of_a_number() -> None:
    found = Interval(0.5, 0.251, 0.749, 12)
    assert f"{found:.0%}" == "50% [25%, 75%]"
    assert f"{found:.2f}" == "0.50 [0.25, 0.75]"
    assert f"{found}" == str(found) == "0.500 [0.251, 0.749] (n=12)"
