"""Fields of a request as parameters of commands, made from the metadata of the fields."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any

import typer

from sfumato.errors import RequestError
from sfumato.request import ABOUT, SIZE, Request

FIELDS: Mapping[str, Mapping[str, Any]] = {**ABOUT, "size": SIZE}
DEFAULTS = {one.name: one.default for one in fields(Request)} | {"size": None}
SEVERAL = {"reference": "more_references"}
"""Options that may be repeated, with the field that takes those after the first."""


def parameter_of(field: str, panel: str, text: str | None = None, *, bounded: bool = False) -> inspect.Parameter:
    """The parameter of a command for a field of a request, or for its size.

    Args:
        field: Its name.
        panel: Where the help lists it.
        text: The help, if it is not that of the field.
        bounded: Whether the command itself refuses numbers out of bounds.
    """
    about = FIELDS[field]
    kind: Any = about["kind"] if about["kind"] in (int, float) else str
    if field in SEVERAL:
        kind = list[str]
    more: dict[str, Any] = {"help": text or about["help"], "metavar": about.get("metavar"), "rich_help_panel": panel}
    more["show_default"] = about.get("usual", DEFAULTS[field] is not None)
    if bounded:
        more |= {name: about[given] for name, given in (("min", "least"), ("max", "most")) if given in about}
    name = name_of(field)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=DEFAULTS[field],
        annotation=Annotated[kind if DEFAULTS[field] is not None else kind | None, typer.Option(f"--{name}", **more)],
    )


def name_of(field: str) -> str:
    """What the command line calls a field."""
    about = FIELDS[field]
    return str(about.get("flag") or about.get("name") or field)


def values_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request by name, from the parameters that a command has for them.

    Raises:
        RequestError: A text is unreadable, or the size is given twice.
    """
    found: dict[str, Any] = {}
    for field, about in FIELDS.items():
        value = given.get(name_of(field))
        if value is None or value == []:
            continue
        if field in SEVERAL:
            found |= {field: value[0], SEVERAL[field]: value[1:] or None}
        else:
            found[field] = about["read"](value, f"--{name_of(field)}") if "read" in about else value
    if "size" in found:
        if "height" in found or "width" in found:
            raise RequestError("--size was given together with --height or --width; give the size once")
        found["height"], found["width"] = found.pop("size")
    return found
