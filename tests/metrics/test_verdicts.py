"""Three verdicts by one rule: what intervals decide, and what several claims make of a finding."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from sfumato.metrics import Interval, bootstrap, every, lies, some, verdict_of
from sfumato.metrics.verdicts import LEAST


@pytest.mark.parametrize(
    ("low", "high", "above", "inside"),
    [
        (0.15, 0.3, True, False),
        (-0.1, 0.3, None, None),
        (0.0, 0.3, None, None),
        (-0.3, -0.1, False, False),
        (0.02, 0.08, True, True),
        (0.05, 0.15, True, None),
        (0.0, 0.0, None, None),
    ],
)
def test_an_interval_that_includes_the_bound_decides_nothing(
    low: float, high: float, above: bool | None, inside: bool | None
) -> None:
    mean = Interval((low + high) / 2, low, high, 9)
    assert lies(mean, above=0) is above
    assert lies(mean, above=0, below=0.1) is inside
    assert lies(Interval(-mean.mean, -high, -low, 9), below=0) is above  # the mirror image


@pytest.mark.parametrize("n", range(LEAST))
def test_too_few_items_decide_nothing_however_clear(n: int) -> None:
    assert lies(bootstrap([0.5] * n), above=0) is None
    assert verdict_of(lies(bootstrap([0.5] * n), above=0)) == "inconclusive"
    assert lies(bootstrap([0.5] * LEAST), above=0) is True


def test_words_of_one_prompt_are_one_item() -> None:
    values = np.full(40, 0.5)
    assert lies(bootstrap(values, groups=[word // 10 for word in range(40)]), above=0) is None  # four prompts
    assert lies(bootstrap(values, groups=[word // 8 for word in range(40)]), above=0) is True  # five


def test_what_is_not_defined_or_rounded_decides_nothing() -> None:
    assert lies(Interval(math.nan, math.nan, math.nan, 0), above=0) is None
    assert lies(Interval(0.4, math.nan, math.nan, 9), above=0) is None
    assert lies(bootstrap(np.full(9, 0.1 + 0.2 - 0.3)), above=0) is None  # 5.6e-17


def test_claims_are_joined_as_in_logic_of_three_values() -> None:
    for claims in itertools.product((True, False, None), repeat=3):
        known = [claim for claim in claims if claim is not None]
        assert every(claims) is (False if False in claims else True if len(known) == 3 else None)
        assert some(claims) is (True if True in claims else False if len(known) == 3 else None)
    assert every(()) is some(()) is None
    assert [verdict_of(True, one) for one in (True, False, None)] == ["replicated", "not replicated", "inconclusive"]


def test_chance_alone_is_seldom_called_a_replication() -> None:
    """Of seeds without any effect, the least number that counts is called replicated in about one of ten."""
    generator = np.random.default_rng(0)
    found = [verdict_of(lies(bootstrap(generator.normal(size=LEAST)), above=0)) for _ in range(400)]
    assert found.count("replicated") < 0.16 * len(found)
    assert found.count("inconclusive") > 0.7 * len(found)
