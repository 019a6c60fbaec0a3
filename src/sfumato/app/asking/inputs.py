"""What visitors give, read and checked: pictures and drawn masks as data, requests and options as plain values.

The page takes ids and values, never paths or names of models: options that name something on the disk
(``disk`` in their metadata) cannot be given. Patterns (``pattern``) are bounded, since matching an evil one holds the
whole process for years.
"""

from __future__ import annotations

import base64
import math
import re
import typing
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.errors import OptionError, RequestError
from sfumato.inputs.image import Picture, decoded, read_mask
from sfumato.options import expected, option_types, parse_value
from sfumato.registry import Method
from sfumato.request import ABOUT, SEEDS

MOST_BYTES = 8_000_000
MOST_PIXELS = 4096 * 2048
MOST_STEPS = 200
MOST_TEXT = 2000
REQUEST_LIMITS = {"seed": SEEDS - 1, "steps": MOST_STEPS, "guidance": 100}
"""The most of a request's numbers that visitors may ask for."""
LIMITS = {
    "budget_mb": 500.0,
    "memory": 1000.0,
    "samples": 2000.0,
    "masks": 5000.0,
    "budget": 4000.0,
    "at_once": 16.0,
    "rows": 64.0,
    "superpixels": 400.0,
    "clusters": 64.0,
    "most": 100.0,
    "together": 16.0,
    "groups": 50.0,
    "through": float(MOST_STEPS),
    "every": float(MOST_STEPS),
    "grid": 64.0,
    "draw": float(SEEDS - 1),
    "seed": float(SEEDS - 1),
}
"""The most that a visitor may ask for, by option."""
MOST_WHOLE = 100_000
"""Of options that are whole numbers and have no limit of their own."""
LENGTHS = {"at": MOST_STEPS, "steps": MOST_STEPS, "switch.at": 32, "text": 16, "concepts": 32, "background": 16}
"""How many values an option may have, by option or METHOD.OPTION; `MOST_VALUES` elsewhere."""
MOST_VALUES = 64
MOST_STARS = 3
PATTERNS = {
    "glob": (re.compile(r"[\w.,:*? -]{0,200}"), "letters, digits and . , : * ? - _"),
    "regex": (re.compile(r"[\w.,:|^$\[\]\\ -]{0,200}"), "letters, digits and . , : | ^ $ [ ] - _ and none that repeat"),
}
"""Of each kind of pattern, what is taken: a glob of few stars, a regular expression in which nothing repeats."""


def picture_from(data: str, what: str = "the picture") -> Picture:
    """A picture that came as a data URL.

    Args:
        data: "data:image/png;base64,..." of a PNG, JPEG or WebP.
        what: How messages call it.

    Raises:
        RequestError: It is none, damaged, or too large.
    """
    return Picture.of(_decoded(data, what))


def mask_from(data: str, size: tuple[int, int], what: str = "the mask") -> NDArray[np.bool_]:
    """A mask that was drawn: (y, x), true inside.

    Args:
        data: As for ``picture_from``.
        size: Height and width of the image.
        what: How messages call it.

    Raises:
        RequestError: It is no mask of that size; see `sfumato.inputs.image.read_mask`.
    """
    return read_mask(_decoded(data, what), size, what)


def _decoded(data: str, what: str) -> Image.Image:
    head, comma, body = str(data).partition(",")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise RequestError(f"{what} is no picture; give a PNG, JPEG or WebP file")
    if len(body) * 3 // 4 > MOST_BYTES:
        raise RequestError(f"{what} has {len(body) * 3 / 4e6:.0f} MB; at most {MOST_BYTES / 1e6:.0f} are taken")
    try:
        content = base64.b64decode(body, validate=True)
    except ValueError as error:
        raise RequestError(f"{what} cannot be read; give a whole PNG, JPEG or WebP file") from error
    return decoded(content, what, most=MOST_PIXELS)


