"""Procedural faces of 64 x 64 pixels with four binary attributes and an exact mask for every region."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from sfumato.errors import OptionError

SIZE = 64
"""Height and width of a face in pixels."""

SUPERSAMPLE = 4
"""Faces are drawn this many times larger and then averaged down."""

ATTRIBUTES = ("bangs", "male", "smile", "lipstick")
"""What the bits of a label say, from left to right."""

LABELS = tuple(f"{number:04b}" for number in range(2 ** len(ATTRIBUTES)))

REGIONS = ("background", "clothes", "hair", "forehead", "eyes", "mouth", "beard", "skin")
"""Every pixel belongs to the one region that covers most of it; "skin" is what of it is not forehead."""

IMBALANCE = 0.5
"""Of the shipped model's training data."""

RGB = tuple[int, int, int]
Points = list[tuple[float, float]]
Mask = npt.NDArray[np.bool_]

SKINS: tuple[RGB, ...] = (
    (255, 224, 196), (241, 194, 155), (224, 172, 122), (198, 134, 88), (141, 88, 54), (92, 57, 38),
)  # fmt: skip
HAIRS: tuple[RGB, ...] = (
    (25, 20, 18), (62, 40, 28), (110, 70, 40), (165, 115, 60), (222, 188, 120), (150, 60, 30), (150, 150, 150),
)  # fmt: skip
LIPSTICKS: tuple[RGB, ...] = ((200, 15, 45), (225, 40, 100), (150, 10, 70), (235, 60, 50))
IRISES: tuple[RGB, ...] = ((70, 45, 25), (60, 110, 70), (60, 100, 170), (95, 85, 75))
BACKDROPS: tuple[RGB, ...] = (
    (70, 90, 130), (150, 170, 190), (90, 130, 90), (180, 150, 120), (120, 120, 125), (60, 60, 70), (190, 140, 150),
    (215, 205, 190),
)  # fmt: skip
CLOTHES: tuple[RGB, ...] = ((40, 50, 90), (120, 30, 40), (230, 230, 225), (40, 40, 40), (50, 110, 90), (200, 160, 60))

_MALE = 0.42
_BANGS = {False: 0.22, True: 0.05}
_SMILE = {False: 0.54, True: 0.40}
_LIPSTICK = {False: 0.80, True: 0.005}
"""Shares as in the source's figure 5.2, of women and of men; the attributes are otherwise independent."""


@dataclass(frozen=True)
class Face:
    """A drawn face.

    Attributes:
        label: Four bits, as `ATTRIBUTES` says.
        image: (y, x, channel) uint8.
        owner: (y, x) uint8, the place in `REGIONS` of the region that each pixel belongs to.
    """

    label: str
    image: npt.NDArray[np.uint8]
    owner: npt.NDArray[np.uint8]

    @cached_property
    def regions(self) -> dict[str, Mask]:
        """(y, x) bool by region; no two overlap and together they are the whole image."""
        return {name: self.owner == place for place, name in enumerate(REGIONS)}


def checked_label(label: str) -> str:
    """The label, if it is one.

    Raises:
        OptionError: It is not four bits.
    """
    if label not in LABELS:
        bits = ", ".join(ATTRIBUTES)
        raise OptionError(f"the label is {label!r}; expected four bits for {bits}, such as '0011'")
    return label


def label_shares(imbalance: float = IMBALANCE) -> dict[str, float]:
    """How often each label is drawn.

    Args:
        imbalance: 1 for the shares of the source's figure 5.2 (a man with lipstick is rare), 0 for equal shares;
            between them, shares are proportional to those of the source to this power.

    Raises:
        OptionError: The imbalance is negative.
    """
    if not imbalance >= 0:
        raise OptionError(f"imbalance is {imbalance}; expected 0 (equal shares) to 1 (as in the source), or more")
    weights: dict[str, float] = {}
    for label in LABELS:
        bangs, male, smile, lipstick = (bit == "1" for bit in label)
        share = _MALE if male else 1 - _MALE
        for table, bit in ((_BANGS, bangs), (_SMILE, smile), (_LIPSTICK, lipstick)):
            share *= table[male] if bit else 1 - table[male]
        weights[label] = share**imbalance
    total = sum(weights.values())
    return {label: weight / total for label, weight in weights.items()}


