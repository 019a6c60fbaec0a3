"""What arrays mean travels with them, is checked, and is known of results that were stored without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from sfumato.errors import OptionError
from sfumato.results.explanation import Explanation
from sfumato.results.meaning import ROLES, Meaning, axis_of, declared, heat_of, role_of
from sfumato.results.opening import open as open_explanation
from sfumato.results.schema import SchemaError
from tests.results import synthetic

MAP = Meaning("map").attrs
WORTH = Meaning("importance").attrs


def made(**nodes: xr.Dataset) -> Explanation:
    return synthetic.explanation("red circle", more=nodes)


@given(
    role=st.sampled_from(ROLES),
    unit=st.text(max_size=8),
    direction=st.sampled_from(["higher", "lower"]),
    bounds=st.none() | st.tuples(st.floats(-9, 0), st.floats(1, 9)),
)
def test_attributes_say_all_of_a_meaning(role: Any, unit: str, direction: Any, bounds: Any) -> None:
    attrs = Meaning(role, unit, direction, bounds).attrs
    read = {name: tuple(value) if name == "bounds" else value for name, value in attrs.items()}
    assert Meaning(**read) == Meaning(role, unit, direction, bounds)
    assert role_of(xr.DataArray(0.0, attrs=attrs)) == role


@pytest.mark.parametrize("wrong", [{"role": "heat"}, {"role": "map", "direction": "up"}])
def test_what_no_reader_knows_is_refused(wrong: Any) -> None:
    with pytest.raises(OptionError, match="choose from"):
        Meaning(**wrong)
    assert role_of(xr.DataArray(0.0, attrs={"role": "of a later version"})) is None


def test_word_maps_are_maps_whether_they_say_so_or_not() -> None:
    assert [one.path for one in declared(made().tree, "map")] == ["words"]


def test_a_meaning_is_stored(tmp_path: Path) -> None:
    node = xr.Dataset({"heat": (("y", "x"), np.eye(3), Meaning("map", "nats", "lower", (0, 1)).attrs)})
    made(mine=node).save(tmp_path / "one.zarr")
    found = declared(open_explanation(tmp_path / "one.zarr").tree, "map")
    (one,) = [one for one in found if one.path != "words"]
    assert (one.path, one.name, one.unit, one.title) == ("mine", "heat", "nats", "mine")
    assert one.array.attrs == {"role": "map", "unit": "nats", "direction": "lower", "bounds": [0, 1]}


def test_results_of_older_versions_are_known_by_their_names(tmp_path: Path) -> None:
    steps = np.zeros((2, 3, 4), np.float32)
    old = {
        "saliency/df_rise": xr.Dataset({"map": (("step", "y", "x"), steps)}),
        "gradient_volume": xr.Dataset({"region": (("step", "y", "x"), steps), "mask": (("y", "x"), steps[0] > 0)}),
        "activations/downs": xr.Dataset({"map": (("step", "channel", "y", "x"), steps[None])}),
        "negative_words": xr.Dataset({"map": (("word", "y", "x"), steps)}),
        "trajectory": xr.Dataset({"normalised_ssim": ("step", [0.5, 1.0])}),
        "shapley/word_importance": xr.Dataset({name: ("player", [1.0, 2.0]) for name in ("phi", "share", "error")}),
    }
    made(**old).save(tmp_path / "old.zarr")
    tree = open_explanation(tmp_path / "old.zarr").tree
    found = {role: [f"{one.path}/{one.name}" for one in declared(tree, role)] for role in ROLES}
    assert sorted(found["map"]) == ["gradient_volume/region", "saliency/df_rise/map", "words/map"]
    assert found["importance"] == ["shapley/word_importance/phi"]
    assert found["curve"] == ["trajectory/normalised_ssim"]
    assert (found["share"], found["error"], found["freedom"]) == (
        ["shapley/word_importance/share"],
        ["shapley/word_importance/error"],
        [],
    )


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"heat": (("step", "y"), np.eye(2), MAP)}, r"mine/heat over \(step, y\) is no map: .* lacks 'x'"),
        ({"drift": ((), 1.0, Meaning("curve").attrs)}, "mine/drift over .* is no curve"),
        ({"worth": (("player", "other"), np.eye(2), WORTH)}, "is no importance: .* over one dimension"),
        ({"a": ("player", [1.0], WORTH), "b": ("player", [1.0], WORTH)}, "a node has one importance"),
        (
            {"worth": ("player", [1.0], WORTH), "sd": ("step", [1.0], Meaning("error").attrs)},
            r"its error has other dimensions, \(step\)",
        ),
    ],
)
def test_an_array_that_cannot_mean_that_is_refused(arrays: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        made(mine=xr.Dataset(arrays))


def test_importance_is_read_with_what_stands_beside_it() -> None:
    bare = xr.Dataset({"worth": ("concept", [1.0, 3.0], WORTH)}, coords={"concept": ["red", "circle"]})
    full = bare.assign(
        part=("concept", [0.1, 0.9], Meaning("share").attrs),
        sd=("concept", [0.5, np.nan], Meaning("error").attrs),
    )
    found = made(**{"first": bare, "second/deep": full, "third/a": bare, "third/b": bare})
    assert found.importance_methods == ["first", "second", "third/a", "third/b"]
    first, second = (found.importance_rows(name) for name in ("first", "second"))
    assert [row["player"] for row in first] == ["red", "circle"]
    assert [row["share"] for row in first] == [0.25, 0.75]
    assert {row["low"] for row in first} == {None}
    assert [row["share"] for row in second] == [0.1, 0.9]
    assert second[0]["low"] == pytest.approx(1 - 1.96 * 0.5, abs=1e-3)
    assert second[1]["high"] is None
    low = found.summary()["numbers"]["second/deep"]["low"]
    assert [(one["concept"], one["value"]) for one in low] == [("red", second[0]["low"]), ("circle", None)]


def test_worths_without_a_positive_sum_have_no_shares() -> None:
    node = xr.Dataset({"worth": ("player", [1.0, -1.0], WORTH)})
    assert [(row["player"], row["share"]) for row in made(mine=node).importance_rows("mine")] == [
        ("0", None),
        ("1", None),
    ]


def test_a_map_of_which_less_is_more_is_turned() -> None:
    values = np.arange(12.0).reshape(2, 2, 3)
    array = xr.DataArray(values, dims=("step", "y", "x"), attrs=Meaning("map", direction="lower").attrs)
    np.testing.assert_array_equal(heat_of(array), values.max((1, 2), keepdims=True) - values)
    np.testing.assert_array_equal(heat_of(array.assign_attrs(direction="higher")), values)


def test_a_curve_runs_over_steps_or_its_last_dimension() -> None:
    assert axis_of(xr.DataArray(np.eye(2), dims=("step", "word"))) == "step"
    assert axis_of(xr.DataArray(np.eye(2), dims=("word", "level"))) == "level"


def test_an_importance_of_steps_has_its_rows(tmp_path: Path) -> None:
    found = made(mine=xr.Dataset({"worth": ("step", [3.0, 1.0], WORTH)}, coords={"step": [0, 1]}))
    numbers = found.summary()["numbers"]["mine"]
    assert [(one["step"], one["value"]) for one in numbers["worth"]] == [(0, 3), (1, 1)]
    assert {tuple(one) for one in numbers["low"]} == {("step", "value")}


def test_a_map_without_labels_is_not_drawn() -> None:
    from sfumato.plots import process_sheets

    empty = xr.Dataset({"heat": (("thing", "y", "x"), np.zeros((0, 4, 4)), MAP)})
    assert set(process_sheets(made(mine=empty))) == set()


def test_sheets_of_like_names_are_two() -> None:
    from sfumato.plots import process_sheets

    nodes = {name: xr.Dataset({array: (("y", "x"), np.eye(4), MAP)}) for name, array in (("a", "b-c"), ("a-b", "c"))}
    assert len(process_sheets(made(**nodes))) == 2
