"""Patches of a reference image as parts of a condition: the reference is read again with a patch painted neutral."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato.errors import ModelError, OptionError, RequestError
from sfumato.inputs.image import Picture
from sfumato.models.model import Model
from sfumato.models.reference import ReferenceModel
from sfumato.request import CompletedRequest

NEUTRAL = 127
"""The grey of what is left out."""
SIDE = 4
"""Patches along each side of the reference."""
Box = tuple[slice, slice]


def patches_of(height: int, width: int, side: int = SIDE) -> list[tuple[str, Box]]:
    """The patches of a picture, row by row: a name such as "patch 1, 3", and where it lies (y, x)."""
    rows, columns = (np.linspace(0, length, side + 1).round().astype(int).tolist() for length in (height, width))
    return [
        (f"patch {y + 1}, {x + 1}", (slice(rows[y], rows[y + 1]), slice(columns[x], columns[x + 1])))
        for y in range(side)
        for x in range(side)
    ]


def without_patch(reference: Picture, box: Box) -> Picture:
    """The reference with a patch painted neutral."""
    pixels = reference.array.copy()
    pixels[box] = NEUTRAL
    return Picture.of(pixels)


def only_patch(reference: Picture, box: Box) -> Picture:
    """The reference with everything but a patch painted neutral."""
    pixels: NDArray[np.uint8] = np.full_like(reference.array, NEUTRAL)
    pixels[box] = reference.array[box]
    return Picture.of(pixels)


def reference_of(model: Model, request: CompletedRequest, pairs: Sequence[str]) -> Picture:
    """The reference whose patches can be left out.

    Raises:
        OptionError: The model reads no reference patch by patch, or pairs of words are asked for.
        RequestError: The request has none.
    """
    if not _reads_patches(model):
        raise OptionError(
            f"players is 'patch', but {model.source.name} reads no reference patch by patch; take studio/insert"
        )
    if pairs:
        raise OptionError("pairs are of words; leave them out for patches of a reference")
    if request.reference is None:
        raise RequestError("there is no reference whose patches could be left out; give one: --reference garment.png")
    return request.reference


def _reads_patches(model: Model) -> bool:
    return isinstance(model, ReferenceModel) and model.reference_tokens().patches


def conditions_of(model: Model, pictures: Sequence[Picture | None]) -> torch.Tensor:
    """The denoiser's conditions for references, None being no reference: (picture, patch, channel)."""
    if not isinstance(model, ReferenceModel):
        raise ModelError(f"{model.source.name} reads no reference patch by patch")
    found = model.encode([""] * len(pictures))
    given = [place for place, picture in enumerate(pictures) if picture is not None]
    if given:
        with torch.no_grad():
            read = model.pipeline.encode_reference([one.image for one in pictures if one is not None])
        found[given] = read.to(found)
    return found