def face(seed: int, label: str | None = None, *, imbalance: float = IMBALANCE) -> Face:
    """Draw the face with this seed.

    Args:
        seed: Any whole number; the same seed gives the same face, bit for bit, whatever its label.
        label: Four bits; by default drawn with the shares of `label_shares`.
        imbalance: See `label_shares`.

    Raises:
        OptionError: The label is not four bits.
    """
    rng = random.Random(seed)
    shares = label_shares(imbalance)
    drawn = rng.choices(list(shares), weights=list(shares.values()))[0]
    label = drawn if label is None else checked_label(label)
    return _Painter(rng, *(bit == "1" for bit in label)).face(label)


def usual_regions(faces: int = 640) -> npt.NDArray[np.uint8]:
    """Where a face usually has what: for every pixel (y, x) the place in `REGIONS` that it most often belongs to.

    Args:
        faces: How many are drawn, of all labels in turn.
    """
    counts = np.zeros((len(REGIONS), SIZE, SIZE), np.int64)
    for number in range(faces):
        owner = face(number, LABELS[number % len(LABELS)]).owner
        counts += owner == np.arange(len(REGIONS))[:, None, None]
    return np.asarray(counts.argmax(0), np.uint8)


class _Painter:
    """Draws one face, part by part, onto a canvas and, beside it, onto a map of regions."""

    def __init__(self, rng: random.Random, bangs: bool, male: bool, smile: bool, lipstick: bool) -> None:
        self.bangs, self.male, self.smile, self.lipstick = bangs, male, smile, lipstick
        lighter, darker = rng.sample(SKINS, 2)
        self.skin = _jittered(rng, _between(lighter, darker, rng.random()), 8)
        self.hair = _jittered(rng, rng.choice(HAIRS), 10)
        self.long = rng.random() < 0.75
        self.backdrop = [_jittered(rng, colour, 15) for colour in rng.sample(BACKDROPS, 2)]
        self.cloth = _jittered(rng, rng.choice(CLOTHES), 10)
        self.iris = rng.choice(IRISES)
        self.lips = _jittered(rng, rng.choice(LIPSTICKS), 10)
        self.wide = rng.uniform(0.93, 1.07)
        self.tall = rng.uniform(0.95, 1.06)
        self.brow = rng.uniform(0.8, 1.2)
        self.eye = rng.uniform(0.9, 1.12)
        self.mouth = rng.uniform(0.9, 1.12)
        self.fringe = [rng.uniform(-1.3, 1.3) for _ in range(9)]
        self.turn = rng.uniform(-1.8, 1.8)  # how far the features sit beside the middle of the head
        self.gaze = rng.uniform(-0.6, 0.6)
        self.light = (rng.uniform(0.0, 0.16), rng.uniform(0, 2 * math.pi))
        tilt, scale = math.radians(rng.gauss(0, 4)), rng.uniform(0.94, 1.06)
        x, y = 32 + rng.uniform(-2.5, 2.5), 34 + rng.uniform(-2, 2)
        self._place: Callable[[float, float], tuple[float, float]] = lambda u, v: (
            x + scale * (u * math.cos(tilt) - v * math.sin(tilt)),
            y + scale * (u * math.sin(tilt) + v * math.cos(tilt)),
        )
        side = SIZE * SUPERSAMPLE
        self._canvas = Image.new("RGB", (side, side))
        self._owner = Image.new("L", (side, side), 0)
        self._draw, self._own = ImageDraw.Draw(self._canvas), ImageDraw.Draw(self._owner)

    def face(self, label: str) -> Face:
        self._background()
        self._head()
        self._features()
        self._hair_in_front()
        image = np.asarray(self._canvas.reduce(SUPERSAMPLE)).astype(np.float64) * self._shade()[..., None]
        return Face(label, image.round().clip(0, 255).astype(np.uint8), _majority(np.asarray(self._owner)))

    def _background(self) -> None:
        side = SIZE * SUPERSAMPLE
        ramp = np.linspace(0, 1, side)[:, None, None]
        upper, lower = (np.asarray(colour, dtype=np.float64) for colour in self.backdrop)
        filled = (upper * (1 - ramp) + lower * ramp).round().astype(np.uint8)
        self._canvas.paste(Image.fromarray(np.broadcast_to(filled, (side, side, 3)).copy()))

    def _head(self) -> None:
        """Hair behind, shoulders, neck, ears and the face itself."""
        reach = 23 if self.long and not self.male else 5
        self._fill(_oval(0, -5, 19.5 * self.wide, 20), self.hair, "hair")
        if reach > 10:
            self._fill([(-19 * self.wide, -6), (19 * self.wide, -6), (17.5, reach), (-17.5, reach)], self.hair, "hair")
        self._fill(_oval(0, 42, 29, 17), self.cloth, "clothes")
        self._fill([(-6.5, 12), (6.5, 12), (8, 29), (-8, 29)], _darker(self.skin, 0.86), "skin")
        for side in (-1, 1):
            self._fill(_oval(side * 15.8 * self.wide, 2, 2.6, 4.2), _darker(self.skin, 0.93), "skin")
        self._fill(self._outline(), self.skin, "skin")
        brows = -5.0
        upper = [(u, v) for u, v in self._outline() if v <= brows]
        self._fill(upper, self.skin, "forehead")

    def _outline(self) -> Points:
        """The face: an oval above, a jaw below, broader for a man."""
        points = []
        for i in range(64):
            angle = 2 * math.pi * i / 64
            u, v = math.cos(angle), math.sin(angle)
            if v > 0:  # a superellipse squares the jaw
                power = 2 / (2.5 if self.male else 1.95)
                u, v = math.copysign(abs(u) ** power, u), v**power
            points.append((15.5 * self.wide * u, 2 + (19.5 if v > 0 else 18.5) * self.tall * v))
        return points

    def _features(self) -> None:
        dark = _darker(self.hair, 0.75) if sum(self.hair) > 180 else self.hair
        if self.male:
            self._beard(_between(dark, self.skin, 0.25))
        turned = self.turn
        for side in (-1, 1):
            x = side * 6.6 + turned
            self._fill(_oval(x, 0, 3.5 * self.eye, 2.1 * self.eye), (250, 250, 250), "eyes")
            self._fill(_oval(x + self.gaze, 0, 1.7 * self.eye, 1.8 * self.eye), self.iris, "eyes")
            self._fill(_oval(x + self.gaze, 0, 0.8, 0.9), (10, 10, 10), "eyes")
            self._fill(_arc(x, -0.4, 3.8 * self.eye, -2.2, 0.5), _darker(self.skin, 0.45), "eyes")
            thick = (1.15 if self.male else 0.65) * self.brow
            self._fill(_arc(x, -4.4, 4.2, -1.2, thick), dark, "hair")
        shade = _darker(self.skin, 0.78)
        self._fill([(turned + 0.2, 1), (turned + 1.2, 6.2), (turned + 0.1, 6.4)], shade, "skin")
        self._fill(_oval(turned, 7, 2.2, 0.9), shade, "skin")
        self._lips()

    def _beard(self, colour: RGB) -> None:
        chin = [(u * 0.985, v) for u, v in self._outline() if v > 6]
        chin.sort(key=lambda point: math.atan2(point[1] - 6, point[0]))
        self._fill(
            [(14.3 * self.wide, 5), *chin, (-14.3 * self.wide, 5), (-9, 9.5), (0, 8.8), (9, 9.5)], colour, "beard"
        )

    def _lips(self) -> None:
        """A closed mouth, or a smile with teeth; painted lips are fuller and of a strong colour."""
        x, y, reach = self.turn, 12.6, (6.9 if self.smile else 4.9) * self.mouth
        colour = self.lips if self.lipstick else _between(self.skin, (170, 80, 80), 0.42)
        full = 1.75 if self.lipstick else 1.05
        bend = 3.2 if self.smile else 0.0
        if self.smile:
            upper = [
                (x + reach * s, y - 1.2 - bend * (0.35 - s * s) * 0.35 - full * (1 - s * s) * 0.6) for s in _span()
            ]
            lower = [(x + reach * s, y - 1.0 + (bend + full) * (1 - s * s)) for s in _span()]
            self._fill([*upper, *reversed(lower)], colour, "mouth")
            teeth = [(x + 0.8 * reach * s, y - 0.7) for s in _span()]
            gums = [(x + 0.8 * reach * s, y - 0.7 + (bend - 0.2) * (1 - s * s)) for s in _span()]
            self._fill([*teeth, *reversed(gums)], (252, 250, 245), "mouth")
        else:
            upper = [(x + reach * s, y - full * (1 - s * s) * (1 - 0.35 * math.exp(-30 * s * s))) for s in _span()]
            lower = [(x + reach * s, y + 1.25 * full * (1 - s * s)) for s in _span()]
            self._fill([*upper, *reversed(lower)], colour, "mouth")
            self._fill(_arc(x, y, reach * 0.95, -0.1, 0.28), _darker(colour, 0.6), "mouth")

    def _hair_in_front(self) -> None:
        """The hairline, and bangs down to the brows."""
        width, top = 16.6 * self.wide, -23.5
        if self.bangs:
            edge: Points = [(width, 1.0)]
            for i, depth in enumerate(self.fringe):
                s = 1 - 2 * (i + 0.5) / len(self.fringe)
                edge += [(width * (s + 0.09), -5.2 + depth), (width * (s - 0.09), -6.6 + depth)]
            edge.append((-width, 1.0))
        else:
            edge = [(width, 0.0), (13.8 * self.wide, -6.5)]
            edge += [(11.5 * self.wide * -s, -10.0 - 2.6 * (1 - s * s)) for s in _span()]
            edge += [(-13.8 * self.wide, -6.5), (-width, 0.0)]
        crown = [(width * math.cos(a), -6 + (top + 6) * -math.sin(a)) for a in np.linspace(-math.pi, 0, 24).tolist()]
        self._fill([*edge, *crown], self.hair, "hair")

    def _fill(self, points: Points, colour: RGB, region: str) -> None:
        """Fill a polygon given around the middle of the face, in pixels."""
        corners = [self._place(u, v) for u, v in points]
        scaled = [(x * SUPERSAMPLE - 0.5, y * SUPERSAMPLE - 0.5) for x, y in corners]
        self._draw.polygon(scaled, fill=colour)
        self._own.polygon(scaled, fill=REGIONS.index(region))

    def _shade(self) -> npt.NDArray[np.float64]:
        """Light from one side: (y, x), around 1."""
        strength, angle = self.light
        y, x = np.mgrid[:SIZE, :SIZE] / (SIZE - 1) * 2 - 1
        return np.asarray(1 + strength * (x * math.cos(angle) + y * math.sin(angle)))


