"""What follows from a number and its control, and which maps of two explanations are compared."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr

from sfumato.errors import SfumatoError
from sfumato.judging.checks import CheckResult, by_chance, measured
from sfumato.judging.maps import named_maps, shares_of
from sfumato.metrics import Interval
from sfumato.metrics.verdicts import LEAST
from sfumato.results.explanation import Explanation
from tests.judging.made_up import GRID, REQUEST, explained, pattern, patterns, shared, stepped
from tests.results import synthetic

SOME = Interval(0.5, 0.4, 0.6, 9)


def of(wanted: Any, low: float, high: float, n: int = 9) -> CheckResult:
    return CheckResult("seeds", "number", SOME, "control", SOME, Interval((low + high) / 2, low, high, n), wanted)


@pytest.mark.parametrize(
    ("wanted", "low", "high", "verdict"),
    [
        ("above", 0.1, 0.3, "passed"),
        ("above", -0.1, 0.3, "inconclusive"),
        ("above", 0.0, 0.3, "inconclusive"),
        ("above", -0.3, -0.1, "failed"),
        ("below", 0.1, 0.3, "failed"),
        ("below", -0.1, 0.3, "inconclusive"),
        ("below", -0.3, 0.0, "inconclusive"),
        ("below", -0.3, -0.1, "passed"),
        ("like", 0.2, 0.3, "failed"),
        ("like", -0.1, 0.3, "inconclusive"),
        ("like", 0.02, 0.08, "passed"),
        ("like", -0.3, -0.1, "passed"),
    ],
)
def test_the_interval_of_the_gain_decides(wanted: str, low: float, high: float, verdict: str) -> None:
    assert of(wanted, low, high, n=LEAST).verdict == verdict
    assert of(wanted, low, high, n=LEAST - 1).verdict == "inconclusive"


@pytest.mark.parametrize("wanted", ["above", "below", "like"])
def test_one_item_or_none_decides_nothing(wanted: Any) -> None:
    assert of(wanted, 0.2, 0.2, n=1).verdict == "inconclusive"
    assert of(wanted, -0.2, -0.2, n=1).verdict == "inconclusive"
    assert of(wanted, math.nan, math.nan, n=0).verdict == "inconclusive"
    assert measured("seeds", "number", [0.9], "control", [0.1], wanted).verdict == "inconclusive"
    assert measured("seeds", "number", [], "control", [], wanted).verdict == "inconclusive"


def test_values_and_controls_are_paired() -> None:
    values, controls = [0.5, 0.9, 0.1, 0.5, 0.5], [0.3, 0.7, -0.1, 0.3, 0.3]
    found = measured("seeds", "number", values, "random maps", controls, "above")
    assert (found.check, found.number, found.against) == ("seeds", "number", "random maps")
    assert found.value.mean == pytest.approx(0.5)
    assert found.control.mean == pytest.approx(0.3)
    # the values differ by 0.8, each from its control by 0.2: pairing leaves no spread
    assert found.gain[:3] == pytest.approx((0.2, 0.2, 0.2))
    assert found.verdict == "passed"


def test_what_one_of_the_two_lacks_counts_in_neither() -> None:
    nan = math.nan
    found = measured("seeds", "number", [1.0, nan, 3.0, 5.0], "control", [0.0, 1.0, nan, 2.0], "above")
    assert found.value.n == found.control.n == found.gain.n == 2
    assert (found.value.mean, found.control.mean, found.gain.mean) == (3.0, 1.0, 2.0)
    nothing = measured("seeds", "number", [nan, 1.0], "control", [1.0, nan], "above")
    assert (nothing.value.n, nothing.gain.n, nothing.verdict) == (0, 0, "inconclusive")


def test_groups_are_drawn_whole() -> None:
    values = [0.1] * 50 + [-0.05] * 50
    alone = measured("seeds", "number", values, "control", [0.0] * 100, "above")
    grouped = measured("seeds", "number", values, "control", [0.0] * 100, "above", [0] * 50 + [1] * 50)
    assert (alone.verdict, grouped.verdict) == ("passed", "inconclusive")
    assert grouped.gain.mean == alone.gain.mean


def test_a_map_is_like_random_ones_by_chance_only() -> None:
    found = [by_chance(pattern(number), seed) for number in range(5) for seed in range(2)]
    assert np.abs(found).max() < 0.2
    assert by_chance(pattern(0), 3) == by_chance(pattern(0), 3)
    assert math.isnan(by_chance(np.ones(GRID), 0))
    assert math.isfinite(by_chance(np.array([[0.2, 0.5, 0.3]]), 0))  # shares are one line


def test_maps_of_words_are_compared_by_name() -> None:
    found = named_maps(explained())
    assert list(found) == ["red", "cat", ",", "dog", "left"]
    for name, heat in patterns().items():
        np.testing.assert_allclose(found[name], heat, rtol=1e-6)
        assert found[name].dtype == np.float64
    again = named_maps(explained(request=REQUEST.with_(prompt="red cat Red")))
    assert list(again) == ["red", "cat", "Red#2"]


def test_words_stand_in_the_order_of_the_prompt_and_only_those_with_a_map() -> None:
    made = explained({name: heat for name, heat in patterns().items() if name != "cat"})
    nodes = {node.path: node.to_dataset(inherit=False) for node in made.tree.subtree}
    nodes["/words"] = nodes["/words"].isel(word=[3, 1, 4, 0, 2])
    turned = Explanation(xr.DataTree.from_dict(nodes), made.request, made.provenance)
    assert list(named_maps(turned)) == ["red", ",", "dog", "left"]
    np.testing.assert_allclose(named_maps(turned)["dog"], patterns()["dog"], rtol=1e-6)
    assert list(named_maps(synthetic.explanation("red cat dog", unseen=1))) == ["red", "cat"]


def test_other_maps_are_compared_by_node_and_step() -> None:
    maps = [pattern(number) for number in range(3)]
    found = named_maps(stepped(maps))
    assert list(found) == ["mine, step 0", "mine, step 1", "mine, step 2"]
    for heat, values in zip(maps, found.values(), strict=True):
        np.testing.assert_allclose(values, heat, rtol=1e-6)


def test_words_as_players_are_compared_by_their_worths() -> None:
    made = shared({"red": 0.05, "cat": 0.03, "dog": 0.02})
    assert shares_of(made) == pytest.approx({"red": 0.5, "cat": 0.3, "dog": 0.2})
    assert list(named_maps(made)) == ["worths"]
    np.testing.assert_allclose(named_maps(made)["worths"], [[0.05, 0.03, 0.02]])
    assert shares_of(stepped([pattern(0)])) == {}
    harmful = shared({"red": 0.1, "cat": -0.3})  # there are no shares of what does not sum to more than 0
    assert shares_of(harmful) == {}
    np.testing.assert_allclose(named_maps(harmful)["worths"], [[0.1, -0.3]])


def test_a_words_share_is_that_of_the_sum_of_all_maps() -> None:
    base = pattern(0)
    found = shares_of(explained({"red": base, "cat": 3 * base, "dog": 4 * base}))
    assert found == pytest.approx({"red": 0.125, "cat": 0.375, "dog": 0.5})


def test_what_has_neither_is_refused() -> None:
    nodes = {"/image": explained().tree["image"].to_dataset()}
    with pytest.raises(SfumatoError, match="this explanation holds no map of the image; its nodes are: image"):
        named_maps(Explanation(xr.DataTree.from_dict(nodes), REQUEST, {}))
