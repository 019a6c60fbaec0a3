"""An image as an input: checked when it is given, always RGB, told apart by content."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from sfumato.errors import RequestError

FORMATS = ("PNG", "JPEG", "WEBP")
MOST_PIXELS = 4096 * 4096
SMALLEST_SIDE = 8
MOST_GREY = 0.1
"""The largest share of a mask that may be neither black nor white: edges are, when a mask was scaled."""


@dataclass(frozen=True)
class Picture:
    """The pixels of an image that a generation starts from.

    Args:
        height: In pixels.
        width: In pixels.
        pixels: The bytes of (y, x, channel) uint8, RGB.
    """

    height: int
    width: int
    pixels: bytes = field(repr=False)

    @classmethod
    def of(cls, given: Any) -> Picture:
        """Read a file, or take over an image.

        Args:
            given: A path to a PNG, JPEG or WebP file, a PIL image, an array (y, x, 3) of uint8, a ``Picture``, or what
                its ``to_dict`` gave. The orientation that a camera noted is applied; transparency lies on white.

        Raises:
            RequestError: It is no image, or one that is too large or too small.
        """
        if isinstance(given, Picture):
            return given
        if isinstance(given, Mapping):
            return cls._from_dict(given)
        if isinstance(given, Image.Image):
            return cls._of_image(given, "image")
        if isinstance(given, np.ndarray):
            if given.dtype != np.uint8 or given.ndim != 3 or given.shape[2] != 3:
                raise RequestError(f"image is an array {given.shape} of {given.dtype}; expected (y, x, 3) of uint8")
            return cls._of_image(Image.fromarray(given), "image")
        if isinstance(given, str | os.PathLike):
            return cls._of_image(opened(Path(given).expanduser()), f"the image {Path(given).name}")
        raise RequestError(f"image is {type(given).__name__}; give a path, a PIL image or an array (y, x, 3) of uint8")

    @cached_property
    def sha256(self) -> str:
        """Digest of size and pixels."""
        return hashlib.sha256(f"{self.height}x{self.width} ".encode() + self.pixels).hexdigest()

    @property
    def array(self) -> NDArray[np.uint8]:
        """The pixels (y, x, channel); read-only."""
        return np.frombuffer(self.pixels, np.uint8).reshape(self.height, self.width, 3)

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Of a mask: (y, x), true where it is white."""
        return self.array[..., 0] > 127

    @property
    def image(self) -> Image.Image:
        """As a PIL image."""
        return Image.fromarray(self.array)

    def resized(self, height: int, width: int, *, smooth: bool = True) -> Picture:
        """At another size; a mask not `smooth`, so that it stays black and white."""
        if (height, width) == (self.height, self.width):
            return self
        how = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
        return Picture._of_image(self.image.resize((width, height), how), "image")

    def to_dict(self) -> dict[str, Any]:
        """Sizes, digest and the pixels as a PNG in base64, ready for JSON."""
        buffer = io.BytesIO()
        self.image.save(buffer, format="PNG")
        png = base64.b64encode(buffer.getvalue()).decode("ascii")
        return {"height": self.height, "width": self.width, "sha256": self.sha256, "png": png}

    @classmethod
    def _from_dict(cls, values: Mapping[str, Any]) -> Picture:
        try:
            content = base64.b64decode(str(values["png"]), validate=True)
        except (KeyError, binascii.Error) as error:
            raise RequestError("the stored image cannot be read; give the image anew") from error
        found = cls._of_image(decoded(content, "the stored image"), "the stored image")
        if found.sha256 != values.get("sha256"):
            raise RequestError("the stored image does not match its digest; give the image anew")
        return found

    @classmethod
    def _of_image(cls, image: Image.Image, what: str) -> Picture:
        _check_size(image.width, image.height, what)
        if image.has_transparency_data:
            clear = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
        plain = image.convert("RGB")
        return cls(plain.height, plain.width, plain.tobytes())


def opened(path: Path) -> Image.Image:
    """The image in a PNG, JPEG or WebP file, turned as the camera noted.

    Raises:
        RequestError: It is no image, damaged, too large or too small.
    """
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"the image {str(path)[:120]} cannot be read: {reason}") from error
    return decoded(content, f"the image {path.name}")


def decoded(content: bytes, what: str, *, most: int = MOST_PIXELS) -> Image.Image:
    """The image in the bytes of a PNG, JPEG or WebP file, turned as the camera noted.

    Args:
        content: The file; its size is checked before it is unpacked.
        what: How messages call it.
        most: Pixels that it may have.

    Raises:
        RequestError: It is no image, damaged, too large or too small.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            _check_size(image.width, image.height, what, most)
            image.load()
    except UnidentifiedImageError as error:
        raise RequestError(f"{what} cannot be read: it is no PNG, JPEG or WebP image") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{what} is damaged ({error}); give a whole PNG, JPEG or WebP file") from error
    return ImageOps.exif_transpose(image)


def stencil(given: Any) -> Picture:
    """Read a mask: a picture that is white inside and black outside, nothing between but at edges.

    Args:
        given: As for ``Picture.of``, or an array (y, x) of booleans.

    Raises:
        RequestError: It is no picture, has colour, transparency or large grey parts, or marks nothing or everything.
    """
    if isinstance(given, np.ndarray) and given.dtype == np.bool_ and given.ndim == 2:
        given = Image.fromarray(given)
    if isinstance(given, str | os.PathLike):
        given = opened(Path(given).expanduser())
    if isinstance(given, Image.Image) and given.has_transparency_data:
        raise RequestError("the mask has transparency; give a black and white picture, white inside")
    values = Picture.of(given).array
    if (values != values[..., :1]).any():
        raise RequestError("the mask is in colour; give a black and white picture, white inside")
    grey = float(((values[..., 0] > 64) & (values[..., 0] < 192)).mean())
    if grey > MOST_GREY:
        raise RequestError(f"{grey:.0%} of the mask is grey; give a black and white picture, white inside")
    inside = values[..., 0] > 127
    if not inside.any():
        raise RequestError("the mask marks no pixel; paint the part that you mean in white")
    if inside.all():
        raise RequestError("the mask marks every pixel; paint what is to stay in black")
    return Picture.of(np.repeat(np.where(inside, np.uint8(255), np.uint8(0))[..., None], 3, axis=-1))


def _check_size(width: int, height: int, what: str, most: int = MOST_PIXELS) -> None:
    if min(width, height) < SMALLEST_SIDE:
        raise RequestError(f"{what} is {width} x {height} pixels; expected {SMALLEST_SIDE} or more on each side")
    if width * height > most:
        raise RequestError(f"{what} is {width} x {height} pixels; at most {most:,} are taken, so make it smaller")
