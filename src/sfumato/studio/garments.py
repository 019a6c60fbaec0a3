"""Procedural garments of 128 x 128 pixels: a reference picture, a scene that wears it, and which pixel came from where.

A pair is a reference (the garment laid flat on a light ground), a scene (a figure before a backdrop), a mask over the
figure's chest, and the target: the same garment drawn into the mask, scaled, shifted, turned and bent. Because the
garment is placed here, the place in the reference that each pixel of the target shows is known exactly.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

SIZE = 128
"""Height and width of all pictures in pixels."""

SUPERSAMPLE = 2
"""Pictures are drawn this many times larger and then averaged down."""

SPAN = 64
"""Height and width of all pictures in the units that garments and placings are measured in."""

LARGE = SIZE * SUPERSAMPLE / SPAN
"""Pixels of a large drawing in a unit."""

MARGIN = 4
"""By how many pixels the mask reaches beyond the garment, to all sides."""

SHAPES = ("shirt", "vest", "dress", "panel")
PATTERNS = ("plain", "rows", "columns", "diagonals", "dots", "checks")
LOGOS = ("circle", "square", "triangle", "star", "cross", "A", "E", "H", "K")

RGB = tuple[int, int, int]
Bitmap = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Points = list[tuple[float, float]]

COLOURS: dict[str, RGB] = {
    "red": (205, 40, 45), "orange": (235, 130, 30), "yellow": (240, 205, 50), "green": (50, 150, 70),
    "teal": (30, 150, 160), "blue": (45, 80, 190), "purple": (125, 60, 165), "pink": (235, 130, 175),
    "white": (245, 245, 240), "black": (35, 35, 40),
}  # fmt: skip
_WALLS: tuple[RGB, ...] = (
    (196, 188, 172), (150, 170, 185), (170, 185, 160), (200, 175, 175), (120, 130, 145), (215, 210, 200),
)  # fmt: skip
_SKINS: tuple[RGB, ...] = ((241, 194, 155), (224, 172, 122), (198, 134, 88), (141, 88, 54), (92, 57, 38))
_LEGS: tuple[RGB, ...] = ((60, 65, 90), (90, 80, 70), (50, 50, 50), (105, 115, 125))

_OUTLINES: dict[str, Points] = {
    "shirt": [
        (-9, -24), (-4, -20), (4, -20), (9, -24), (22, -15), (18, -4), (13, -7), (14, 24), (-14, 24), (-13, -7),
        (-18, -4), (-22, -15),
    ],
    "vest": [(-11, -24), (-7, -13), (7, -13), (11, -24), (16, -22), (15, 0), (17, 24), (-17, 24), (-15, 0), (-16, -22)],
    "dress": [
        (-8, -25), (-4, -19), (4, -19), (8, -25), (13, -22), (10, -4), (21, 25), (-21, 25), (-10, -4), (-13, -22),
    ],
    "panel": [(-16, -22), (16, -22), (18, 0), (15, 23), (-15, 23), (-18, 0)],
}  # fmt: skip
"""Around the middle of the reference, in units, x to the right and y down."""


@dataclass(frozen=True)
class Logo:
    """A mark on a garment: its kind, colour, and middle and size in units of the reference."""

    kind: str
    colour: str
    x: float
    y: float
    size: float


@dataclass(frozen=True)
class Garment:
    """What a garment looks like: one of `SHAPES`, one of `PATTERNS` in two of `COLOURS`, and marks.

    Attributes:
        period: Of the pattern, in units.
        yoke: Colour of the part above `yoke_end` (a y of the reference), where the pattern does not reach.
    """

    shape: str
    pattern: str
    base: str
    accent: str
    period: float
    yoke: str | None
    yoke_end: float
    logos: tuple[Logo, ...]


@dataclass(frozen=True)
class Placing:
    """How the garment lies in the scene: its middle, size and turn (radians), and how far it is bent; in units."""

    x: float
    y: float
    across: float
    down: float
    turn: float
    bend: float

    def source(self, y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The places in the reference that places of the target show, all in units: (..., 2) as y, x."""
        right, below = x - self.x, y - self.y
        u = (right * math.cos(self.turn) + below * math.sin(self.turn)) / self.across
        v = (-right * math.sin(self.turn) + below * math.cos(self.turn)) / self.down
        u = u - self.bend * np.cos(math.pi * v / 50)
        return np.stack((v + SPAN / 2, u + SPAN / 2), axis=-1)

    def target(self, u: float, v: float) -> tuple[float, float]:
        """The place (x, y) in the target of a place around the middle of the garment."""
        u, v = (u + self.bend * math.cos(math.pi * v / 50)) * self.across, v * self.down
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        return self.x + u * cos - v * sin, self.y + u * sin + v * cos


