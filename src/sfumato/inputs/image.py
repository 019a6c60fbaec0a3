"""Images as inputs: one reader of image files, pictures (always RGB, identified by their content), and masks.

Every image file that a user or a model gives is read here, by ``opened`` or ``decoded``, and every mask by
``read_mask``: regular files of bounded size, PNG, JPEG or WebP, whose pixels are counted before they are unpacked.
"""

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
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from sfumato.bounds import shown_path
from sfumato.errors import RequestError, Unreadable
from sfumato.reading import read_bytes

FORMATS = ("PNG", "JPEG", "WEBP")
MOST_BYTES = 128 * 2**20
"""Of a file; 4096 x 4096 pixels of noise have about 100 MB as a PNG of 16 bits."""
MOST_PIXELS = 4096 * 4096
SMALLEST_SIDE = 8
MOST_GREY = 0.1
"""The largest share of a mask that may be grey, which is from a quarter to three quarters of its largest value: edges
are, where a mask was scaled."""


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
        if isinstance(given, Mask):
            return Picture(given.height, given.width, given.pixels)
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
            return cls._of_image(opened(given), f"the image {shown_path(given)}")
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
    def image(self) -> Image.Image:
        """As a PIL image."""
        return Image.fromarray(self.array)

    def resized(self, height: int, width: int) -> Picture:
        """At another size."""
        if (height, width) == (self.height, self.width):
            return self
        return Picture.of(self.image.resize((width, height), Image.Resampling.LANCZOS))

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
    def _of_image(cls, image: Image.Image, what: str) -> Self:
        _check_size(image.width, image.height, what)
        if image.has_transparency_data:
            clear = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
        plain = image.convert("RGB")
        return cls(plain.height, plain.width, plain.tobytes())


class Mask(Picture):
    """A picture in black and white, white inside; see ``read_mask``."""

    @classmethod
    def of(cls, given: Any) -> Mask:
        """Read a mask once; one that has been read is taken as it is.

        Args:
            given: As for ``read_mask``.

        Raises:
            RequestError: It is no mask.
        """
        if isinstance(given, Mask):
            return given
        inside = read_mask(given)
        return cls._of_image(Image.fromarray(np.where(inside, np.uint8(255), np.uint8(0))), "image")

    @property
    def inside(self) -> NDArray[np.bool_]:
        """(y, x), true where it is white."""
        return self.array[..., 0] > 127

    def resized(self, height: int, width: int) -> Mask:
        """At another size, still in black and white.

        Raises:
            RequestError: Nothing is left inside, or outside.
        """
        if (height, width) == (self.height, self.width):
            return self
        return Mask.of(self.image.resize((width, height), Image.Resampling.NEAREST))


def opened(given: str | os.PathLike[str], kind: str = "the image") -> Image.Image:
    """The image in a PNG, JPEG or WebP file, turned as the camera noted.

    Args:
        given: The file's path, as the user wrote it.
        kind: How messages call it, before its path.

    Raises:
        RequestError: It is no image, damaged, too large or too small.
    """
    what = f"{kind} {shown_path(given)}"
    try:
        content = read_bytes(given, MOST_BYTES)
    except Unreadable as error:
        raise RequestError(f"{what} cannot be read: {error.reason}") from error
    return decoded(content, what)


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
            warnings.simplefilter("ignore")  # Pillow warns of large and of damaged files; both are refused here
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            _check_size(image.width, image.height, what, most)
            image.load()
            return ImageOps.exif_transpose(image)
    except RequestError:
        raise
    except Image.DecompressionBombError as error:
        raise RequestError(f"{what} has far more than {most:,} pixels, which are the most that are accepted") from error
    except UnidentifiedImageError as error:
        raise RequestError(f"{what} cannot be read: it is no PNG, JPEG or WebP image") from error
    except Exception as error:  # as many kinds as there are ways to damage a file
        raise RequestError(f"{what} is damaged ({error}); give a whole PNG, JPEG or WebP file") from error


def read_mask(given: Any, size: tuple[int, int] | None = None, what: str = "the mask") -> NDArray[np.bool_]:
    """The part of an image that a mask marks.

    A mask is black and white, white inside. It has no colour and no transparent pixel. Inside is what lies above half
    of the largest value; at most a tenth of the mask is grey. It marks something, but not everything, and it has the
    size of the image that it belongs to: it is never scaled.

    Args:
        given: An image as for ``Picture.of``, or numbers or booleans (y, x) as an array or lists.
        size: Height and width that it must have.
        what: How messages call it.

    Returns:
        (y, x), true inside.

    Raises:
        RequestError: It breaks one of these rules; the message says which.
    """
    values = _values(given, what)
    if size is not None and values.shape != size:
        raise RequestError(
            f"{what} is {values.shape[0]} x {values.shape[1]} pixels (height x width), "
            f"the image {size[0]} x {size[1]}; give a mask of the image's size"
        )
    top = values.max()
    grey = float(((4 * values > top) & (4 * values < 3 * top)).mean())
    if grey > MOST_GREY:
        raise RequestError(f"{grey:.0%} of {what} is grey; give a black and white picture, white inside")
    inside: NDArray[np.bool_] = 2 * values > top
    if not inside.any():
        raise RequestError(f"{what} marks no pixel; paint the part that you mean in white")
    if inside.all():
        raise RequestError(f"{what} marks every pixel; paint what is to stay in black")
    return inside


def _values(given: Any, what: str) -> NDArray[np.float64]:
    """The brightness of a mask's pixels (y, x), 0 for black."""
    if isinstance(given, str | os.PathLike):
        given = opened(given, what)
    if isinstance(given, Picture | Mapping):
        given = Picture.of(given).array
    if isinstance(given, Image.Image):
        _check_size(given.width, given.height, what)
        if given.has_transparency_data and np.asarray(given.convert("RGBA"))[..., 3].min() < 255:
            raise RequestError(f"{what} has transparent pixels; give a black and white picture, white inside")
        given = np.asarray(given if given.mode.startswith(("I", "F")) else given.convert("RGB"))
    if not isinstance(given, list | tuple) and not hasattr(given, "__array__"):
        raise RequestError(f"{what} is {type(given).__name__}; give a path, an image or an array (height, width)")
    try:
        values: NDArray[Any] = np.asarray(given)
    except (ValueError, RecursionError):
        raise RequestError(f"{what} is no array of one shape; expected numbers (height, width)") from None
    if values.ndim == 3 and values.shape[2] == 3:
        if (values != values[..., :1]).any():
            raise RequestError(f"{what} is in colour; give a black and white picture, white inside")
        values = values[..., 0]
    if values.ndim != 2 or values.dtype.kind not in "biuf" or not values.size:
        raise RequestError(f"{what} is an array of {values.dtype} of shape {values.shape}; expected (height, width)")
    if values.size > MOST_PIXELS:
        raise RequestError(f"{what} has {values.size:,} pixels; at most {MOST_PIXELS:,} are accepted")
    values = values.astype(np.float64)
    if not (np.isfinite(values).all() and values.min() >= 0):
        raise RequestError(f"{what} holds negative, NaN or infinite values; give numbers from 0 to 1")
    return values


def _check_size(width: int, height: int, what: str, most: int = MOST_PIXELS) -> None:
    if min(width, height) < SMALLEST_SIDE:
        raise RequestError(f"{what} is {width} x {height} pixels; expected {SMALLEST_SIDE} or more on each side")
    if width * height > most:
        raise RequestError(f"{what} is {width} x {height} pixels; at most {most:,} are accepted, so make it smaller")
