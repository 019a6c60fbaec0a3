"""The options of commands that are made from the fields of a request."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from sfumato.cli.explain import explain
from sfumato.cli.request_options import FIELDS, name_of, parameter_of, values_of
from sfumato.errors import RequestError
from sfumato.request import ABOUT, Request

APART = {"prompt", "mask", "more_references"}
"""Fields that the command takes in another way: as an argument, for both uses of a mask, with the reference."""


def test_explain_has_an_option_for_every_field() -> None:
    known = inspect.signature(explain).parameters
    assert {name_of(field) for field in FIELDS.keys() - APART} <= known.keys()
    assert (name_of("at"), name_of("negative_prompt")) == ("timestep", "negative")


@pytest.mark.parametrize("field", sorted(ABOUT.keys() - APART - {"reference"}))
def test_what_is_not_given_is_as_in_a_request(field: str) -> None:
    default = parameter_of(field, "panel").default
    assert default == getattr(Request(), field)
    assert values_of({name_of(field): default}) in ({}, {field: default})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"size": "512x768"}, {"height": 512, "width": 768}),
        ({"variation": "5:0.1"}, {"variation": (5, 0.1)}),
        ({"timestep": 300, "negative": "blue"}, {"at": 300, "negative_prompt": "blue"}),
        ({"reference": ["one.png"]}, {"reference": "one.png", "more_references": None}),
        ({"reference": ["1.png", "2.png", "3.png"]}, {"reference": "1.png", "more_references": ["2.png", "3.png"]}),
        ({"reference": [], "steps": None}, {}),
    ],
    ids=str,
)
def test_options_become_fields(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert values_of(given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": "512x768", "height": 512}, "--size was given together with --height or --width; give the size once"),
        ({"size": "large"}, "--size is 'large'; expected height x width"),
        ({"variation": "5"}, "--variation is '5'; expected another seed"),
    ],
    ids=str,
)
def test_an_unreadable_option_is_named_as_it_was_written(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=re.escape(message)):
        values_of(given)