def _majority(owner: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The region that covers most of each pixel."""
    blocks = owner.reshape(SIZE, SUPERSAMPLE, SIZE, SUPERSAMPLE).swapaxes(1, 2).reshape(SIZE, SIZE, -1)
    counts = np.stack([(blocks == place).sum(-1) for place in range(len(REGIONS))])
    return np.asarray(counts.argmax(0), np.uint8)


def _span() -> Iterable[float]:
    return [i / 10 for i in range(-10, 11)]


def _oval(x: float, y: float, across: float, down: float) -> Points:
    angles = [2 * math.pi * i / 40 for i in range(40)]
    return [(x + across * math.cos(a), y + down * math.sin(a)) for a in angles]


def _arc(x: float, y: float, reach: float, rise: float, thick: float) -> Points:
    """A stroke that rises in its middle."""
    line = [(x + reach * s, y + rise * (1 - s * s)) for s in _span()]
    return [*((u, v - thick) for u, v in line), *((u, v + thick) for u, v in reversed(line))]


def _between(one: RGB, other: RGB, share: float) -> RGB:
    red, green, blue = (round(a * (1 - share) + b * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _darker(colour: RGB, factor: float) -> RGB:
    return _between((0, 0, 0), colour, factor)


def _jittered(rng: random.Random, colour: RGB, reach: int) -> RGB:
    red, green, blue = (min(255, max(0, part + rng.randint(-reach, reach))) for part in colour)
    return red, green, blue
