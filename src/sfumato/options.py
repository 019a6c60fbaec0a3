"""Options of methods as the command line writes them: ``name=value``, read by the type of the option's field."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any, Literal, Union

from sfumato.bounds import checked_number, checked_text, shown
from sfumato.errors import OptionError, Unreadable
from sfumato.option_values import types_of
from sfumato.reading import parse_json
from sfumato.registry import Method

MOST = 100_000  # elements that ranges may stand for, all together
YES, NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def parse_options(method: Method, given: Sequence[str]) -> dict[str, Any]:
    """Read ``name=value`` pairs.

    Args:
        method: Whose options they are.
        given: What was written, such as ``["threshold=0.4", "steps=0:10"]``.

    Raises:
        OptionError: A pair is unreadable, an option is unknown or given twice, or a value does not fit its type.

    Example:
        >>> from sfumato.registry import find
        >>> parse_options(find("daam"), ["steps=0:3", "keep=layer,head"])
        {'steps': (0, 1, 2), 'keep': ('layer', 'head')}
    """
    kinds = option_types(method)
    values: dict[str, Any] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise OptionError(f"--option is {pair!r}; expected name=value, such as {_example(kinds)}")
        if name not in kinds:
            raise OptionError(f"{method.name} has no option {name!r}; its options are: {', '.join(kinds) or 'none'}")
        if name in values:
            raise OptionError(f"the option {name} is given twice; give it once")
        values[name] = parse_value(name, text.strip(), kinds[name])
    return values


def parse_each(methods: Sequence[Method], given: Sequence[str]) -> list[dict[str, Any]]:
    """Read the options of several methods: ``method.name=value`` is for one, ``name=value`` for all that have it.

    Raises:
        OptionError: As for ``parse_options``, or no chosen method has the option.
    """
    if len(methods) == 1:
        own = f"{methods[0].name}."
        return [parse_options(methods[0], [pair.removeprefix(own) for pair in given])]
    shares: list[list[str]] = [[] for _ in methods]
    for pair in given:
        name = pair.partition("=")[0].strip()
        owner, dot, _ = name.partition(".")
        takers = [
            number
            for number, one in enumerate(methods)
            if (one.name == owner if dot else name.replace("-", "_") in option_types(one))
        ]
        if not takers:
            raise OptionError(
                f"no chosen method takes the option {name!r}; chosen are: {', '.join(one.name for one in methods)} "
                "(see: sfumato methods NAME)"
            )
        for number in takers:
            shares[number].append(pair.strip()[len(owner) + 1 :] if dot else pair)
    return [parse_options(one, share) for one, share in zip(methods, shares, strict=True)]


def parse_arguments(given: Sequence[str]) -> dict[str, Any]:
    """Read ``name=value`` pairs for a pipeline's own call; a value is JSON where it can be, else text.

    Raises:
        OptionError: A pair is unreadable, or given twice, or a number is not finite.

    Example:
        >>> parse_arguments(["true_cfg_scale=3.5", "clip_skip=1"])
        {'true_cfg_scale': 3.5, 'clip_skip': 1}
    """
    values: dict[str, Any] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name.isidentifier():
            raise OptionError(f"--argument is {pair!r}; expected name=value, such as true_cfg_scale=3.5")
        if name in values:
            raise OptionError(f"the argument {name} is given twice; give it once")
        values[name] = _argument(name, text)
    return values


def _argument(name: str, text: str) -> Any:
    """JSON where it can be, else text."""
    checked_text(f"the argument {name}", text, OptionError)
    try:
        value = parse_json(text)
    except Unreadable as error:
        if text.lstrip()[:1] in ("[", "{"):  # meant as JSON, and no text that a pipeline takes
            raise OptionError(f"the argument {name} is {shown(text)}: {error.reason}") from error
        return text.strip()
    if isinstance(value, float):
        return checked_number(f"the argument {name}", value, OptionError)
    return value


def option_types(method: Method) -> dict[str, Any]:
    """The type of every option by name."""
    return types_of(method.options)


def parse_value(name: str, text: str, kind: Any) -> Any:
    """Read one value.

    Raises:
        OptionError: The text is no value of that type; the message says what is expected.
    """
    found = _read(text, kind)
    if found is _UNREADABLE:
        raise OptionError(f"the option {name} is {text!r}; expected {expected(kind)}")
    return found


def expected(kind: Any) -> str:
    """What a value of a type looks like, in words."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(expected(part) for part in parts if part is not type(None)) + (
            ", or none" if type(None) in parts else ""
        )
    if origin is Literal:
        return " or ".join(map(str, parts))
    if origin in (tuple, list):
        if parts[:1] == (int,):
            return "whole numbers such as 0,1,2 or a range such as 0:10"
        inner = parts[0] if parts else str
        return f"{expected(inner)} (several with commas between)"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(kind, "a value that only Python can give")


