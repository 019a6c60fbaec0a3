"""How much each word is worth, beside the images that this was read from."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.plots.lettering import families, lettered
from sfumato.results.explanation import Explanation
from sfumato.results.importance import importances, rows_of

MOST_IMAGES = 32
_LETTER = 6.3  # pixels of an average letter of the line below the prompt
_INK, _QUIET, _BAR, _AGAINST, _LINE = "#1d1d1f", "#6e6e73", "#b5532b", "#3f6f94", "#d9d4cb"
_DPI = 120
_TILE, _CAPTION, _ACROSS, _BARS, _EDGE, _HEAD, _ROW = 104, 40, 8, 470, 28, 84, 34  # pixels


def importance_sheet(explanation: Explanation, method: str | None = None, image: int = 0) -> Image.Image:
    """Bars with 95% intervals for every word, and the images of the coalitions from most to least alike.

    Args:
        explanation: By ``shapley``, ``lime`` or several methods.
        method: Which one's worths; by default the first.
        image: Which image of the request.

    Returns:
        An RGB picture.

    Raises:
        SfumatoError: No method of this name says how much each word is worth.
    """
    known = explanation.importance_methods
    chosen = method or next(iter(known), None)
    if chosen is None or chosen not in known:
        raise SfumatoError(
            f"this explanation says nothing of {method or 'the worth of words'}; "
            f"methods that do so are in it: {', '.join(known) or 'none'}"
        )
    found = importances(explanation.tree)[chosen]
    rows = rows_of(found, image)
    about = {"value": found.unit} | found.node.attrs
    coalitions, order = _coalitions(explanation, chosen, image)
    down = -(-len(order) // _ACROSS)
    width = 2 * _EDGE + _BARS + (_EDGE + _ACROSS * (_TILE + 10) - 10 if len(order) else 0)
    height = _HEAD + max(len(rows) * _ROW + 50, down * (_TILE + _CAPTION)) + _EDGE
    return _drawn(explanation, chosen, rows, about, coalitions, order, (height, width))


def _coalitions(explanation: Explanation, method: str, image: int) -> tuple[Any, Any]:
    """The images that worths were read from and their order by value; none for a method that needs no others."""
    if "coalitions" not in explanation.tree[method].children:
        return None, np.array([], dtype=np.intp)
    coalitions = explanation.tree[f"{method}/coalitions"].to_dataset()
    if "image" in coalitions.dims:
        coalitions = coalitions.isel(image=image)
    return coalitions, np.argsort(-coalitions["value"].values, kind="stable")[:MOST_IMAGES]


def _drawn(
    explanation: Explanation,
    method: str,
    rows: list[dict[str, Any]],
    about: dict[Any, Any],
    coalitions: Any,
    order: Any,
    size: tuple[int, int],
) -> Image.Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = size
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    style: dict[str, Any] = {"family": list(families()), "parse_math": False}

    def write(x: float, y: float, text: str, points: float, colour: str, **more: Any) -> None:
        figure.text(x / width, 1 - y / height, text, fontsize=points, color=colour, **style | more)

    write(_EDGE, 40, lettered(explanation.request.subject, 110), 12, _INK)
    how = str(about.get("estimator", ""))
    if "coalitions" in about:
        how += f" on {about['coalitions']} coalitions"
    detail = " · ".join(filter(None, (method, about["value"], how)))
    write(_EDGE, 62, lettered(detail, int((width - 2 * _EDGE) / _LETTER)), 8, _QUIET)
    bottom = _HEAD + len(rows) * _ROW
    label = 128
    axes = figure.add_axes(
        ((_EDGE + label) / width, 1 - bottom / height, (_BARS - label - 56) / width, len(rows) * _ROW / height)
    )
    _bars(axes, rows)
    for place, row in enumerate(rows):
        y = _HEAD + (place + 0.5) * _ROW
        write(_EDGE + label - 10, y + 4, lettered(row["player"], 20), 10, _INK, ha="right")
        share = "" if row["share"] is None else f"{row['share']:.0%}"
        write(_EDGE + _BARS - 2, y + 4, share, 9, _QUIET, ha="right")
    write(_EDGE + label, bottom + 36, "worth, in units of the value; share of all at the right", 7.5, _QUIET)
    sheet = Image.new("RGB", (width, height), "white")
    for place, number in enumerate(order.tolist()):
        x = 2 * _EDGE + _BARS + (place % _ACROSS) * (_TILE + 10)
        y = _HEAD + (place // _ACROSS) * (_TILE + _CAPTION)
        picture = Image.fromarray(np.ascontiguousarray(coalitions["thumbnail"].values[number]))
        picture.thumbnail((_TILE, _TILE))
        sheet.paste(picture, (x, y))
        text = str(coalitions["text"].values[number])
        write(x, y + _TILE + 13, lettered(text, 17) or "(no words)", 6.5, _INK)
        write(x, y + _TILE + 25, f"{float(coalitions['value'].values[number]):.3f}", 6.5, _QUIET)
    figure.figimage(np.asarray(sheet), zorder=-1)
    figure.patch.set_alpha(0)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba()).astype(np.float64)
    return Image.fromarray(np.round(drawn[..., :3]).astype(np.uint8))


def _bars(axes: Any, rows: list[dict[str, Any]]) -> None:
    places = np.arange(len(rows))
    worths = np.array([row["phi"] for row in rows])
    axes.barh(places, worths, height=0.58, color=[_BAR if worth >= 0 else _AGAINST for worth in worths])
    for place, row in zip(places.tolist(), rows, strict=True):
        if row["low"] is not None and row["high"] > row["low"]:
            axes.plot([row["low"], row["high"]], [place, place], color=_INK, linewidth=1.4, solid_capstyle="butt")
    axes.axvline(0, color=_INK, linewidth=0.8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks([])
    axes.margins(x=0.06)
    axes.tick_params(axis="x", labelsize=7, colors=_QUIET, length=3)
    axes.grid(axis="x", color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.patch.set_alpha(0)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_LINE)