@dataclass(frozen=True)
class Pair:
    """A reference, a scene and what should come of them.

    Attributes:
        garment: What is worn.
        placing: How it lies.
        reference: (y, x, channel) uint8, the garment laid flat.
        reference_mask: (y, x), where the garment is on it.
        scene: (y, x, channel) uint8, the figure without the garment.
        mask: (y, x), what is to be painted.
        target: (y, x, channel) uint8, the figure wearing the garment.
        worn: (y, x), where the garment is on the target; it lies inside the mask.
        source: (y, x, 2) float32, the place (y, x) in the reference that each pixel of the target shows; NaN where the
            garment is not; in pixels, the middle of the first being 0.5.
    """

    garment: Garment
    placing: Placing
    reference: Bitmap
    reference_mask: Mask
    scene: Bitmap
    mask: Mask
    target: Bitmap
    worn: Mask
    source: npt.NDArray[np.float32]


def pair(seed: int) -> Pair:
    """The pair with this seed: the same one, bit for bit, every time."""
    rng = random.Random(seed)
    garment = random_garment(rng)
    placing = Placing(
        x=SPAN / 2 + rng.uniform(-6, 6),
        y=SPAN / 2 + 3 + rng.uniform(-4, 4),
        across=rng.uniform(0.68, 1.0),
        down=rng.uniform(0.68, 0.95),
        turn=math.radians(rng.uniform(-18, 18)),
        bend=rng.uniform(-3.5, 3.5),
    )
    scene = _scene(rng, placing)
    cloth, cut = _sheet(garment)
    places = placing.source(*_middles(SIZE * SUPERSAMPLE))
    drawn, inside = _looked_up(cloth, cut, places)
    target, share = _laid_over(_reduced(np.asarray(scene, np.float64)), drawn, inside)
    worn = share >= 0.5
    return Pair(
        garment,
        placing,
        reference(garment),
        _share(cut) >= 0.5,
        _rounded(_reduced(np.asarray(scene, np.float64))),
        _grown(share > 0, MARGIN),
        _rounded(target),
        worn,
        np.where(worn[..., None], placing.source(*_middles(SIZE)) * SIZE / SPAN, np.nan).astype(np.float32),
    )


def random_garment(rng: random.Random) -> Garment:
    """A garment with colours that can be told apart."""
    base, accent, third, fourth = rng.sample(sorted(COLOURS), 4)
    yoke = rng.random() < 0.4
    end = SPAN / 2 + rng.uniform(-12, -2)
    logos = []
    for number, colour in enumerate((third, fourth)[: rng.choice((1, 1, 2))]):
        size = rng.uniform(12, 17)
        above = rng.uniform(-10, -2) if number == 0 else rng.uniform(11, 15)
        logos.append(Logo(rng.choice(LOGOS), colour, SPAN / 2 + rng.uniform(-6, 6), SPAN / 2 + above, size))
    return Garment(
        rng.choice(SHAPES),
        rng.choice(PATTERNS),
        base,
        accent,
        rng.uniform(9, 14),
        rng.choice([name for name in sorted(COLOURS) if name not in {base, accent, third}]) if yoke else None,
        end,
        tuple(logos),
    )


def reference(garment: Garment) -> Bitmap:
    """The garment laid flat on a light ground: (y, x, channel) uint8."""
    cloth, cut = _sheet(garment)
    ground = np.full((SIZE, SIZE, 3), 228.0)
    return _rounded(_laid_over(ground, cloth, cut)[0])


def worn_as(garment: Garment, placing: Placing, scene: Bitmap) -> Bitmap:
    """A scene with a garment in place: (y, x, channel) uint8."""
    drawn, inside = _looked_up(*_sheet(garment), placing.source(*_middles(SIZE * SUPERSAMPLE)))
    return _rounded(_laid_over(np.asarray(scene, np.float64), drawn, inside)[0])


