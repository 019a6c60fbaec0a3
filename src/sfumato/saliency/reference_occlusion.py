"""What a patch of the reference causes: it is covered, the image is made again from the same noise, and compared."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sfumato.generation.generate import generate
from sfumato.generation.trace import Trace
from sfumato.inputs.image import Picture
from sfumato.models.model import ReferenceTokens
from sfumato.progress import Progress

BATCH = 8
PLAIN = 4.0
"""A patch whose colours differ less than this (of 255) from the reference's ground shows nothing to be covered."""


def occluded(
    trace: Trace, tokens: ReferenceTokens, cover: Literal["mean", "grey"], progress: Progress
) -> NDArray[np.float64]:
    """How far the image moves when each patch is covered: (token, y, x) on the grid of the latent, 0 to 1.

    NaN for patches that show only the ground, by which the colour of the reference's corners is meant.

    Args:
        trace: Of one request with a reference.
        tokens: How the reference is read, as patches.
        cover: The reference's mean colour, or grey.
        progress: Told about every image.
    """
    request, model = trace.requests[0], trace.model
    assert request.reference is not None
    pixels = request.reference.array
    rows, columns = tokens.grid
    latent = model.latent_grid(request)
    colour = pixels.reshape(-1, 3).mean(0).round() if cover == "mean" else np.full(3, 128.0)
    ground = pixels[[0, 0, -1, -1], [0, -1, 0, -1]].mean(0)
    wanted, pictures = [], []
    for token in range(rows * columns):
        inside = _patch(token, tokens.grid, (pixels.shape[0], pixels.shape[1]))
        if np.abs(pixels[inside] - ground).max() <= PLAIN:
            continue
        covered = pixels.copy()
        covered[inside] = colour
        wanted.append(token)
        pictures.append(Picture.of(covered))
    found = np.full((rows * columns, *latent), np.nan)
    for start in range(0, len(wanted), BATCH - 1):
        some = [request.with_(reference=picture) for picture in pictures[start : start + BATCH - 1]]
        # the whole reference is painted in every batch again: a batch of another size rounds differently
        own, *images = (np.asarray(one.convert("RGB"), np.float64) for one in generate(model, [request, *some]).images)
        for token, image in zip(wanted[start:], images, strict=False):
            change = np.abs(image - own).mean(-1) / 255
            found[token] = _blocks(change, latent)
        progress("patches", start + len(some), len(wanted))
    return found


def _patch(token: int, grid: tuple[int, int], size: tuple[int, int]) -> tuple[slice, slice]:
    row, column = divmod(token, grid[1])
    return (
        slice(row * size[0] // grid[0], (row + 1) * size[0] // grid[0]),
        slice(column * size[1] // grid[1], (column + 1) * size[1] // grid[1]),
    )


def _blocks(change: NDArray[np.float64], grid: tuple[int, int]) -> NDArray[np.float64]:
    """Means over the blocks of pixels that the cells of a grid stand for."""
    rows, columns = change.shape[0] // grid[0], change.shape[1] // grid[1]
    return np.asarray(change.reshape(grid[0], rows, grid[1], columns).mean((1, 3)))
