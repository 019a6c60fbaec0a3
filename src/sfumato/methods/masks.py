"""A part of the image, chosen by the user: a region that the model names, a black and white picture, or an array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import OptionError, RequestError
from sfumato.inputs.image import read_mask
from sfumato.models.model import Model
from sfumato.models.notes import regions_of
from sfumato.request import CompletedRequest
from sfumato.results.upscale import resized


def mask_of(model: Model, request: CompletedRequest, given: Any) -> NDArray[np.bool_]:
    """The chosen part of the image of a completed request.

    Args:
        model: The model; its regions can be meant by their names.
        request: The request.
        given: The name of a region, or a mask as `sfumato.inputs.image.read_mask` takes it.

    Returns:
        (y, x) of the image's size, true inside.

    Raises:
        OptionError: It is neither.
    """
    regions = regions_of(model.pipeline)
    named = given if isinstance(given, str) and given in regions else None
    try:
        found, what = (given, "the mask") if named is None else (regions[named], f"the region {named}")
        return read_mask(found, (request.height, request.width), what)
    except RequestError as error:
        also = f" (or name a region: {', '.join(regions)})" if regions and isinstance(given, str) and not named else ""
        raise OptionError(f"{error}{also}") from error


def on_latent(mask: NDArray[np.bool_], model: Model, request: CompletedRequest) -> NDArray[np.bool_]:
    """A mask of the image on the grid of the latent: the cells of which at least half lies inside.

    Raises:
        OptionError: It is smaller than a cell.
    """
    inside = resized(mask, model.latent_grid(request)) >= 0.5
    if not inside.any():
        raise OptionError("the mask is smaller than one cell of the latent; paint a larger part")
    return np.asarray(inside)
