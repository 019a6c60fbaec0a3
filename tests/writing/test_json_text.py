"""JSON without NaN and infinity."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from sfumato.writing.json_text import finite, json_text

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_what_was_written_is_read_as_it_was_where_it_is_finite(value: object) -> None:
    def refused(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(json_text(value), parse_constant=refused) == finite(value)


def test_numbers_that_are_not_finite_become_null() -> None:
    given = {"a": [math.nan, 1.5, (math.inf, -math.inf)], 2: "ü"}
    assert finite(given) == {"a": [None, 1.5, [None, None]], "2": "ü"}
    assert json_text(given, indent=None) == '{"a": [null, 1.5, [null, null]], "2": "ü"}'
