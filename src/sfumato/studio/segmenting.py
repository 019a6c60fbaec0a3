"""Cut an image of a scene into its background and its coloured objects, by colour alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.color import rgb2lab

from sfumato.studio.shapes import BACKGROUNDS, COLOURS, SECOND_TONES, SIZE

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

SMALLEST = 60
"""Objects of fewer pixels are dropped as specks; the smallest object of a scene has about 170."""

LEAST_CONTRAST = 18.0
"""Objects nearer than this to the background in Lab are stains of it; a white object on pink stands at 28."""

_SMOOTHING = 0.6
_BORDER = 3
_SEED_AREA = 14
_REACH = 6.0
_TOLERANCE = 24.0
_BESIDE = 5.0
_MIXED = 25.0
_TINT = 30.0


class Region(NamedTuple):
    """One object as it is cut out: its colour, its pixels, and which of them show the colour's second tone."""

    colour: str
    mask: Mask
    second_tone: Mask


def _lab(colours: npt.NDArray[np.float32]) -> Floats:
    return np.asarray(rgb2lab(colours / 255.0), dtype=np.float32)


_TONE_RGB = np.array([*COLOURS.values(), *(SECOND_TONES[name] for name in COLOURS)], dtype=np.float32)
_TONE_LAB = _lab(_TONE_RGB)
_BACKGROUND_RGB = np.array(list(BACKGROUNDS.values()), dtype=np.float32)
_BACKGROUND_LAB = _lab(_BACKGROUND_RGB)
_NAMES = tuple(COLOURS)
_BACKGROUND = 2 * len(_NAMES)
"""Label of background pixels; 0 to 7 are the colours, 8 to 15 their second tones."""


def _distances(lab: Floats, palette: Floats) -> Floats:
    """Distance of every pixel to every colour: (colour, y, x)."""
    flat = lab.reshape(-1, 3)
    squares = (palette**2).sum(axis=1)[:, None] + (flat**2).sum(axis=1)[None] - 2 * palette @ flat.T
    return np.asarray(np.sqrt(np.maximum(squares, 0)).reshape(len(palette), *lab.shape[:2]), dtype=np.float32)