def options_from(method: Method, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the form gives them: text by name, read by the type of each; nothing is cached between visitors.

    Raises:
        OptionError: One is unknown, cannot be given on the page, is unreadable, or asks for too much.
    """
    kinds = option_types(method)
    offered = offered_options(method)
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in offered:
            known = ", ".join(offered) or "none"
            raise OptionError(f"{method.name} has no option {name!r} on this page; its options here are: {known}")
        if len(str(text)) > MOST_TEXT:
            raise OptionError(f"the option {name} has {len(str(text))} characters; at most {MOST_TEXT} are taken")
        if str(text).strip() == "":
            continue
        values[name] = _read(method, name, str(text).strip(), kinds[name])
    check_patterns(method, values)
    return values | {one.name: False for one in fields(method.options) if one.metadata.get("disk") == "cache"}


def check_patterns(method: Method, options: Mapping[str, Any]) -> None:
    """Refuse patterns that could take long to match.

    Args:
        method: Its options say which of them are patterns.
        options: Values by name.

    Raises:
        OptionError: A pattern has other signs than are taken, or too many stars.
    """
    for option in fields(method.options):
        kind, value = option.metadata.get("pattern"), options.get(option.name)
        if kind is not None and value is not None:
            for one in (value,) if isinstance(value, str) else value:
                check_pattern(option.name, str(one), kind)


def check_pattern(name: str, text: str, kind: str = "glob") -> None:
    """Refuse a pattern that could take long to match.

    Args:
        name: How messages call it.
        text: The pattern.
        kind: One of `PATTERNS`.

    Raises:
        OptionError: It has other signs than are taken, or too many stars.
    """
    allowed, said = PATTERNS[kind]
    if not allowed.fullmatch(text):
        raise OptionError(f"{name} is {text[:40]!r}; on this page at most 200 signs are taken: {said}")
    if text.count("*") > MOST_STARS:
        raise OptionError(f"{name} is {text[:40]!r}; on this page at most {MOST_STARS} stars are taken")


def _read(method: Method, name: str, text: str, kind: Any) -> Any:
    """The value of an option, within the bounds of the page."""
    if not _several(kind):
        value = parse_value(name, text, kind)
        _check_most(name, value)
        return value
    most = LENGTHS.get(f"{method.name}.{name}", LENGTHS.get(name, MOST_VALUES))
    found: list[Any] = []
    for piece in text.split(","):  # one by one, since a short text may stand for many ranges
        if not piece.strip():
            raise OptionError(f"the option {name} is {text[:40]!r}; expected {expected(kind)}")
        value = parse_value(name, piece.strip(), kind)
        if value is None:
            if text.strip() != piece.strip():
                raise OptionError(f"the option {name} is {text[:40]!r}; give values or none, not both")
            return None
        if len(found) + len(value) > most:
            raise OptionError(f"the option {name} has more than {most} values; on this page at most {most} are taken")
        found += value
    for value in found:
        _check_most(name, value, MOST_WHOLE)
    return tuple(found)


def _several(kind: Any) -> bool:
    """Whether a type is that of several values, or may be."""
    return typing.get_origin(kind) is tuple or any(typing.get_origin(part) is tuple for part in typing.get_args(kind))


def _check_most(name: str, value: Any, most: float | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    most = LIMITS.get(name, float(MOST_WHOLE) if isinstance(value, int) else math.inf) if most is None else most
    if not math.isfinite(value) or value > most:
        raise OptionError(f"the option {name} is {value:g}; on this page at most {most:.12g} are taken")
    if isinstance(value, int) and value < 0:
        raise OptionError(f"the option {name} is {value}; expected 0 or more")


def offered_options(method: Method) -> list[str]:
    """The options that the page asks for: all that name nothing on the disk."""
    return [one.name for one in fields(method.options) if "disk" not in one.metadata]


def request_field(field: str, text: Any, name: str = "") -> Any:
    """The number in a field of a request, within its bounds and those of the page; None where it was left empty.

    Args:
        field: Its name.
        text: What was written.
        name: What messages call it; by default as the field.

    Raises:
        RequestError: It is none, or out of bounds.
    """
    about = ABOUT[field]
    read = number if about["kind"] is int else decimal
    return read(name or field, text, about["least"], REQUEST_LIMITS[field])


def request_fields(*, seed: Any, steps: Any, guidance: Any) -> dict[str, Any]:
    """The numbers of a request that every tab has, those that were left empty as a request has them by default.

    Raises:
        RequestError: One is unreadable, or out of bounds.
    """
    return {
        "seed": request_field("seed", seed, "the seed") or 0,
        "steps": request_field("steps", steps),
        "guidance": request_field("guidance", guidance),
    }


def number(name: str, text: Any, low: int, high: int) -> int | None:
    """A whole number of a field; None where it was left empty.

    Raises:
        RequestError: It is none, or out of bounds.
    """
    if text is None or str(text).strip() == "":
        return None
    try:
        value = int(str(text).strip())
    except ValueError as error:
        raise RequestError(f"{name} is {str(text)[:40]!r}; expected a whole number from {low} to {high}") from error
    if not low <= value <= high:
        raise RequestError(f"{name} is {value}; expected a whole number from {low} to {high}")
    return value


def decimal(name: str, text: Any, low: float, high: float) -> float | None:
    """A number of a field; None where it was left empty.

    Raises:
        RequestError: It is none, or out of bounds.
    """
    if text is None or str(text).strip() == "":
        return None
    try:
        value = float(str(text).strip())
    except ValueError as error:
        raise RequestError(f"{name} is {str(text)[:40]!r}; expected a number from {low:g} to {high:g}") from error
    if not low <= value <= high:
        raise RequestError(f"{name} is {value:g}; expected a number from {low:g} to {high:g}")
    return value
