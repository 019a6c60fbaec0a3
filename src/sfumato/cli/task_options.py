"""Options of tasks as parameters of commands, made from the fields of their dataclasses."""

from __future__ import annotations

import inspect
import re
import typing
from copy import copy
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sfumato.errors import OptionError

if TYPE_CHECKING:
    from sfumato.runs.task import Captions, Task


DIGITS = 20
"""So many digits of a number are read; a longer one is out of bounds all the same."""


def options_of(task: Task) -> list[tuple[Field[Any], Any]]:
    """The options of a task, each with its type."""
    from sfumato.option_values import types_of

    kinds = types_of(task.options)
    return [(option, kinds[option.name]) for option in fields(task.options)]


def parameter_of(option: Field[Any], kind: Any) -> inspect.Parameter:
    """A parameter of the command for an option of a task, by the option's type and metadata."""
    about = option.metadata
    plain, several, optional = _unwrapped(kind)
    choices = typing.get_args(plain) if typing.get_origin(plain) is Literal else about.get("choices", ())
    text = str(about.get("help", ""))
    text += f" Choose from: {', '.join(map(str, choices))}." if choices else ""
    flag = "--" + option.name.replace("_", "-")
    more: dict[str, Any] = {"help": text, "rich_help_panel": "The question"}
    annotation: Any = plain if plain in (int, float, bool) and not several else str
    if annotation in (int, float):
        more |= {name: about[given] for name, given in (("min", "least"), ("max", "most")) if given in about}
    default = option.default if option.default is not MISSING else ()
    if several:
        annotation, default = list[str] | None, None
    elif annotation is bool:
        flag = f"{flag}/--no-{option.name.replace('_', '-')}"
    if optional and not several:
        annotation = annotation | None
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[annotation, typer.Option(flag, **more)],
    )


def prompts_option(of_all: Any, captions: Captions) -> Any:
    """The option of prompts that all tasks have, whose help says what a number stands for in this one."""
    option = copy(of_all.__metadata__[0])
    option.help = option.help.format(captions=captions.named)
    return Annotated[str | None, option]


def read_prompts(given: str | None) -> str | int | None:
    """A number of captions, or a file."""
    text = (given or "").strip()
    return int(text[:DIGITS]) if text.isdecimal() and text.isascii() else given


def parsed_shard(given: str | None) -> tuple[int, int]:
    """A part and the number of parts, such as 3/16; all of it where nothing is given.

    Raises:
        OptionError: It is no such part.
    """
    if given is None:
        return 1, 1
    found = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", given, re.ASCII)
    number, of = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= of:
        raise OptionError(f"--shard is {given!r}; expected K/N with K from 1 to N, such as 3/16")
    return number, of


def _unwrapped(kind: Any) -> tuple[Any, bool, bool]:
    """A type without its optional and its tuple: the plain type, whether it is several, whether it may be left out."""
    parts = [one for one in typing.get_args(kind) if one is not type(None)]
    optional = type(None) in typing.get_args(kind)
    inner = parts[0] if optional and len(parts) == 1 else kind
    if typing.get_origin(inner) is tuple:
        return typing.get_args(inner)[0], True, optional
    return inner, False, optional


def read_options(task: Task, given: dict[str, Any]) -> dict[str, Any]:
    """Options as a task takes them: what was not given is left out, several values are read by their type."""
    from sfumato.options import parse_value

    found: dict[str, Any] = {}
    for option, kind in options_of(task):
        value = given[option.name]
        plain, several, _ = _unwrapped(kind)
        if several:
            if value:
                found[option.name] = tuple(value) if plain is str else parse_value(option.name, ",".join(value), kind)
        elif value is not None and value != option.default:
            found[option.name] = value
    return found