def find_background(lab: Floats) -> tuple[str, Floats]:
    """Find the background: the background colour that most pixels along the border are nearest to.

    Args:
        lab: The image in Lab (y, x, 3).

    Returns:
        Its name, and its Lab colour as this image shows it.
    """
    palette = np.concatenate([_BACKGROUND_LAB, _TONE_LAB])
    frame = np.ones(lab.shape[:2], dtype=bool)
    frame[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    nearest = np.linalg.norm(lab[frame][:, None] - palette[None], axis=-1).argmin(axis=1)
    votes = np.bincount(nearest, minlength=len(palette))[: len(BACKGROUNDS)]
    if not votes.any():  # A tinted background, or none in sight.
        middle = np.median(lab[frame], axis=0).astype(np.float32)
        away = np.linalg.norm(middle - _BACKGROUND_LAB, axis=-1)
        closest = int(away.argmin())
        return tuple(BACKGROUNDS)[closest], middle if away[closest] < _TINT else _BACKGROUND_LAB[closest]
    best = int(votes.argmax())
    shown = np.median(lab[frame][nearest == best], axis=0).astype(np.float32)
    return tuple(BACKGROUNDS)[best], shown


def segment(image: npt.NDArray[np.uint8]) -> tuple[str, list[Region]]:
    """Find the background and the objects of an image.

    Every pixel takes the nearest colour of the palette. Patches of one tone that are wide and even enough to be
    more than the blurred edge between two colours become seeds; every other pixel then joins the seed near it whose
    colour it resembles most, so that an edge lies where two colours mix half and half. Patches of one hue that
    touch are one object.

    Args:
        image: (128, 128, 3) uint8.

    Returns:
        The background's name, and the objects, largest first.
    """
    rgb = ndimage.gaussian_filter(image.astype(np.float32), (_SMOOTHING, _SMOOTHING, 0))
    lab = _lab(rgb)
    background, shown = find_background(lab)
    distances = _distances(lab, np.concatenate([_TONE_LAB, shown[None]]))  # (label, y, x)
    labels = distances.argmin(axis=0)
    even = distances.min(axis=0) < _TOLERANCE
    tones = _grow(rgb, _seeds(labels, even))  # (y, x)
    regions: list[Region] = []
    for index, name in enumerate(_NAMES):
        patches, count = ndimage.label((tones % len(_NAMES) == index) & (tones != _BACKGROUND), np.ones((3, 3)))
        for patch in range(1, count + 1):
            mask = patches == patch
            regions.append(Region(name, mask, mask & (tones >= len(_NAMES))))
    regions = [
        region
        for region in _rejoin(regions)
        if region.mask.sum() >= SMALLEST and np.linalg.norm(lab[region.mask].mean(axis=0) - shown) >= LEAST_CONTRAST
    ]
    return background, sorted(regions, key=lambda region: -int(region.mask.sum()))


def _rejoin(regions: list[Region]) -> list[Region]:
    """Join what shows through the hole of an inner ring with the outer object that it belongs to."""
    joined = sorted(regions, key=lambda region: int(region.mask.sum()))
    occupied = np.logical_or.reduce([np.zeros((SIZE, SIZE), dtype=bool), *(region.mask for region in regions)])
    kept: list[Region] = []
    for place, region in enumerate(joined):
        around = ndimage.binary_dilation(region.mask, iterations=2)
        for other in range(place + 1, len(joined)):
            outer = joined[other]
            same = outer.colour == region.colour
            if same and occupied[around].all() and ndimage.binary_fill_holes(outer.mask)[region.mask].all():
                joined[other] = Region(outer.colour, outer.mask | region.mask, outer.second_tone | region.second_tone)
                break
        else:
            kept.append(region)
    return kept


def _seeds(labels: npt.NDArray[np.intp], even: Mask) -> list[tuple[int, Mask]]:
    """Find the patches of one tone that are no mere edges: (label, mask); the background is one seed."""
    seeds: list[tuple[int, Mask]] = []
    for label in np.unique(labels):
        mask = (labels == label) & even
        if label == _BACKGROUND:
            seeds.append((int(label), mask))
            continue
        core = ndimage.binary_erosion(mask, np.ones((3, 3)))
        if not core.any():
            continue
        patches, _ = ndimage.label(mask)
        kept = np.unique(patches[core])
        areas = np.bincount(patches.ravel())
        for patch in kept[areas[kept] >= _SEED_AREA]:
            seeds.append((int(label), patches == patch))
    return seeds


class _Seed(NamedTuple):
    """A patch of one tone: its label, its mean colour, and the distance of every pixel to it."""

    label: int
    colour: Floats
    away: Floats
    mask: Mask


def _measured(rgb: Floats, label: int, mask: Mask) -> _Seed:
    inner = ndimage.binary_erosion(mask, np.ones((3, 3)))
    colour = rgb[inner if inner.any() else mask].mean(axis=0)
    return _Seed(label, colour, ndimage.distance_transform_edt(~mask).astype(np.float32), mask)


def _is_edge(seed: _Seed, others: list[_Seed]) -> bool:
    """Whether a patch is the blurred edge between two others: near to both and of a colour between theirs."""
    beside = [other for other in others if (other.away[seed.mask] <= _BESIDE).mean() >= 0.8]
    for place, first in enumerate(beside):
        for second in beside[place + 1 :]:
            span = second.colour - first.colour
            share = float((seed.colour - first.colour) @ span / max(float(span @ span), 1e-6))
            off = float(np.linalg.norm(first.colour + share * span - seed.colour))
            if 0.15 < share < 0.85 and off < _MIXED:
                return True
    return False


def _grow(rgb: Floats, patches: list[tuple[int, Mask]]) -> npt.NDArray[np.intp]:
    """Give every pixel the label of the patch, among those within reach, whose colour it is nearest to."""
    seeds = [_measured(rgb, label, mask) for label, mask in patches if mask.any()]
    seeds = [
        seed
        for place, seed in enumerate(seeds)
        if seed.label == _BACKGROUND or not _is_edge(seed, seeds[:place] + seeds[place + 1 :])
    ]
    if not seeds:
        return np.full((SIZE, SIZE), _BACKGROUND)
    cost = np.stack(
        [
            np.linalg.norm(rgb - seed.colour, axis=-1) + np.where(seed.away > _REACH, 1e4 + seed.away, 0.0)
            for seed in seeds
        ]
    )  # (seed, y, x)
    labels = np.array([seed.label for seed in seeds], dtype=np.intp)
    return np.asarray(labels[cost.argmin(axis=0)])