def option_rows(method: Method) -> list[dict[str, Any]]:
    """Name, default, expected value and help of every option."""
    kinds = option_types(method)
    rows = []
    for option in fields(method.options):
        default = _default(option)
        rows.append(
            {
                "name": option.name,
                "default": default,
                "expected": expected(kinds[option.name]),
                "help": str(option.metadata.get("help", "")),
            }
        )
    return rows


def written(value: Any) -> str:
    """A value as the command line takes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(map(written, value)) or "(empty)"
    return f"{value:g}" if isinstance(value, float) else str(value)


def whole_numbers(text: str) -> tuple[int, ...] | None:
    """The numbers of ``0,1,2``, ``0:10`` (the end is left out), ``0:10:2`` or a mixture; None when unreadable."""
    numbers: list[int] = []
    for part in text.split(","):
        bounds = [_whole(piece) for piece in part.split(":")]
        if len(bounds) > 3 or any(bound is None for bound in bounds):
            return None
        if len(bounds) == 1:
            numbers.append(bounds[0] or 0)
            continue
        start, stop, *rest = (bound or 0 for bound in bounds)
        if rest == [0] or len(numbers) - (start - stop) // (rest or [1])[0] > MOST:
            return None
        numbers += range(start, stop, *rest)
    return tuple(numbers)


class _Unreadable:
    """Stands for a text that is no value; None is one."""


_UNREADABLE = _Unreadable()


def _read(text: str, kind: Any) -> Any:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        if type(None) in parts and text.casefold() == "none":
            return None
        found = (_read(text, part) for part in parts if part is not type(None))
        return next((value for value in found if value is not _UNREADABLE), _UNREADABLE)
    if origin is Literal:
        return next((part for part in parts if str(part) == text), _UNREADABLE)
    if origin in (tuple, list):
        return _read_several(text, parts)
    if kind is bool:
        lower = text.casefold()
        return True if lower in YES else False if lower in NO else _UNREADABLE
    if kind is int:
        number = _whole(text)
        return _UNREADABLE if number is None else number
    if kind is float:
        try:
            return float(text)
        except ValueError:
            return _UNREADABLE
    return text if kind is str else _UNREADABLE


def _read_several(text: str, parts: Sequence[Any]) -> Any:
    inner = parts[0] if parts else str
    if text in {"", "none", "()"}:
        return ()
    if inner is int:
        numbers = whole_numbers(text)
        return _UNREADABLE if numbers is None else numbers
    values = tuple(_read(piece.strip(), inner) for piece in text.split(","))
    return _UNREADABLE if _UNREADABLE in values else values


def _whole(text: str) -> int | None:
    digits = text.strip()
    if not digits.lstrip("+-").isdecimal() or len(digits) > 20:
        return None
    try:
        return int(digits)
    except ValueError:
        return None


def _default(option: Field[Any]) -> Any:
    if option.default is not MISSING:
        return option.default
    return option.default_factory() if option.default_factory is not MISSING else None


def _example(kinds: Mapping[str, Any]) -> str:
    return f"{next(iter(kinds), 'name')}=value"
