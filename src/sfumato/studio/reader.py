"""Read an image of a scene: which objects it shows, where, and whether they are what a caption promises.

Classical image processing only, so that generated images get ground truth without labels by hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from sfumato.errors import OptionError
from sfumato.studio.grammar import Expectation, ExpectedThing, expected, parsed, say
from sfumato.studio.segmenting import Mask, Region, segment
from sfumato.studio.shapes import BACKGROUNDS, SHAPES, SIZE, SUPERSAMPLE, stencil

_GRID = 48
"""Height and width of the grid on which masks are compared with templates."""

_SPAN = 1.2
_SCALES = (0.90, 0.95, 1.0, 1.05)
_SHIFTS = (-0.06, 0.0, 0.06)
_BLURS = (0.0, 0.07, 0.14)
_TEXTURED = 0.12
_STRIPED = 0.5
_TOUCHING = 4.5


@dataclass(frozen=True)
class SeenThing:
    """One object found in an image.

    Attributes:
        shape: The most similar of `SHAPES`.
        colour: One of `COLOURS`.
        texture: "striped", "dotted" or None.
        x: Centre of its bounding box from the left edge, in pixels.
        y: Centre of its bounding box from the upper edge, in pixels.
        radius: Half of its width in pixels, as `Thing.radius` counts it.
        area: Number of its visible pixels.
        mask: (y, x) bool, its visible pixels.
        confidence: Intersection over union with its shape drawn perfectly, from 0 to 1.
    """

    shape: str
    colour: str
    texture: str | None
    x: float
    y: float
    radius: float
    area: int
    mask: Mask
    confidence: float


@dataclass(frozen=True)
class Reading:
    """What an image shows: its background and its objects, largest first."""

    background: str
    things: tuple[SeenThing, ...]


@dataclass(frozen=True)
class Score:
    """How an image compares with what its caption promises.

    Attributes:
        objects: For each promised object, whether an object of its own has its shape and colour.
        relation: Whether the relation holds between the two objects; None where none is promised. It needs both.
        count: Whether the image shows exactly the promised number of objects; None where the caption has no numeral.
        background: Whether the background is the named one; None where none is named.
        extra: How many objects the image shows beyond the promised ones.
    """

    objects: list[bool]
    relation: bool | None
    count: bool | None
    background: bool | None
    extra: int


def read(image: npt.NDArray[np.uint8]) -> Reading:
    """Find the objects of an image.

    Args:
        image: (128, 128, 3) uint8, drawn or generated.

    Returns:
        The background and the objects, largest first. Anything at all is read as something: look at `confidence`.

    Raises:
        OptionError: The array has another shape or type.
    """
    if image.shape != (SIZE, SIZE, 3) or image.dtype != np.uint8:
        raise OptionError(
            f"the reader needs a uint8 array of shape ({SIZE}, {SIZE}, 3); got {image.dtype} of shape {image.shape}; "
            "resize the image first"
        )
    background, regions = segment(image)
    return Reading(background, tuple(_identify(region, regions) for region in regions))


def _identify(region: Region, regions: list[Region]) -> SeenThing:
    """Name the shape and the texture of one object."""
    mask = region.mask
    solid = _without_covered_holes(mask, [other.mask for other in regions if other is not region])
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    x, y = (columns[0] + columns[-1] + 1) / 2, (rows[0] + rows[-1] + 1) / 2
    reach = max(np.ptp(rows) + 1, np.ptp(columns) + 1) / 2
    likeness = _likeness(solid, x, y, reach)
    best, blur = np.unravel_index(int(likeness.argmax()), likeness.shape)
    return SeenThing(
        shape=SHAPES[best],
        colour=region.colour,
        texture=_texture(region),
        x=float(x),
        y=float(y),
        radius=float(reach / _REACH[best, blur]),
        area=int(mask.sum()),
        mask=mask,
        confidence=float(likeness[best, blur]),
    )


def _without_covered_holes(mask: Mask, others: list[Mask]) -> Mask:
    """Fill the holes in which a whole other object lies; a hole that shows what is behind stays open."""
    filled = ndimage.binary_fill_holes(mask)
    covered = np.logical_or.reduce([np.zeros_like(mask), *(other for other in others if filled[other].all())])
    holes, count = ndimage.label(filled & ~mask)
    solid = mask.copy()
    for hole in range(1, count + 1):
        inside = holes == hole
        judged = ndimage.binary_erosion(inside) | (inside & covered)
        if judged.any() and covered[judged].mean() > 0.7:
            solid |= inside
    return solid


def _texture(region: Region) -> str | None:
    """Tell stripes from dots: the tone of stripes changes from row to row only."""
    inner = ndimage.binary_erosion(region.mask)
    if not inner.any():
        return None
    second = region.second_tone[inner]
    share = float(second.mean())
    if not _TEXTURED < share < 1 - _TEXTURED:
        return None
    rows = np.nonzero(inner)[0]
    sizes = np.bincount(rows)
    means = np.bincount(rows, weights=second) / np.maximum(sizes, 1)
    between = float((sizes * (means - share) ** 2).sum()) / sizes.sum()
    return "striped" if between / (share * (1 - share)) > _STRIPED else "dotted"


def _templates() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Draw every shape sharp and in two degrees of blur, which rounds corners and shortens tips.

    Returns:
        The shapes on the grid, each scaled to its own bounding box (shape, blur, cell), and half of the longer side
        of that box for a shape of radius 1 (shape, blur).
    """
    cells, reaches = [], []
    for shape in SHAPES:
        sharp = np.asarray(stencil(shape, 64, 64, 48, extent=128).reduce(SUPERSAMPLE)).astype(np.float32)
        for blur in _BLURS:
            mask = ndimage.gaussian_filter(sharp, 48 * blur) > 127
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            reach = max(np.ptp(rows) + 1, np.ptp(columns) + 1) / 2
            x, y = (columns[0] + columns[-1] + 1) / 2, (rows[0] + rows[-1] + 1) / 2
            cells.append(_sample(mask, x, y, reach))
            reaches.append(reach / 48)
    shape_of = (len(SHAPES), len(_BLURS))
    return np.stack(cells).astype(np.float32).reshape(*shape_of, -1), np.array(reaches).reshape(shape_of)


