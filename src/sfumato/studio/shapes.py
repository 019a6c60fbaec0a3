"""The shapes of the scenes: outlines, colours, tones of textures, and how they are drawn without jagged edges."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw

SIZE = 128
"""Height and width of a scene in pixels."""

SUPERSAMPLE = 4
"""Scenes are drawn this many times larger and then averaged down."""

SHAPES = ("circle", "ring", "square", "diamond", "triangle", "star", "cross", "heart")
COHYPONYMS: dict[str, tuple[str, ...]] = {
    "round": ("circle", "ring"),
    "polygons": ("square", "diamond", "triangle"),
    "symbols": ("star", "cross", "heart"),
}
"""Which nouns are kinds of the same thing."""

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (240, 210, 40),
    "purple": (150, 60, 190),
    "orange": (245, 140, 30),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
SECOND_TONES: dict[str, RGB] = {
    "red": (130, 15, 25),
    "green": (15, 95, 35),
    "blue": (140, 165, 250),
    "yellow": (170, 140, 10),
    "purple": (85, 25, 115),
    "orange": (255, 200, 135),
    "white": (190, 190, 190),
    "black": (75, 75, 75),
}
"""The lighter or darker tone of each colour that stripes and dots are painted in."""

BACKGROUNDS: dict[str, RGB] = {
    "gray": (128, 128, 128),
    "pink": (250, 190, 205),
    "brown": (120, 80, 50),
    "teal": (40, 140, 145),
}
SIZES = ("small", "large")
TEXTURES = ("striped", "dotted")

RING_HOLE = 0.54
"""Radius of a ring's hole as a share of the ring's radius."""

BAND = 7.0
"""Height of one stripe in pixels."""

DOT_RADIUS = 4.0
DOT_SPACING = 13.0


def _star() -> list[tuple[float, float]]:
    points = []
    for i in range(10):
        reach = (1.0 if i % 2 == 0 else 0.45) / 0.951
        angle = -math.pi / 2 + i * math.pi / 5
        points.append((reach * math.cos(angle), reach * math.sin(angle) + 0.1))
    return points


def _heart() -> list[tuple[float, float]]:
    points = []
    for i in range(64):
        t = 2 * math.pi * i / 64
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((math.sin(t) ** 3, -(y + 2.53) / 16))
    return points


_ARM = 0.34
OUTLINES: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "diamond": [(0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)],
    "triangle": [(0.0, -0.9), (1.0, 0.9), (-1.0, 0.9)],
    "star": _star(),
    "cross": [
        (-_ARM, -1.0), (_ARM, -1.0), (_ARM, -_ARM), (1.0, -_ARM), (1.0, _ARM), (_ARM, _ARM),
        (_ARM, 1.0), (-_ARM, 1.0), (-_ARM, _ARM), (-1.0, _ARM), (-1.0, -_ARM), (-_ARM, -_ARM),
    ],
    "heart": _heart(),
}  # fmt: skip
"""Corners (x, y) of each straight-edged or sampled shape for radius 1, centred on its bounding box."""


def stencil(shape: str, x: float, y: float, radius: float, extent: int = SIZE) -> Image.Image:
    """Draw one shape as a supersampled black and white mask.

    Args:
        shape: One of `SHAPES`.
        x: Centre of the bounding box from the left edge, in pixels.
        y: Centre of the bounding box from the upper edge, in pixels.
        radius: Half of the shape's width in pixels (0.85 of it for a square).
        extent: Height and width of the mask in (not supersampled) pixels.

    Returns:
        An image of mode "L", `SUPERSAMPLE * extent` high and wide: 255 inside the shape, else 0.
    """
    scale = SUPERSAMPLE
    mask = Image.new("L", (extent * scale, extent * scale), 0)
    draw = ImageDraw.Draw(mask)
    if shape in ("circle", "ring"):
        _disc(draw, x, y, radius, 255)
        if shape == "ring":
            _disc(draw, x, y, radius * RING_HOLE, 0)
    else:
        corners = [((x + radius * u) * scale - 0.5, (y + radius * v) * scale - 0.5) for u, v in OUTLINES[shape]]
        draw.polygon(corners, fill=255)
    return mask


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: int) -> None:
    left, top = (x - radius) * SUPERSAMPLE, (y - radius) * SUPERSAMPLE
    side = 2 * radius * SUPERSAMPLE - 1
    draw.ellipse([left, top, left + side, top + side], fill=fill)


def pattern(texture: str, x: float, y: float, radius: float) -> Image.Image:
    """Draw the places of a texture's second tone around one object, before clipping to its shape.

    Stripes are horizontal bands; dots stand in staggered rows. Both are anchored at the object's centre, where
    a stripe shows the first tone and a dot the second.

    Args:
        texture: "striped" or "dotted".
        x: As in `stencil`.
        y: As in `stencil`.
        radius: As in `stencil`.

    Returns:
        An image of mode "L" as `stencil` gives it: 255 where the second tone belongs.
    """
    scale = SUPERSAMPLE
    mask = Image.new("L", (SIZE * scale, SIZE * scale), 0)
    draw = ImageDraw.Draw(mask)
    if texture == "striped":
        bands = math.ceil(radius / BAND) + 1
        for band in range(-bands, bands + 1):
            if band % 2:
                top = (y + (band - 0.5) * BAND) * scale
                draw.rectangle([(x - radius) * scale, top, (x + radius) * scale, top + BAND * scale - 1], fill=255)
    else:
        rows = math.ceil(radius / (DOT_SPACING * 0.87)) + 1
        for row in range(-rows, rows + 1):
            for column in range(-rows, rows + 1):
                shift = 0.5 if row % 2 else 0.0
                _disc(draw, x + (column + shift) * DOT_SPACING, y + row * DOT_SPACING * 0.87, DOT_RADIUS, 255)
    return mask


def paint(
    things: Sequence[tuple[str, str, str | None, float, float, float]], background: str
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Paint things in order on a plain background; later ones cover earlier ones.

    Args:
        things: (shape, colour, texture, x, y, radius) of each.
        background: One of `BACKGROUNDS`.

    Returns:
        The image (y, x, channel) and the visible pixels of each thing (thing, y, x). A pixel belongs to whatever
        covers most of it, so the masks of things never overlap.
    """
    scale = SUPERSAMPLE
    canvas = Image.new("RGB", (SIZE * scale, SIZE * scale), BACKGROUNDS[background])
    stencils: list[Image.Image] = []
    for shape, colour, texture, x, y, radius in things:
        mask = stencil(shape, x, y, radius)
        canvas.paste(COLOURS[colour], mask=mask)
        if texture is not None:
            canvas.paste(SECOND_TONES[colour], mask=ImageChops.multiply(mask, pattern(texture, x, y, radius)))
        stencils = [ImageChops.subtract(earlier, mask) for earlier in stencils]
        stencils.append(mask)
    image = np.asarray(canvas.reduce(scale))
    coverage = np.stack([np.asarray(mask.reduce(scale)) for mask in stencils]).astype(np.int16)  # (thing, y, x)
    rest = 255 - coverage.sum(axis=0)
    best = coverage.argmax(axis=0)
    owned = coverage.max(axis=0) > rest
    masks = (best[None] == np.arange(len(stencils))[:, None, None]) & owned[None]
    return image, masks
