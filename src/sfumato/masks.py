"""A part of the image, chosen by the user: a region that the model names, a black and white picture, or an array."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.errors import OptionError
from sfumato.metrics.structure import resized
from sfumato.models.model import Model
from sfumato.models.notes import regions_of
from sfumato.request import Request


def read_mask(
    given: Any, shape: tuple[int, int], regions: Mapping[str, NDArray[np.bool_]] | None = None
) -> NDArray[np.bool_]:
    """The chosen part.

    Args:
        given: The name of a region, the path of a picture (white is inside), or an array (y, x) of booleans or numbers
            (above half of the largest is inside).
        shape: Height and width that it must have.
        regions: What the model calls parts of its images.

    Returns:
        (y, x), true inside.

    Raises:
        OptionError: It cannot be read, has another size or several channels, holds NaN, or marks nothing or everything.
    """
    known = regions or {}
    if isinstance(given, str) and given in known:
        return _checked(known[given], shape, given)
    if isinstance(given, str | Path):
        return _checked(_picture(str(given), tuple(known)), shape, str(given))
    try:
        values = np.asarray(given)
    except ValueError:
        raise OptionError("the mask is no array of one shape; expected numbers or booleans (height, width)") from None
    return _checked(values, shape, "the mask")


def mask_of(model: Model, request: Request, given: Any) -> NDArray[np.bool_]:
    """The chosen part of the image of a completed request; see ``read_mask``."""
    size = (int(request.height or 0), int(request.width or 0))
    return read_mask(given, size, regions_of(model.pipeline))


def on_latent(mask: NDArray[np.bool_], model: Model, request: Request) -> NDArray[np.bool_]:
    """A mask of the image on the grid of the latent: the cells of which at least half lies inside.

    Raises:
        OptionError: It is smaller than a cell.
    """
    inside = resized(mask, model.latent_grid(request)) >= 0.5
    if not inside.any():
        raise OptionError("the mask is smaller than one cell of the latent; paint a larger part")
    return np.asarray(inside)


def _picture(name: str, regions: tuple[str, ...]) -> NDArray[Any]:
    try:
        with Image.open(name) as image:
            bands, values = image.getbands(), np.asarray(image.convert("L") if image.mode in "1P" else image)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow calls some damage a syntax error
        also = f", or one of: {', '.join(regions)}" if regions else ""
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else f"no picture ({error})"
        raise OptionError(f"the mask {name!r} cannot be read: {reason}; give a black and white PNG{also}") from None
    if "A" in bands or len(bands) not in (1, 3):
        raise OptionError(
            f"the mask {name} has the channels {''.join(bands)}; give a black and white picture, white inside"
        )
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise OptionError(f"the mask {name} is in colour; give a black and white picture, white inside")
        values = values[..., 0]
    return values


def _checked(values: NDArray[Any], shape: tuple[int, int], name: str) -> NDArray[np.bool_]:
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise OptionError(f"{name} is an array of {values.dtype} of shape {values.shape}; expected (height, width)")
    if values.shape != shape:
        raise OptionError(
            f"{name} has {values.shape[0]} x {values.shape[1]} pixels (height x width); "
            f"the image has {shape[0]} x {shape[1]}: resize it"
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise OptionError(f"{name} holds NaN or infinite values; give numbers from 0 to 1")
    if values.dtype.kind != "b" and values.min() < 0:
        raise OptionError(f"{name} holds negative values; give numbers from 0 to 1")
    top = values.max()
    inside = np.asarray(values, bool) if values.dtype.kind == "b" else np.asarray(2 * values.astype(float) > top)
    if not inside.any():
        raise OptionError(f"{name} marks no pixel; paint the part that you mean in white")
    if inside.all():
        raise OptionError(f"{name} marks every pixel; paint the rest black, or leave the mask out")
    return inside
