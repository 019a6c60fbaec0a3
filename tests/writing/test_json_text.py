"""JSON that any reader takes: no NaN, no infinity, and intervals as numbers with names."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.results.interval import Interval
from sfumato.writing.json_text import json_text, json_value

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


def read(text: str) -> Any:
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@given(VALUES, st.sampled_from([None, 2]), st.booleans())
def test_what_was_written_is_read_as_it_is_but_for_what_json_has_no_number_for(
    value: Any, indent: int | None, ascii_only: bool
) -> None:
    text = json_text(value, indent=indent, ascii_only=ascii_only)
    assert read(text) == json_value(value)
    assert not ascii_only or text.isascii()
    assert indent is not None or len(text.splitlines()) <= 1 or not ascii_only


def test_numbers_that_are_not_finite_are_null_however_deep() -> None:
    assert json_value({"a": (1.0, math.nan), 2: [{"b": -math.inf}]}) == {"a": [1.0, None], "2": [{"b": None}]}
    assert json_value([Interval(0.5, math.nan, 0.75, 3)]) == [{"value": 0.5, "low": None, "high": 0.75, "n": 3}]


def test_half_of_a_surrogate_pair_can_be_written_in_ascii() -> None:
    assert json_text("\udc80", ascii_only=True).encode() == b'"\\udc80"'


def test_what_json_cannot_say_is_an_error() -> None:
    with pytest.raises(TypeError):
        json_text({"a": object()})
