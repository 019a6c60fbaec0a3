"""What visitors give: pictures, masks, numbers, options."""

from __future__ import annotations

import base64
import io
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfumato.app.asking.inputs import (
    MOST_PIXELS,
    decimal,
    mask_from,
    number,
    offered_options,
    options_from,
    picture_from,
)
from sfumato.errors import OptionError, RequestError
from sfumato.registry import find, methods


def url(image: Image.Image, kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_pictures_of_three_kinds_are_read(kind: str) -> None:
    found = picture_from(url(Image.new("RGB", (32, 24), "red"), kind))
    assert (found.height, found.width) == (24, 32)


def test_a_mask_is_true_where_it_is_white_and_brought_to_the_image() -> None:
    drawn = np.zeros((16, 16), np.uint8)
    drawn[4:8, 2:6] = 255
    found = mask_from(url(Image.fromarray(drawn)), (32, 32))
    np.testing.assert_array_equal(found, np.kron(drawn > 0, np.ones((2, 2), bool)))


@pytest.mark.parametrize(("value", "said"), [(0, "marks nothing"), (255, "marks everything")])
def test_a_mask_that_marks_nothing_or_everything_is_refused(value: int, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        mask_from(url(Image.new("L", (16, 16), value)), (16, 16))


@pytest.mark.parametrize(
    "given",
    [
        "",
        "hello",
        "/etc/passwd",
        "file:///etc/passwd",
        "data:text/html;base64,PGI+",
        "data:image/png;base64,",
        "data:image/png;base64,!!!!",
        "data:image/png;base64," + base64.b64encode(b"no picture at all").decode(),
        "data:image/svg+xml;base64," + base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>").decode(),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(given: str) -> None:
    with pytest.raises(RequestError) as caught:
        picture_from(given, "the scene")
    assert str(caught.value).startswith("the scene ")
    assert "PNG, JPEG or WebP" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_kinds_of_pictures_are_refused_even_under_a_false_name() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "GIF")
    given = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    with pytest.raises(RequestError, match="cannot be read"):
        picture_from(given)


def test_a_damaged_picture_is_refused() -> None:
    whole = base64.b64decode(url(Image.effect_noise((64, 64), 50).convert("RGB")).partition(",")[2])
    cut = f"data:image/png;base64,{base64.b64encode(whole[: len(whole) // 2]).decode()}"
    with pytest.raises(RequestError, match="give a whole PNG"):
        picture_from(cut)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_unpacked() -> None:
    side = int(MOST_PIXELS**0.5) + 100
    with pytest.raises(RequestError, match="at most 8,388,608 are taken"):
        picture_from(url(Image.new("1", (side, side))))


def test_a_file_of_too_many_bytes_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(RequestError, match="has 12 MB; at most 8 are taken"):
        picture_from("data:image/png;base64," + "A" * 16_000_000)


def test_options_are_read_by_their_types() -> None:
    found = options_from(find("df_rise"), {"masks": "12", "at": "1,3", "masking": "grid", "until": "", "keep": "0.25"})
    assert found == {"masks": 12, "at": (1, 3), "masking": "grid", "keep": 0.25}


@pytest.mark.parametrize(
    ("method", "name", "text", "said"),
    [
        ("daam", "nothing", "1", "has no option 'nothing' on this page"),
        ("daam", "calibration", "/etc/passwd", "has no option 'calibration' on this page"),
        ("profile", "stream", "/tmp/x", "has no option 'stream' on this page"),
        ("profile", "mask", "/etc/passwd", "has no option 'mask' on this page"),
        ("shapley", "similarity_model", "owner/name", "has no option 'similarity_model' on this page"),
        ("df_rise", "masks", "many", "expected a whole number"),
        ("df_rise", "masks", "1000000", "at most 5000 are taken"),
        ("daam", "layers", "x" * 3000, "at most 2000 are taken"),
    ],
)
def test_options_that_cannot_be_given_are_refused(method: str, name: str, text: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        options_from(find(method), {name: text})


def test_no_option_that_names_something_on_the_disk_is_offered() -> None:
    words = ("PNG", "folder", "file of", "hub id", "a file")
    for method in methods():
        offered = offered_options(method)
        for option in fields(method.options):
            about = str(option.metadata.get("help", ""))
            if option.name in offered:
                assert not any(word in about for word in words), (method.name, option.name, about)


@pytest.mark.parametrize("text", ["x", "1.5", "-1", "201", "nan", "1e3"])
def test_numbers_out_of_bounds_are_refused(text: str) -> None:
    with pytest.raises(RequestError, match="expected a whole number from 1 to 200"):
        number("steps", text, 1, 200)


@pytest.mark.parametrize("text", ["x", "nan", "inf", "-0.5", "1e9"])
def test_decimals_out_of_bounds_are_refused(text: str) -> None:
    with pytest.raises(RequestError, match="expected a number from 0 to 100"):
        decimal("guidance", text, 0, 100)


@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_an_empty_field_leaves_it_to_the_model(nothing: Any) -> None:
    assert number("steps", nothing, 1, 200) is None
    assert decimal("guidance", nothing, 0, 100) is None
