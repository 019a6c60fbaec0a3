"""Every option of every method and every field of a request, given nonsense: one clear error, or a result."""

from __future__ import annotations

import gc
from dataclasses import fields
from typing import Any

import pytest

import sfumato
from sfumato.errors import OptionError, SfumatoError
from sfumato.option_values import types_of
from sfumato.registry import Method, find, methods
from sfumato.request import Request
from tests.hostile import VALUES

OPTIONS = [(method.name, option.name) for method in methods() for option in fields(method.options)]
FIELDS = [one.name for one in fields(Request)]
NEVER = ("object", "NaN", "NUL", "lone surrogate", "very long text", "deep")
"""Values that no option and no field takes."""
LONGEST_LINE = 1000


def checked(error: SfumatoError) -> None:
    """Whether a message is one short line that can be printed."""
    text = str(error)
    assert text
    assert len(text.splitlines()) == 1, text
    assert len(text) < LONGEST_LINE, len(text)
    assert text.isprintable(), ascii(text)


def refused(ask: Any) -> Any:
    """What comes out, or None after an error of Sfumato; any other error fails the test."""
    try:
        return ask()
    except SfumatoError as error:
        checked(error)
        return None


@pytest.mark.parametrize(("method", "option"), OPTIONS, ids=[f"{method}.{option}" for method, option in OPTIONS])
def test_an_option_takes_nonsense_with_one_clear_error_or_as_a_value(method: str, option: str) -> None:
    known = find(method)
    for name, value in VALUES.items():
        found = refused(lambda known=known, value=value: known.configure({option: value}))
        if name in (*NEVER, "very huge"):
            assert found is None or _is_mask(known, option), (name, found)


def _is_mask(method: Method, option: str) -> bool:
    """Whether an option may be an array, which is checked where it is read."""
    return next(one for one in fields(method.options) if one.name == option).metadata.get("disk") == "mask"


def _inner(kind: Any) -> set[type]:
    parts = getattr(kind, "__args__", ())
    return {kind} if not parts else set().union(*(_inner(part) for part in parts))


def test_every_number_has_bounds() -> None:
    open_ended = []
    for method in methods():
        kinds = types_of(method.options)
        for option in fields(method.options):
            lower, upper = {"least", "above"} & set(option.metadata), {"most", "below"} & set(option.metadata)
            if _inner(kinds[option.name]) & {int, float} and not (lower and upper):
                open_ended.append(f"{method.name}.{option.name}")
    assert not open_ended, f"give these bounds in their metadata: {', '.join(open_ended)}"


def test_the_defaults_are_within_their_bounds() -> None:
    for method in methods():
        values = {one.name: one.default for one in fields(method.options)}
        assert method.configure({name: value for name, value in values.items() if value != ()})


@pytest.mark.parametrize("method", [one.name for one in methods()])
def test_a_single_value_and_a_list_are_tuples(method: str) -> None:
    for name, kind in types_of(find(method).options).items():
        if str(kind).startswith("tuple[int") and name not in ("at", "patches"):
            for given in (3, [3], (3,), range(3, 4)):
                assert getattr(find(method).configure({name: given}), name) == (3,)


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_a_request_takes_nonsense_with_one_clear_error_or_as_a_value(field: str) -> None:
    for name, value in VALUES.items():
        found = refused(lambda value=value: Request(**{"prompt": "a"} | {field: value}))
        if found is not None:
            again = Request.from_dict(found.to_dict())
            assert again == found, name
            assert again.key == found.key
        if name in (
            "object",
            "NaN",
            "beyond floats",
            "NUL",
            "lone surrogate",
            "very long text",
            "deep",
            "falling list",
        ):
            assert found is None, name


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_nonsense_for_a_request_as_a_whole(value: Any) -> None:
    assert refused(lambda: Request.from_dict(value)) in (None, Request())
    refused(lambda: Request.from_dict({"prompt": "a", "image": value}))
    if isinstance(value, str):
        assert refused(lambda: Request.from_dict({value: 1})) is None


def test_an_error_of_a_deep_value_leaves_python_usable() -> None:
    gc.collect()
    with pytest.raises(OptionError, match="masks is a value of type list; expected a whole number from 1 to 100000"):
        find("df_rise").configure({"masks": VALUES["deep"]})


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("information", {"seed": -1}, "seed is -1; expected a whole number from 0 to 9223372036854775807"),
        ("information", {"samples": 10**12}, "samples is 1000000000000; expected a whole number from 1 to 100000"),
        ("switch", {"to": 3}, "to is int; expected text"),
        ("ovam", {"text": "\ud800"}, "text contains half of a surrogate pair at place 0"),
        ("df_rise", {"masks": 10**9}, "masks is 1000000000; expected a whole number from 1 to 100000"),
        ("df_rise", {"masks": 10**5000}, "masks is a whole number of about 5,000 digits"),
        ("daam", {"keep": "row"}, "keep is 'row'; choose from: step, layer, head"),
        ("daam", {"normalise": "yes"}, "normalise is 'yes'; choose from: True, False"),
        ("daam", {"threshold": 0}, "threshold is 0; expected a number above 0, at most 1"),
        ("lime", {"ridge": -1}, "ridge is -1; expected a number from 0 to 1000000"),
    ],
)
def test_what_an_error_says(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        find(method).configure(options)
    assert message in str(caught.value)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_nonsense_in_place_of_a_model_a_request_or_a_batch(value: Any, tiny_pipeline: Any) -> None:
    assert refused(lambda: sfumato.explain(value, Request("a"))) is None
    model = sfumato.wrap(tiny_pipeline)
    assert not refused(lambda: sfumato.explain(model, value))
    assert refused(lambda: sfumato.explain(model, Request("a"), method=value)) is None
    assert refused(lambda: sfumato.explain(model, Request("a", steps=1), batch=value)) is None