def variants(garment: Garment) -> dict[str, dict[str, Garment]]:
    """The garments that differ in one thing alone: by "pattern", "base" or "logo", then by that thing's name."""
    mark = garment.logos[0]
    rest = garment.logos[1:]
    return {
        "pattern": {name: replace(garment, pattern=name) for name in PATTERNS},
        "base": {name: replace(garment, base=name) for name in COLOURS},
        "logo": {kind: replace(garment, logos=(replace(mark, kind=kind), *rest)) for kind in LOGOS},
    }


def _sheet(garment: Garment) -> tuple[Bitmap, Mask]:
    """The garment drawn large: colours (y, x, channel) and where it is (y, x)."""
    side = SIZE * SUPERSAMPLE
    canvas = Image.new("RGB", (side, side), COLOURS[garment.base])
    draw = ImageDraw.Draw(canvas)
    _PATTERNS[garment.pattern](draw, COLOURS[garment.accent], garment.period * LARGE, side)
    if garment.yoke is not None:
        draw.rectangle((0, 0, side, garment.yoke_end * LARGE), fill=COLOURS[garment.yoke])
    for logo in garment.logos:
        _draw_logo(draw, logo)
    cut = Image.new("1", (side, side))
    middle = SPAN / 2
    ImageDraw.Draw(cut).polygon(_scaled([(middle + u, middle + v) for u, v in _OUTLINES[garment.shape]]), fill=1)
    return np.asarray(canvas), np.asarray(cut)


def _rows(draw: ImageDraw.ImageDraw, colour: RGB, period: float, side: int) -> None:
    for top in np.arange(0, side, period).tolist():
        draw.rectangle((0, top, side, top + 0.45 * period), fill=colour)


def _columns(draw: ImageDraw.ImageDraw, colour: RGB, period: float, side: int) -> None:
    for left in np.arange(0, side, period).tolist():
        draw.rectangle((left, 0, left + 0.45 * period, side), fill=colour)


def _diagonals(draw: ImageDraw.ImageDraw, colour: RGB, period: float, side: int) -> None:
    across = period * math.sqrt(2)
    for left in np.arange(-side, side, across).tolist():
        width = 0.45 * across
        draw.polygon([(left, 0), (left + width, 0), (left + width + side, side), (left + side, side)], fill=colour)


def _dots(draw: ImageDraw.ImageDraw, colour: RGB, period: float, side: int) -> None:
    for y in np.arange(period / 2, side, period).tolist():
        for x in np.arange(period / 2, side, period).tolist():
            draw.ellipse((x - 0.3 * period, y - 0.3 * period, x + 0.3 * period, y + 0.3 * period), fill=colour)


def _checks(draw: ImageDraw.ImageDraw, colour: RGB, period: float, side: int) -> None:
    for row, top in enumerate(np.arange(0, side, period).tolist()):
        for column, left in enumerate(np.arange(0, side, period).tolist()):
            if (row + column) % 2:
                draw.rectangle((left, top, left + period, top + period), fill=colour)


def _plain(draw: ImageDraw.ImageDraw, colour: RGB, period: float, side: int) -> None:
    """Nothing to draw."""


_PATTERNS: dict[str, Callable[[ImageDraw.ImageDraw, RGB, float, int], None]] = {
    "plain": _plain,
    "rows": _rows,
    "columns": _columns,
    "diagonals": _diagonals,
    "dots": _dots,
    "checks": _checks,
}


def _draw_logo(draw: ImageDraw.ImageDraw, logo: Logo) -> None:
    x, y, half = logo.x * LARGE, logo.y * LARGE, logo.size * LARGE / 2
    colour = COLOURS[logo.colour]
    if len(logo.kind) == 1:
        font = ImageFont.load_default(2.4 * half)
        draw.text((x, y), logo.kind, fill=colour, font=font, anchor="mm", stroke_width=0.16 * half)
    elif logo.kind == "circle":
        draw.ellipse((x - half, y - half, x + half, y + half), fill=colour)
    else:
        draw.polygon([(x + half * u, y + half * v) for u, v in _MARKS[logo.kind]], fill=colour)


