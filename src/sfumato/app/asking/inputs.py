"""What visitors give, read and checked: pictures and drawn masks as data, requests and options as plain values.

The page takes ids and values, never paths or names of models: options that name something on the disk
(``disk`` in their metadata) cannot be given.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.errors import OptionError, RequestError
from sfumato.options import option_types, parse_value
from sfumato.pictures import FORMATS, Picture
from sfumato.registry import Method

MOST_BYTES = 8_000_000
MOST_PIXELS = 4096 * 2048
MOST_STEPS = 200
MOST_IMAGES = 4
MOST_TEXT = 2000
LIMITS = {
    "budget_mb": 500.0,
    "memory": 1000.0,
    "samples": 2000.0,
    "masks": 5000.0,
    "budget": 4000.0,
    "at_once": 16.0,
    "rows": 64.0,
    "superpixels": 400.0,
}
"""The most that a visitor may ask for, by option."""


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
    """A mask that was drawn: (y, x), true where it is white, at the size of the image.

    Raises:
        RequestError: It is no picture, or marks nothing or everything.
    """
    image = _decoded(data, what).convert("L")
    if image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.NEAREST)
    inside = np.asarray(image) > 127
    if not inside.any():
        raise RequestError(f"{what} marks nothing; draw on the part that you mean")
    if inside.all():
        raise RequestError(f"{what} marks everything; draw on a part only")
    return inside


def _decoded(data: str, what: str) -> Image.Image:
    head, comma, body = str(data).partition(",")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise RequestError(f"{what} is no picture; give a PNG, JPEG or WebP file")
    if len(body) * 3 // 4 > MOST_BYTES:
        raise RequestError(f"{what} has {len(body) * 3 / 4e6:.0f} MB; at most {MOST_BYTES / 1e6:.0f} are taken")
    try:
        image = Image.open(io.BytesIO(base64.b64decode(body, validate=True)), formats=FORMATS)
        if image.width * image.height > MOST_PIXELS:
            raise RequestError(
                f"{what} is {image.width} x {image.height} pixels; at most {MOST_PIXELS:,} are taken: make it smaller"
            )
        image.load()
    except (binascii.Error, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{what} cannot be read; give a whole PNG, JPEG or WebP file") from error
    return image


def options_from(method: Method, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the form gives them: text by name, read by the type of each.

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
        value = parse_value(name, str(text).strip(), kinds[name])
        most = LIMITS.get(name)
        if most is not None and isinstance(value, int | float) and value > most:
            raise OptionError(f"the option {name} is {value:g}; on this page at most {most:g} are taken")
        values[name] = value
    return values


def offered_options(method: Method) -> list[str]:
    """The options that the page asks for: all that name nothing on the disk."""
    return [one.name for one in fields(method.options) if "disk" not in one.metadata]


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
