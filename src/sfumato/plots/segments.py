"""The parts of an image, outlined and numbered, beside which words go with them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.plots.figures import finished
from sfumato.plots.lettering import families, lettered
from sfumato.plots.overlays import colours, display_size
from sfumato.results.explanation import Explanation

# Told apart by people with any colour vision (Okabe and Ito 2008), the lightest last.
TONES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#8c564b", "#7f7f7f", "#f0e442")
_INK, _QUIET, _DPI = "#1d1d1f", "#6e6e73", 120
_SIDE, _EDGE, _HEAD, _CELL, _NAME = 384, 28, 84, 44, 150  # pixels


def segment_sheet(explanation: Explanation) -> Image.Image:
    """The image with its parts outlined and named, and the similarity of every part and word.

    Args:
        explanation: By ``segments``.

    Returns:
        An RGB picture.

    Raises:
        SfumatoError: There are no segments in it.
    """
    from matplotlib.figure import Figure

    if "segments" not in explanation.tree.children:
        raise SfumatoError(f"this explanation has no segments; its nodes are: {', '.join(explanation.tree.children)}")
    parts = explanation.tree["segments/parts"].to_dataset()
    matches = explanation.tree["segments/matches"].to_dataset()
    drawn = outlined(explanation)
    players, count = matches["player"].values.tolist(), parts.sizes["segment"]
    left = 2 * _EDGE + drawn.width + _NAME
    width = left + count * _CELL + _EDGE
    height = _HEAD + max(drawn.height, len(players) * _CELL // 2 + 70) + _EDGE
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    style: dict[str, Any] = {"family": list(families()), "parse_math": False}

    def write(x: float, y: float, text: str, points: float, colour: str, **more: Any) -> None:
        figure.text(x / width, 1 - y / height, text, fontsize=points, color=colour, **style | more)

    sheet = Image.new("RGB", (width, height), "white")
    sheet.paste(drawn, (_EDGE, _HEAD))
    write(_EDGE, 40, lettered(explanation.request.subject, 80), 12, _INK)
    write(_EDGE, 62, f"segments by {parts.attrs['by']} · {matches.attrs['similarity']}", 8, _QUIET)
    for number in range(count):
        write(left + (number + 0.5) * _CELL, _HEAD - 8, str(number + 1), 9, TONES[number % len(TONES)], ha="center")
    values = matches["similarity"].values.T  # (player, segment)
    shades = colours("Greys")
    spread = float(values.max() - values.min()) or 1.0
    cell = _CELL // 2
    for row, player in enumerate(players):
        y = _HEAD + row * cell
        write(left - 8, y + cell * 0.68, lettered(player, 20), 9, _INK, ha="right")
        for number in range(count):
            strength = (values[row, number] - values.min()) / spread
            shade = tuple(shades[round(170 * strength)].tolist())
            sheet.paste(shade, (left + number * _CELL, y, left + (number + 1) * _CELL - 2, y + cell - 2))
            best = bool(matches["best"].values[row, number])
            ink = "white" if strength > 0.75 else _INK
            text = f"{values[row, number]:.2f}" + ("*" if best else "")
            weight = "bold" if best else "normal"
            write(left + (number + 0.5) * _CELL - 1, y + cell * 0.66, text, 7, ink, ha="center", weight=weight)
    lines = ["* the parts that go best with the word"]
    if bool(parts["neutral"].values.any()):
        neutral = ", ".join(str(n + 1) for n in np.flatnonzero(parts["neutral"].values).tolist())
        lines.append(f"parts with no word: {neutral}")
    for number, line in enumerate(lines):
        write(left - _NAME + 10, _HEAD + len(players) * cell + 26 + 18 * number, line, 7.5, _QUIET)
    figure.figimage(np.asarray(sheet), zorder=-1)
    return finished(figure)


def outlined(explanation: Explanation) -> Image.Image:
    """The image, enlarged, with every part outlined in its tone and numbered."""
    from PIL import ImageDraw

    parts = explanation.tree["segments/parts"].to_dataset()
    image = explanation.image
    height, width = display_size((image.height, image.width), _SIDE)
    factor = height // image.height
    picture = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)).copy()
    masks = parts["mask"].values.repeat(factor, 1).repeat(factor, 2)
    for number, mask in enumerate(masks):
        picture[_edge(mask)] = _rgb(TONES[number % len(TONES)])
    made = Image.fromarray(picture)
    pen = ImageDraw.Draw(made)
    for number, mask in enumerate(masks):
        y, x = _middle(mask)
        pen.ellipse((x - 11, y - 11, x + 11, y + 11), fill=TONES[number % len(TONES)])
        pen.text((x, y), str(number + 1), fill="white", anchor="mm")
    return made


def _edge(mask: NDArray[np.bool_], width: int = 2) -> NDArray[np.bool_]:
    inner = mask.copy()
    for _ in range(width):
        padded = np.pad(inner, 1, constant_values=False)
        inner = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _middle(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """The place deepest inside a part, where its number hides least."""
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return int(y), int(x)


def _rgb(tone: str) -> tuple[int, int, int]:
    return int(tone[1:3], 16), int(tone[3:5], 16), int(tone[5:7], 16)