def _sample(mask: Mask, x: float, y: float, reach: float) -> Mask:
    """Sample a mask on the grid that spans `_SPAN` times `reach` around (x, y): (cell,)."""
    offsets = (np.arange(_GRID) + 0.5) / _GRID * 2 - 1
    rows = np.floor(y + offsets * reach * _SPAN).astype(int)
    columns = np.floor(x + offsets * reach * _SPAN).astype(int)
    cells = mask.take(rows, axis=0, mode="clip").take(columns, axis=1, mode="clip")
    within = ((rows >= 0) & (rows < mask.shape[0]))[:, None] & ((columns >= 0) & (columns < mask.shape[1]))[None]
    return np.asarray((cells & within).ravel())


_TEMPLATES, _REACH = _templates()


def _likeness(mask: Mask, x: float, y: float, reach: float) -> npt.NDArray[np.float32]:
    """Intersection over union with every template, the best over small shifts and scales: (shape, blur)."""
    seen = np.stack(
        [
            _sample(mask, x + right * reach, y + down * reach, reach * scale)
            for scale in _SCALES
            for right in _SHIFTS
            for down in _SHIFTS
        ]
    ).astype(np.float32)  # (try, cell)
    templates = _TEMPLATES.reshape(-1, _TEMPLATES.shape[-1])  # (shape and blur, cell)
    both = seen @ templates.T
    either = seen.sum(axis=1)[:, None] + templates.sum(axis=1)[None] - both
    return np.asarray((both / either).max(axis=0), dtype=np.float32).reshape(_TEMPLATES.shape[:2])


def assign(reading: Reading, expectation: Expectation) -> tuple[int | None, ...]:
    """Find which seen object stands for which promised one.

    An object can stand for a promised one when its shape or its colour is right; the assignment with the most right
    shapes and colours wins, and textures break ties.

    Args:
        reading: What the image shows.
        expectation: What the caption promises.

    Returns:
        For every promised object the place of the seen one in `reading.things`, or None where it is absent.
    """
    gains = np.array([[_gain(seen, thing) for seen in reading.things] for thing in expectation.things])
    found: list[int | None] = [None] * len(expectation.things)
    if reading.things:
        for thing, seen in zip(*linear_sum_assignment(gains, maximize=True), strict=True):
            if gains[thing, seen] > 0:
                found[thing] = int(seen)
    return tuple(found)


