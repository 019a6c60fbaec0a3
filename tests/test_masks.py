from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfumato.errors import OptionError
from sfumato.masks import read_mask

SHAPE = (6, 9)


def corner() -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[:2, :3] = True
    return mask


def saved(folder: Path, image: Image.Image, name: str = "mask.png") -> str:
    image.save(folder / name)
    return str(folder / name)


def grey(values: np.ndarray | None = None) -> Image.Image:
    return Image.fromarray(((corner() if values is None else values) * 255).astype(np.uint8))


def test_a_region_is_meant_by_its_name() -> None:
    other = ~corner()
    found = read_mask("mouth", SHAPE, {"hair": other, "mouth": corner()})
    np.testing.assert_array_equal(found, corner())
    np.testing.assert_array_equal(read_mask("hair", SHAPE, {"hair": other}), other)


def palette() -> Image.Image:
    image = grey().point(lambda value: int(value > 0)).convert("P")  # the numbers say nothing, their colours do
    image.putpalette([0, 0, 0, 255, 255, 255])
    return image


@pytest.mark.parametrize(
    ("mode", "image"),
    [("1", grey().convert("1")), ("L", grey()), ("P", palette()), ("RGB", grey().convert("RGB"))],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_black_and_white_picture_is_read_in_every_mode(
    tmp_path: Path, mode: str, image: Image.Image, kind: type
) -> None:
    name = saved(tmp_path, image)
    with Image.open(name) as stored:
        assert stored.mode == mode
    found = read_mask(kind(name), SHAPE)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, corner())


def test_a_palette_counts_by_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(corner().astype(np.uint8)).convert("P")
    image.putpalette([255, 255, 255, 0, 0, 0])  # number 0 is white
    np.testing.assert_array_equal(read_mask(saved(tmp_path, image), SHAPE), ~corner())


def test_a_picture_of_sixteen_bits_is_read(tmp_path: Path) -> None:
    image = Image.fromarray(corner().astype(np.uint16) * 65535)
    np.testing.assert_array_equal(read_mask(saved(tmp_path, image), SHAPE), corner())


@pytest.mark.parametrize(
    "values",
    [
        corner(),
        corner().astype(np.int64),
        corner().astype(np.uint8) * 200,
        corner().astype(np.float32) * 0.3,
        corner().tolist(),
    ],
)
def test_an_array_of_booleans_or_numbers_is_read(values: Any) -> None:
    np.testing.assert_array_equal(read_mask(values, SHAPE), corner())


def test_inside_is_above_half_of_the_largest() -> None:
    values = np.array([[0.0, 0.2, 0.21, 0.4]])
    np.testing.assert_array_equal(read_mask(values, (1, 4)), [[False, False, True, True]])
    levels = np.array([[0, 127, 128, 255]], np.uint8)
    np.testing.assert_array_equal(read_mask(levels, (1, 4)), [[False, False, True, True]])


@pytest.mark.parametrize(("mode", "channels"), [("RGBA", "RGBA"), ("LA", "LA"), ("CMYK", "CMYK")])
def test_a_picture_of_several_channels_is_refused(tmp_path: Path, mode: str, channels: str) -> None:
    name = saved(tmp_path, grey().convert(mode), "mask.tif" if mode == "CMYK" else "mask.png")
    with pytest.raises(OptionError, match=f"has the channels {channels}; give a black and white picture, white inside"):
        read_mask(name, SHAPE)


def test_a_coloured_picture_is_refused(tmp_path: Path) -> None:
    image = grey().convert("RGB")
    image.putpixel((8, 5), (0, 0, 1))
    with pytest.raises(OptionError, match="is in colour; give a black and white picture"):
        read_mask(saved(tmp_path, image), SHAPE)


def test_a_missing_file_is_an_error_that_lists_the_regions(tmp_path: Path) -> None:
    missing = str(tmp_path / "nose")
    with pytest.raises(OptionError, match="cannot be read: there is no such file; give a black and white PNG$"):
        read_mask(missing, SHAPE)
    with pytest.raises(OptionError, match="'nose' cannot be read.* PNG, or one of: hair, mouth$"):
        read_mask("nose", SHAPE, {"hair": corner(), "mouth": corner()})


def test_what_is_no_picture_is_an_error(tmp_path: Path) -> None:
    text = tmp_path / "mask.png"
    text.write_text("white")
    whole = Path(saved(tmp_path, grey(), "whole.png")).read_bytes()
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole[: whole.index(b"IDAT") + 8])
    for given in (text, cut, tmp_path, "a\0b"):
        with pytest.raises(OptionError, match=r"cannot be read: no picture \("):
            read_mask(given, SHAPE)


def test_a_damaged_picture_is_an_error(tmp_path: Path) -> None:
    path = Path(saved(tmp_path, grey()))
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") - 1] = 2  # a length that makes the next chunk's name nonsense
    path.write_bytes(content)
    with pytest.raises(OptionError, match="cannot be read"):
        read_mask(path, SHAPE)


def test_rows_of_different_lengths_are_an_error() -> None:
    with pytest.raises(OptionError, match="expected"):
        read_mask([[1, 0], [0]], (2, 2))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (corner().T, "the mask has 9 x 6 pixels (height x width); the image has 6 x 9: resize it"),
        (np.zeros(SHAPE, bool), "the mask marks no pixel; paint the part that you mean in white"),
        (np.zeros(SHAPE), "the mask marks no pixel"),
        (np.ones(SHAPE, bool), "the mask marks every pixel; paint the rest black, or leave the mask out"),
        (np.full(SHAPE, 0.2), "the mask marks every pixel"),
        (np.where(corner(), np.nan, 0), "the mask holds NaN or infinite values; give numbers from 0 to 1"),
        (np.where(corner(), np.inf, 0), "the mask holds NaN or infinite values"),
        (np.where(corner(), 1.0, -0.1), "the mask holds negative values; give numbers from 0 to 1"),
        (np.where(corner(), 1, -1), "the mask holds negative values"),
        (np.stack([corner()] * 3), "the mask is an array of bool of shape (3, 6, 9); expected (height, width)"),
        (np.zeros(9), "the mask is an array of float64 of shape (9,); expected (height, width)"),
        (corner().astype(complex), "the mask is an array of complex128 of shape (6, 9)"),
        (None, "the mask is an array of object of shape ()"),
    ],
)
def test_an_array_that_is_no_mask_is_refused(values: Any, message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        read_mask(values, SHAPE)


def test_a_picture_and_a_region_are_checked_as_an_array_is(tmp_path: Path) -> None:
    name = saved(tmp_path, grey(corner().T))
    with pytest.raises(OptionError, match=re.escape(f"{name} has 9 x 6 pixels (height x width)")):
        read_mask(name, SHAPE)
    with pytest.raises(OptionError, match="mask.png marks no pixel"):
        read_mask(saved(tmp_path, grey(np.zeros(SHAPE, bool))), SHAPE)
    with pytest.raises(OptionError, match="mask.png marks every pixel"):
        read_mask(saved(tmp_path, grey(np.ones(SHAPE, bool)).convert("1")), SHAPE)
    with pytest.raises(OptionError, match="hat marks no pixel"):
        read_mask("hat", SHAPE, {"hat": np.zeros(SHAPE, bool)})
