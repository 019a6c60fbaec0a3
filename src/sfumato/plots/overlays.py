"""One map on its image, so that a person sees at once where it is strong.

The image below is dimmed and grey: hues then belong to the map alone. The map's colours rise evenly in lightness
(perceptually uniform), and it is the more opaque the stronger it is. Maps are stretched from their own minimum to
their own maximum for display only; metrics never see that.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from sfumato.errors import OptionError
from sfumato.results.hard_maps import hard
from sfumato.results.upscale import bicubic

COLORMAP = "inferno"
SMALLEST_SIDE = 384
DIM = (0.06, 0.56)  # grey of black and of white in the dimmed image
_LUMINANCE = (0.2126, 0.7152, 0.0722)


@lru_cache(maxsize=8)
def colours(name: str = COLORMAP) -> NDArray[np.uint8]:
    """The 256 colours of a matplotlib colormap, (256, 3), for weak to strong.

    Raises:
        OptionError: There is no such colormap.
    """
    from matplotlib import colormaps

    if name not in colormaps:
        raise OptionError(f"there is no colormap {name!r}; try inferno, magma, viridis or cividis")
    table = np.asarray(colormaps[name](np.linspace(0, 1, 256)))[:, :3]
    return np.round(255 * table).astype(np.uint8)


def stretched(heat: ArrayLike) -> NDArray[np.float64]:
    """A map from 0 at its minimum to 1 at its maximum; 0 if it is constant, NaN if it holds a NaN or an infinity."""
    values = np.asarray(heat, dtype=np.float64)
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        return np.full(values.shape, np.nan)
    return (values - low) / (high - low) if high > low else np.zeros(values.shape)


def display_size(size: tuple[int, int], smallest_side: int = SMALLEST_SIDE) -> tuple[int, int]:
    """Height and width enlarged by a whole factor until the shorter side is long enough to be seen well."""
    factor = max(1, -(-smallest_side // min(size)))
    return size[0] * factor, size[1] * factor


def dimmed(image: Image.Image | ArrayLike, size: tuple[int, int]) -> NDArray[np.float64]:
    """The image in dark grey at another size, (height, width, 1), from 0 to 1."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image, dtype=np.uint8))
    resized = picture.convert("RGB").resize((size[1], size[0]), Image.Resampling.BICUBIC)
    grey = np.asarray(resized, dtype=np.float64) @ np.array(_LUMINANCE) / 255
    return np.asarray(DIM[0] + (DIM[1] - DIM[0]) * grey)[..., None]


def opacity(strength: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """How much a map hides of the image below it: little where it is weak, almost everything at its peak."""
    return np.asarray(most * np.clip(1.25 * strength, 0, 1) ** 1.2)


def overlay(
    image: Image.Image | ArrayLike,
    heat: ArrayLike,
    *,
    colormap: str = COLORMAP,
    most: float = 0.92,
    smallest_side: int = SMALLEST_SIDE,
    contour: float | None = None,
) -> Image.Image:
    """A map laid over its image.

    Args:
        image: PIL image or (y, x, 3) uint8.
        heat: (y, x) on any grid; upscaled bicubic. A map of NaN (a word that was not seen) leaves the dimmed image.
        colormap: Name of a matplotlib colormap.
        most: Opacity at the map's maximum, from 0 to 1.
        smallest_side: The picture is enlarged by a whole factor until its shorter side has this many pixels.
        contour: Also outline the places that reach this share of the map's maximum, as the metrics mark them.

    Returns:
        An RGB picture.
    """
    picture = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image, dtype=np.uint8))
    size = display_size((picture.height, picture.width), smallest_side)
    below = dimmed(picture, size)
    strength = np.nan_to_num(np.clip(bicubic(stretched(heat), size), 0, 1))
    table = colours(colormap).astype(np.float64) / 255
    above = table[np.round(255 * strength).astype(np.intp)]  # (height, width, 3)
    alpha = opacity(strength, most)[..., None]
    mixed = (1 - alpha) * below + alpha * above
    if contour is not None:
        mixed[_outline(hard(bicubic(heat, size), contour), max(1, min(size) // 256))] = 1.0
    return Image.fromarray(np.round(255 * np.clip(mixed, 0, 1)).astype(np.uint8))


def _outline(marked: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """The inner edge of what is marked, some pixels wide."""
    inner = marked.copy()
    for _ in range(width):
        padded = np.pad(inner, 1, constant_values=True)
        inner = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return marked & ~inner
