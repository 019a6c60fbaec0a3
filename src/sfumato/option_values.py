"""Options of a method, checked against the types of their fields and the bounds in the fields' metadata.

This happens once, where a method is configured, so a method's own checks are about what options mean together.
"""

from __future__ import annotations

import functools
import os
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields
from itertools import islice
from typing import Any, Literal, Union

from sfumato.bounds import checked_int, checked_number, checked_text, shown
from sfumato.errors import OptionError
from sfumato.inputs.schedule import MAX_STEPS
from sfumato.request import MAX_SIDE, SEEDS

STEPS = {"least": 0, "most": MAX_STEPS}
TIMESTEPS = {"least": 0, "most": 999_999}
COUNT = {"least": 1, "most": 100_000}
BATCH = {"least": 1, "most": 1024}
SEED = {"least": 0, "most": SEEDS - 1}
MEGABYTES = {"above": 0, "most": 10_000_000}
COALITIONS = {"least": 2, "most": 1_048_576}
PIXELS = {"least": 0, "most": MAX_SIDE - 1}
WIDTHS = {"above": 0, "most": 1000}
PENALTIES = {"least": 0, "most": 1e6}
FEW = {"longest": 100}
SHARE = {"above": 0, "most": 1}
INNER_SHARE = {"above": 0, "below": 1}
"""Bounds that many options have, for their metadata."""
LONGEST = 10_000
"""How many values an option may have that states no number of its own."""


@functools.cache
def types_of(options: type) -> dict[str, Any]:
    """The type of every option by name."""
    hints = typing.get_type_hints(options)
    return {option.name: hints[option.name] for option in fields(options)}


def checked_options(options: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Values as the options' class takes them: a single value where several are expected becomes a tuple.

    Args:
        options: A dataclass. Of the metadata of its fields, "least", "most", "above" and "below" bound a number (or
            each of several), "choices" lists the texts that are possible, "longest" is how many values are. A "mask"
            that is no text is checked where it is read.
        given: Some of them by name; all names are known.

    Raises:
        OptionError: A value has another type or is out of bounds.
    """
    kinds = types_of(options)
    about = {option.name: option.metadata for option in fields(options)}
    return {name: _checked(name, value, kinds[name], about[name]) for name, value in given.items()}


def _checked(name: str, value: Any, kind: Any, about: Mapping[str, Any]) -> Any:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        others = [part for part in parts if part is not type(None)]
        if value is None and len(others) < len(parts):
            return None
        return _checked(name, value, others[0], about) if len(others) == 1 else value
    if origin is tuple:
        return tuple(_single(name, one, parts[0], about) for one in _several(name, value, about))
    return _single(name, value, kind, about)


def _single(name: str, value: Any, kind: Any, about: Mapping[str, Any]) -> Any:
    choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else about.get("choices")
    if choices is not None or kind is bool:
        if not isinstance(value, str if choices else bool) or (choices and value not in choices):
            raise OptionError(f"{name} is {shown(value)}; choose from: {', '.join(map(str, choices or (True, False)))}")
        return value
    if kind is int:
        return checked_int(name, value, about.get("least", -SEEDS), about.get("most", SEEDS), OptionError)
    if kind is float:
        bounds = {one: about[one] for one in ("least", "most", "above", "below") if one in about}
        return checked_number(name, value, OptionError, **bounds)
    if kind is not str or (about.get("disk") == "mask" and not isinstance(value, str)):
        return value
    named = isinstance(value, os.PathLike) and "disk" in about
    return checked_text(name, os.fspath(value) if named else value, OptionError)


def _several(name: str, value: Any, about: Mapping[str, Any]) -> list[Any]:
    """One value or several as a list."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        return [value]
    longest = about.get("longest", LONGEST)
    found = list(islice(value, longest + 1))
    if len(found) > longest:
        raise OptionError(f"{name} has more than {longest:,} values; give fewer")
    return found
