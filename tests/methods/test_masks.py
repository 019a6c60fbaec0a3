"""Masks: one rule for every way to give one."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfumato.app.asking.inputs import mask_from
from sfumato.errors import OptionError, RequestError
from sfumato.inputs.image import MOST_GREY, Mask, read_mask
from sfumato.methods import masks
from sfumato.methods.masks import mask_of
from sfumato.request import Request

SHAPE = (12, 18)
SCENE = np.zeros((*SHAPE, 3), np.uint8)


def corner() -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[:4, :6] = True
    return mask


def grey(values: np.ndarray | None = None) -> Image.Image:
    return Image.fromarray(((corner() if values is None else values) * 255).astype(np.uint8))


def palette(*colours: int) -> Image.Image:
    image = Image.fromarray(corner().astype(np.uint8)).convert("P")  # the numbers mean nothing, their colours do
    image.putpalette(colours)
    return image


def with_grey(share: float) -> Image.Image:
    """The corner, and so much of the mask in the middle between black and white."""
    values = np.where(corner(), 255, 0).astype(np.uint8)
    values.ravel()[-round(share * values.size) :] = 120
    return Image.fromarray(values)


def transparent() -> Image.Image:
    image = grey().convert("RGBA")
    image.putpixel((17, 11), (0, 0, 0, 0))
    return image


def coloured() -> Image.Image:
    image = grey().convert("RGB")
    image.putpixel((8, 5), (0, 0, 1))
    return image


MASKS = {
    "1 bit": (grey().convert("1"), corner()),
    "8 bits": (grey(), corner()),
    "16 bits": (Image.fromarray(corner().astype(np.uint16) * 65535), corner()),
    "RGB": (grey().convert("RGB"), corner()),
    "opaque": (grey().convert("RGBA"), corner()),
    "palette": (palette(0, 0, 0, 255, 255, 255), corner()),
    "palette, the other way": (palette(255, 255, 255, 0, 0, 0), ~corner()),
    "0 and 1": (Image.fromarray(corner().astype(np.uint8)), corner()),
    "grey edges": (with_grey(0.9 * MOST_GREY), corner()),
}
NO_MASKS = {
    "grey": (with_grey(1.3 * MOST_GREY), r"1\d% of .* is grey"),
    "colour": (coloured(), "is in colour"),
    "transparent": (transparent(), "has transparent pixels"),
    "black": (grey(np.zeros(SHAPE)), "marks no pixel"),
    "white": (grey(np.ones(SHAPE)), "marks every pixel"),
    "turned": (grey(corner().T), r"18 x 12 pixels \(height x width\), the image 12 x 18"),
    "twice as large": (grey(np.kron(corner(), np.ones((2, 2)))), "24 x 36 pixels"),
}


def stored(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def every_way(image: Image.Image, file: Path) -> dict[str, Any]:
    """What each reader of masks makes of an image of `SHAPE`; an error is its message."""
    file.write_bytes(stored(image))
    url = f"data:image/png;base64,{base64.b64encode(stored(image)).decode()}"
    model: Any = SimpleNamespace(pipeline=SimpleNamespace(config={}))
    request = Request(height=SHAPE[0], width=SHAPE[1])
    ways = {
        "the file of a request": lambda: Request(image=SCENE, mask=str(file)).mask.inside,  # type: ignore
        "an image of a request": lambda: Request(image=SCENE, mask=image).mask.inside,  # type: ignore
        "the file of an option": lambda: mask_of(model, request, file),
        "an image of an option": lambda: mask_of(model, request, image),
        "the page": lambda: mask_from(url, SHAPE),
    }
    found: dict[str, Any] = {}
    for name, read in ways.items():
        try:
            found[name] = read()
        except (RequestError, OptionError) as error:
            found[name] = str(error)
    return found


@pytest.mark.parametrize("name", MASKS)
def test_every_way_to_give_a_mask_gives_the_same_part(name: str, tmp_path: Path) -> None:
    image, inside = MASKS[name]
    for way, found in every_way(image, tmp_path / "mask.png").items():
        assert isinstance(found, np.ndarray), (way, found)
        np.testing.assert_array_equal(found, inside, err_msg=way)


@pytest.mark.parametrize("name", NO_MASKS)
def test_every_way_to_give_a_mask_refuses_the_same(name: str, tmp_path: Path) -> None:
    image, message = NO_MASKS[name]
    for way, found in every_way(image, tmp_path / "mask.png").items():
        assert isinstance(found, str), way
        assert re.search(message, found), (way, found)


@pytest.mark.parametrize(
    "values",
    [
        corner(),
        corner().astype(np.int64),
        corner().astype(np.uint8) * 200,
        corner().astype(np.float32) * 0.3,
        np.repeat((corner() * 255).astype(np.uint8)[..., None], 3, -1),
        corner().tolist(),
        Mask.of(corner()),
        Mask.of(corner()).to_dict(),
    ],
)
def test_booleans_numbers_and_pictures_are_masks(values: Any) -> None:
    np.testing.assert_array_equal(read_mask(values, SHAPE), corner())


def test_inside_is_above_half_of_the_largest() -> None:
    levels = np.zeros((4, 10))
    levels[0, :3] = 0.4
    levels[1, :2] = 0.2, 0.21
    inside = levels > 0.2
    np.testing.assert_array_equal(read_mask(levels), inside)
    assert set(np.unique(Mask.of(np.kron(levels, np.ones((4, 4)))).array)) == {0, 255}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.where(corner(), np.nan, 0), "the mask holds negative, NaN or infinite values; give numbers from 0 to 1"),
        (np.where(corner(), np.inf, 0), "NaN or infinite"),
        (np.where(corner(), 1, -1), "holds negative"),
        (np.stack([corner()] * 4), "the mask is an array of bool of shape (4, 12, 18); expected (height, width)"),
        (np.zeros(9), "the mask is an array of float64 of shape (9,); expected (height, width)"),
        (np.zeros((0, 9)), "of shape (0, 9)"),
        (corner().astype(complex), "the mask is an array of complex128 of shape (12, 18)"),
        (np.broadcast_to(np.zeros(1, bool), (5000, 5000)), "25,000,000 pixels; at most 16,777,216"),
        ([[1, 0], [0]], "no array of one shape"),
        (None, "the mask is NoneType; give a path, an image or an array (height, width)"),
        (object(), "the mask is object"),
        ({"png": 3}, "the stored image cannot be read"),
        ("", "cannot be read: it is no path"),
        ("a\0b", "contains a NUL character"),
        ("\ud800", "half of a surrogate pair"),
        ("~nosuchuser/mask.png", "there is no home folder for ~nosuchuser"),
    ],
)
def test_what_is_no_mask_is_refused(values: Any, message: str) -> None:
    with pytest.raises(RequestError, match=re.escape(message)):
        read_mask(values, SHAPE)


def test_a_region_is_meant_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    regions = {"hair": ~corner(), "mouth": corner(), "hat": np.zeros(SHAPE, bool)}
    monkeypatch.setattr(masks, "regions_of", lambda pipeline: regions)
    model: Any = SimpleNamespace(pipeline=None)
    request = Request(height=SHAPE[0], width=SHAPE[1])
    np.testing.assert_array_equal(mask_of(model, request, "mouth"), corner())
    np.testing.assert_array_equal(mask_of(model, request, "hair"), ~corner())
    with pytest.raises(OptionError, match="the region hat marks no pixel"):
        mask_of(model, request, "hat")
    with pytest.raises(OptionError, match=r"No such file.* \(or name a region: hair, mouth, hat\)"):
        mask_of(model, request, str(tmp_path / "nose"))
    with pytest.raises(OptionError, match="the region mouth is 12 x 18 pixels"):
        mask_of(model, Request(height=24, width=18), "mouth")
