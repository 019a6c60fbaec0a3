"""Some images of a run at a glance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIDE, TEXT, GAP, COLUMNS = 160, 16, 6, 4


def contact_sheet(pictures: Sequence[tuple[str, NDArray[np.uint8]]]) -> Image.Image | None:
    """Pictures in rows, each with its title below; None where there are none.

    Args:
        pictures: A title and (y, x, 3) of uint8 for each.
    """
    if not pictures:
        return None
    columns = min(COLUMNS, len(pictures))
    lines = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (SIDE + GAP) + GAP, lines * (SIDE + TEXT + GAP) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (title, pixels) in enumerate(pictures):
        left, top = GAP + place % columns * (SIDE + GAP), GAP + place // columns * (SIDE + TEXT + GAP)
        image = Image.fromarray(pixels)
        image.thumbnail((SIDE, SIDE))
        scaled = image if max(image.size) == SIDE else image.resize(_fitted(image.size), Image.Resampling.NEAREST)
        sheet.paste(scaled, (left + (SIDE - scaled.width) // 2, top + (SIDE - scaled.height) // 2))
        while title and draw.textlength(title) > SIDE:
            title = title[:-2].rstrip("…") + "…"
        draw.text((left, top + SIDE + 2), title, fill="black")
    return sheet


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    scale = SIDE / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