def _gain(seen: SeenThing, thing: ExpectedThing) -> float:
    gain = float(seen.shape == thing.shape) + 1.01 * float(seen.colour == thing.colour)
    return gain + (0.05 * float(seen.texture == thing.texture) + 0.01 * seen.confidence if gain else 0.0)


def matches(reading: Reading, expectation: Expectation) -> Score:
    """Compare what an image shows with what its caption promises.

    Args:
        reading: From `read`.
        expectation: From `expected`.

    Returns:
        Which promises are kept.
    """
    found = assign(reading, expectation)
    shown = [None if place is None else reading.things[place] for place in found]
    relation: bool | None = None
    if expectation.relation is not None:
        first, second = shown
        relation = first is not None and second is not None and holds(expectation.relation, first, second)
    return Score(
        objects=[
            seen is not None and (seen.shape, seen.colour) == (thing.shape, thing.colour)
            for seen, thing in zip(shown, expectation.things, strict=True)
        ],
        relation=relation,
        count=None if expectation.count is None else len(reading.things) == expectation.count,
        background=None if expectation.background is None else reading.background == expectation.background,
        extra=len(reading.things) - sum(place is not None for place in found),
    )


def holds(relation: str, first: SeenThing, second: SeenThing) -> bool:
    """Whether a relation is true of two seen objects.

    Directions compare the centres and need the distance along their axis to be the larger one. "inside" needs nearly
    all of the first within the outline of the second, holes included; "touching" needs pixels of both
    within 4.5 pixels.

    Args:
        relation: One of `RELATIONS`.
        first: The object named first.
        second: The object named second.
    """
    across, down = second.x - first.x, second.y - first.y
    if relation == "inside":
        within = ndimage.binary_fill_holes(second.mask)[first.mask].mean()
        return bool(within > 0.9)
    if relation == "touching":
        return bool(ndimage.distance_transform_edt(~first.mask)[second.mask].min() <= _TOUCHING)
    along, beside = {
        "left of": (across, down),
        "right of": (-across, down),
        "above": (down, across),
        "below": (-down, across),
    }[relation]
    return along > abs(beside)


def masks_of_words(caption: str, reading: Reading) -> tuple[tuple[str, ...], Mask, Mask]:
    """Give the pixels that each word of a caption speaks of in a generated image.

    A promised object is present when a seen object with its shape or its colour stands for it (see `assign`). Seen
    objects beyond the promised ones join a noun phrase when both their shape and their colour are right. The words
    get their masks as in `Scene.masks`.

    Args:
        caption: A caption of the grammar.
        reading: What the image shows.

    Returns:
        The words; their masks (word, y, x); and whether each word has something to show (word,): punctuation and
        words whose object is absent do not, words that link two objects need both, and the name of a background
        needs that background.

    Raises:
        RequestError: The text is not a caption of the grammar.
    """
    expectation = expected(caption)
    found = assign(reading, expectation)
    masks_of_groups: list[Mask | None] = []
    for index, group in enumerate(parsed(caption).groups):
        places = {place for place, of in zip(found, expectation.groups, strict=True) if of == index} - {None}
        places |= {
            place
            for place, seen in enumerate(reading.things)
            if place not in found and (seen.shape, seen.colour) == (group.shape, group.colour)
        }
        chosen = [seen.mask for place, seen in enumerate(reading.things) if place in places]
        masks_of_groups.append(np.logical_or.reduce(chosen) if chosen else None)
    free = ~np.logical_or.reduce([np.zeros((SIZE, SIZE), dtype=bool), *(seen.mask for seen in reading.things)])
    said = say(parsed(caption))
    masks = np.zeros((len(said), SIZE, SIZE), dtype=bool)
    present = np.zeros(len(said), dtype=bool)
    for place, part in enumerate(said):
        if part.role == "things":
            linked = [mask for mask in (masks_of_groups[group] for group in part.groups) if mask is not None]
            present[place] = len(linked) == len(part.groups)
            if present[place]:
                masks[place] = np.logical_or.reduce(linked)
        elif part.role == "background":
            present[place] = part.word not in BACKGROUNDS or part.word == reading.background
            if present[place]:
                masks[place] = free
        elif part.role == "everything":
            masks[place], present[place] = True, True
    return tuple(part.word for part in said), masks, present