_MARKS: dict[str, Points] = {
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": [(0, -1), (1, 0.8), (-1, 0.8)],
    "star": [
        ((1.1 if place % 2 == 0 else 0.45) * math.sin(place * math.pi / 5),
         -(1.1 if place % 2 == 0 else 0.45) * math.cos(place * math.pi / 5)) for place in range(10)
    ],
    "cross": [
        (-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35), (0.35, 1), (-0.35, 1),
        (-0.35, 0.35), (-1, 0.35), (-1, -0.35), (-0.35, -0.35),
    ],
}  # fmt: skip


def _scene(rng: random.Random, placing: Placing) -> Bitmap:
    """A figure before a wall with a floor, drawn large; its chest is where the garment goes."""
    side = SIZE * SUPERSAMPLE
    upper, lower = (np.asarray(colour, np.float64) for colour in rng.sample(_WALLS, 2))
    ramp = np.linspace(0, 1, side)[:, None, None]
    canvas = Image.fromarray(np.broadcast_to(_rounded(upper * (1 - ramp) + lower * ramp), (side, side, 3)).copy())
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, rng.uniform(0.8, 0.95) * side, side, side), fill=rng.choice(_WALLS))
    skin, legs, hair = rng.choice(_SKINS), rng.choice(_LEGS), rng.choice(_LEGS)

    def fill(points: Points, colour: RGB) -> None:
        draw.polygon(_scaled([placing.target(u, v) for u, v in points]), fill=colour)

    for sign in (-1, 1):
        fill([(sign * 1, 18), (sign * 13, 18), (sign * 12, 64), (sign * 2, 64)], legs)
        fill([(sign * 12, -20), (sign * 20, -16), (sign * 24, 12), (sign * 19, 13)], skin)
    fill([(-4, -30), (4, -30), (5, -18), (-5, -18)], skin)
    fill(_oval(0, -36, 8.5, 10), hair)
    fill(_oval(0, -34, 7, 9), skin)
    fill([(-13, -20), (13, -20), (12, 22), (-12, 22)], (150, 150, 150))
    return np.asarray(canvas)


def _oval(x: float, y: float, across: float, down: float) -> Points:
    angles = [2 * math.pi * place / 40 for place in range(40)]
    return [(x + across * math.cos(angle), y + down * math.sin(angle)) for angle in angles]


def _scaled(points: Points) -> Points:
    return [(x * LARGE - 0.5, y * LARGE - 0.5) for x, y in points]


def _middles(side: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The middles of the pixels of a picture with so many to a side, in units: y and x."""
    places = (np.arange(side) + 0.5) * SPAN / side
    y, x = np.meshgrid(places, places, indexing="ij")
    return y, x


def _looked_up(cloth: Bitmap, cut: Mask, places: npt.NDArray[np.float64]) -> tuple[Bitmap, Mask]:
    """The large garment as its places in the target show it."""
    side = len(cut)
    cells = np.floor(places * LARGE).astype(int)
    within = ((cells >= 0) & (cells < side)).all(-1)
    y, x = cells.clip(0, side - 1)[..., 0], cells.clip(0, side - 1)[..., 1]
    return cloth[y, x], cut[y, x] & within


def _laid_over(
    ground: npt.NDArray[np.float64], drawn: Bitmap, inside: Mask
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A large drawing averaged down and laid over a ground: the picture, and the share of each pixel that it covers."""
    share = _share(inside)
    return _reduced(drawn.astype(np.float64) * inside[..., None]) + ground * (1 - share[..., None]), share


def _reduced(large: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    blocks = large.reshape(SIZE, SUPERSAMPLE, SIZE, SUPERSAMPLE, *large.shape[2:])
    return np.asarray(blocks.mean((1, 3)))


def _share(inside: Mask) -> npt.NDArray[np.float64]:
    return _reduced(inside.astype(np.float64))


def _rounded(values: npt.NDArray[np.float64]) -> Bitmap:
    return np.asarray(values.round().clip(0, 255), np.uint8)


def _grown(mask: Mask, reach: int) -> Mask:
    """A mask with all pixels that lie at most `reach` beside or diagonally from it."""
    grown = np.zeros_like(mask)
    padded = np.pad(mask, reach)
    for down in range(2 * reach + 1):
        for right in range(2 * reach + 1):
            grown |= padded[down : down + SIZE, right : right + SIZE]
    return grown
