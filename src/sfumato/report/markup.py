"""HTML from text and numbers: everything that a user wrote is escaped, everything invisible is made visible."""

from __future__ import annotations

import base64
import html
import io
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from sfumato.plots.overlays import COLORMAP, colours, stretched

_JOINERS = {"\u200c", "\u200d"}  # inside emoji and Persian words they belong to the letters around them


def visible(text: str) -> str:
    """Text with its invisible and direction-changing characters written as code points, such as [U+202E]."""
    lonely = not any(c.isprintable() and not c.isspace() for c in text)
    return "".join(c if c.isprintable() or (c in _JOINERS and not lonely) else f"[U+{ord(c):04X}]" for c in text)


def escaped(text: object) -> str:
    """Text for an element or an attribute."""
    return html.escape(visible(str(text)))


def isolated(text: object) -> str:
    """Text that a user wrote, in an element of its own, so that its direction disturbs nothing around it."""
    return f'<bdi dir="auto">{escaped(text)}</bdi>'


def number(value: object, digits: int = 4) -> str:
    """A number as people read it; a dash for one that is not defined."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return f"{float(value):.{digits}g}" if math.isfinite(value) else "–"
    return escaped(value)


def percent(value: float | None) -> str:
    """A share as people read it."""
    if value is None:
        return "–"
    return f"{value:.0%}" if value >= 0.0995 else f"{value:.1%}"


def meter(value: float | None) -> str:
    """A table cell with a share and a bar of its size."""
    if value is None:
        return '<td class="n">–</td>'
    size = f"{100 * min(max(value, 0), 1):.1f}%"
    return f'<td class="n"><span class="meter" style="--share:{size}"></span>{percent(value)}</td>'


def table(head: Iterable[str], rows: Iterable[str], kind: str = "") -> str:
    """A table that scrolls sideways where it is too wide, from the HTML of its head's cells and whole rows."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    header = f"<thead><tr>{top}</tr></thead>" if top else ""
    return f'<div class="scroll"><table class="{kind}">{header}<tbody>{"".join(rows)}</tbody></table></div>'


def pairs(values: Mapping[str, Any]) -> str:
    """A mapping as a table of names and values; what is nested in it, also in lists, has a row of its own."""
    rows = [f'<tr><th scope="row">{escaped(name)}</th><td>{_value(value)}</td></tr>' for name, value in _flat(values)]
    return table((), rows, "pairs")


def picture_uri(picture: Image.Image, quality: int | None = None) -> str:
    """A picture inside the page: PNG, or JPEG at a quality."""
    buffer = io.BytesIO()
    if quality is None:
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture.convert("RGB").save(buffer, "JPEG", quality=quality, optimize=True)
    kind = "png" if quality is None else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def heat_picture(heat: ArrayLike, signed: bool = False) -> Image.Image:
    """A map in colours, one pixel per cell: weak to strong, or blue below and red above zero. NaN is grey.

    Booleans are dark and bright; other maps are stretched to their own range.
    """
    given = np.asarray(heat)
    values = given.astype(np.float64)
    known = np.isfinite(values)
    filled = np.where(known, values, values[known].min() if known.any() else 0.0)
    if signed:
        most = float(np.abs(filled).max()) or 1.0
        strength, name = 0.5 + filled / (2 * most), "RdBu_r"
    else:
        strength, name = (values if given.dtype == bool else stretched(filled)), COLORMAP
    steps = np.round(255 * strength).astype(np.uint8)
    if not known.all():
        rgb = colours(name)[steps]
        rgb[~known] = 128
        return Image.fromarray(rgb)
    picture = Image.fromarray(steps)
    picture.putpalette(colours(name).tobytes())  # a third of the size of three channels
    return picture


def packed(heat: NDArray[np.float32]) -> dict[str, Any]:
    """A map for the page's script: 16-bit steps from its minimum to its maximum, little-endian, base64."""
    low, high = float(heat.min()), float(heat.max())
    steps = np.round(65535 * stretched(heat)).astype("<u2")
    return {"map": base64.b64encode(steps.tobytes()).decode(), "low": low, "high": high, "grid": list(heat.shape)}


def _flat(values: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        label = f"{above}{name}".replace("_", " ")
        if isinstance(value, Mapping) and value:
            found += _flat(value, f"{label} · ")
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            found += _flat({_item(place, item): item for place, item in enumerate(value, 1)}, f"{label} · ")
        else:
            found.append((label, value))
    return found


def _item(place: int, item: Any) -> str:
    """What an item of a list is called: by its number, and by its method where it is of one."""
    method = item.get("method") if isinstance(item, Mapping) else None
    return f"{place}" if method is None else f"{place}, {method}"


def _value(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return '<span class="quiet">none</span>'
    if isinstance(value, list):
        return "<br>".join(_value(item) for item in value)
    if isinstance(value, str) and re.fullmatch(r"https?://[^\s<>\"']+", value):
        return f'<a href="{escaped(value)}" rel="noopener noreferrer">{escaped(value)}</a>'
    return isolated(value) if isinstance(value, str) else number(value, 6)
