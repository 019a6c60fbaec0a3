"""Pictures of the words of an explanation: one overlay, or a sheet with all of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image

from sfumato.plots.figures import finished
from sfumato.plots.lettering import families, lettered
from sfumato.plots.overlays import overlay
from sfumato.results.explanation import Explanation

_INK, _QUIET = "#1d1d1f", "#6e6e73"
_DPI = 120
_PANEL, _GAP, _CAPTION, _HEAD, _EDGE = 276, 17, 60, 64, 24  # pixels; a panel by its shorter side


def word_overlay(explanation: Explanation, word: str | int, image: int = 0, **drawing: Any) -> Image.Image:
    """One word's map on its image; ``drawing`` goes to ``overlays.overlay``."""
    return overlay(explanation.select(image).image, explanation.word_map(word, image), **drawing)


def word_sheet(
    explanation: Explanation, image: int = 0, *, columns: int | None = None, contour: float | None = None
) -> Image.Image:
    """The image and one overlay per word, with part of speech and coverage, in a grid.

    Args:
        explanation: With the node ``words``.
        image: Which image of the request.
        columns: Panels per row; by default what makes a wide, even sheet.
        contour: Also outline what reaches this share of a map's maximum.

    Returns:
        An RGB picture. Words that the model did not see are shown as the dimmed image, marked "not seen".
    """
    from matplotlib.figure import Figure

    one = explanation.select(image)
    rows = one.word_rows()
    picture, maps = one.image, _maps_by_index(one)
    panels = [picture, *(overlay(picture, maps[row["index"]], contour=contour) for row in rows)]
    captions = [("the image", f"seed {one.request.seed}"), *(_words_about(row, rows) for row in rows)]
    scale = _PANEL / min(picture.size)
    wide, high = round(picture.width * scale), round(picture.height * scale)
    across = columns or _columns(len(panels))
    down = math.ceil(len(panels) / across)
    width = 2 * _EDGE + across * (wide + _GAP) - _GAP
    height = _HEAD + down * (high + _CAPTION) + _EDGE // 2
    sheet = Image.new("RGB", (width, height), "white")
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    style: dict[str, Any] = {"family": list(families()), "parse_math": False}

    def write(x: float, y: float, text: str, size: float, colour: str) -> None:
        figure.text(x / width, 1 - y / height, text, fontsize=size, color=colour, va="baseline", **style)

    write(_EDGE, _HEAD - 26, lettered(one.request.subject, max(12, width // 13)), 12, _INK)
    for place, (panel, (name, detail)) in enumerate(zip(panels, captions, strict=True)):
        x = _EDGE + (place % across) * (wide + _GAP)
        y = _HEAD + (place // across) * (high + _CAPTION)
        sheet.paste(panel.resize((wide, high), Image.Resampling.BICUBIC), (x, y))
        write(x, y + high + 22, name, 11, _INK)
        write(x, y + high + 42, detail, 8, _QUIET)
    figure.figimage(np.asarray(sheet), zorder=-1)
    return finished(figure)


def _maps_by_index(one: Explanation) -> dict[int, Any]:
    words = one.words
    maps = words["map"].transpose("word", "y", "x").values
    return dict(zip(words["index"].values.tolist(), maps, strict=True))


def _columns(panels: int) -> int:
    """As many as leave the fewest gaps among four to six in a row; the widest of those."""
    if panels <= 5:
        return panels
    return min(range(6, 3, -1), key=lambda n: (-panels % n, -n))


def _words_about(row: dict[str, Any], rows: list[dict[str, Any]]) -> tuple[str, str]:
    repeated = sum(other["word"] == row["word"] for other in rows) > 1
    name = lettered(row["word"], 24) + (f" #{row['occurrence']}" if repeated else "")
    if not row["seen"]:
        return name, f"{row['pos']} · not seen"
    if row["out_of_vocabulary"]:
        return name, f"{row['pos']} · {row['coverage']:.0%} · out of vocabulary"
    return name, f"{row['pos']} · {row['coverage']:.0%} of the image"
