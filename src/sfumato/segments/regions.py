"""Segments without weights: graph-based regions (Felzenszwalb and Huttenlocher 2004), merged by colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.segmentation import felzenszwalb

from sfumato.segments.segment import Segment

LIKE = 12.0
"""Distance in Lab up to which neighbouring regions are one."""

SMALLEST = 0.003
"""Share of the image below which a region goes to its most similar neighbour."""

SLIM = 0.017
"""Share of the longer side below which the inner radius of a region makes it a seam between two others."""

FULL_CONTRAST = 40.0
"""Distance in Lab from its surroundings at which a region's quality is 1."""


def regions(pixels: NDArray[np.uint8]) -> list[Segment]:
    """Cut an image into regions of even colour that touch no neighbour of like colour.

    Args:
        pixels: (y, x, channel).

    Returns:
        Segments that do not overlap and together cover the image.
    """
    lab = rgb2lab(pixels)
    side = max(pixels.shape[:2])
    labels = felzenszwalb(pixels, scale=100, sigma=0.6, min_size=max(8, side * side // 2000), channel_axis=-1)
    labels = merged(labels, lab)
    found = []
    for label in range(labels.max() + 1):
        mask = labels == label
        found.append(Segment(mask, _standing_out(mask, lab)))
    return found


def merged(labels: NDArray[np.int_], lab: NDArray[np.float64]) -> NDArray[np.int_]:
    """Join neighbours, the most alike first, until no two are alike and none is tiny or a seam.

    Args:
        labels: (y, x) number of each pixel's region.
        lab: (y, x, channel) colour of each pixel.

    Returns:
        (y, x) numbers from 0 without gaps.
    """
    labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    count = int(labels.max()) + 1
    size = np.bincount(labels.ravel(), minlength=count).astype(np.float64)
    colour = (
        np.stack([np.bincount(labels.ravel(), lab[..., c].ravel(), count) for c in range(3)], axis=1) / size[:, None]
    )
    beside = _neighbours(labels, count)
    slim = _inner_radius(labels, count) < SLIM * max(labels.shape)
    owner = np.arange(count)
    alive = np.ones(count, bool)
    total = size.sum()
    while alive.sum() > 1:
        distance = np.where(beside, np.linalg.norm(colour[:, None] - colour[None], axis=-1), np.inf)
        tiny = alive & (slim | (size < SMALLEST * total))
        wanted = np.where(distance <= LIKE, distance, np.inf)
        if not np.isfinite(wanted).any():
            wanted = np.where(tiny[:, None], distance, np.inf)
        if not np.isfinite(wanted).any():
            break
        one, other = np.unravel_index(int(np.argmin(wanted)), wanted.shape)
        colour[one] = (colour[one] * size[one] + colour[other] * size[other]) / (size[one] + size[other])
        size[one] += size[other]
        slim[one] &= slim[other]
        beside[one] |= beside[other]
        beside[:, one] |= beside[:, other]
        beside[other], beside[:, other], beside[one, one] = False, False, False
        alive[other] = False
        owner[owner == other] = one
    joined: NDArray[np.int_] = np.unique(owner[labels], return_inverse=True)[1].reshape(labels.shape)
    return joined


def _neighbours(labels: NDArray[np.int_], count: int) -> NDArray[np.bool_]:
    found = np.zeros((count, count), bool)
    for one, other in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        found[one, other] = True
        found[other, one] = True
    np.fill_diagonal(found, False)
    return found


def _inner_radius(labels: NDArray[np.int_], count: int) -> NDArray[np.float64]:
    """The radius of the largest circle inside each region, in pixels."""
    edge = np.zeros(labels.shape, bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    depth = ndimage.distance_transform_edt(~edge)
    return np.asarray(ndimage.maximum(depth, labels, np.arange(count)), dtype=np.float64)


def _standing_out(mask: NDArray[np.bool_], lab: NDArray[np.float64]) -> float:
    """How far the colour of a region is from that of the ring around it, from 0 to 1."""
    ring = ndimage.binary_dilation(mask, iterations=3) & ~mask
    if not ring.any():
        return 0.0
    distance = float(np.linalg.norm(lab[mask].mean(0) - lab[ring].mean(0)))
    return min(1.0, distance / FULL_CONTRAST)
