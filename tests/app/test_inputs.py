"""What visitors give: pictures, masks, numbers, options."""

from __future__ import annotations

import base64
import io
import time
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfumato.app.asking.inputs import (
    MOST_PIXELS,
    check_pattern,
    check_patterns,
    decimal,
    mask_from,
    number,
    offered_options,
    options_from,
    picture_from,
)
from sfumato.errors import OptionError, RequestError
from sfumato.generation.feature_layers import Layer, chosen
from sfumato.registry import find, methods


def url(image: Image.Image, kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_pictures_of_three_kinds_are_read(kind: str) -> None:
    found = picture_from(url(Image.new("RGB", (32, 24), "red"), kind))
    assert (found.height, found.width) == (24, 32)


def test_a_mask_is_true_where_it_is_white_and_has_the_size_of_the_image() -> None:
    drawn = np.zeros((16, 16), np.uint8)
    drawn[4:8, 2:6] = 255
    np.testing.assert_array_equal(mask_from(url(Image.fromarray(drawn)), (16, 16)), drawn > 0)
    with pytest.raises(RequestError, match="give a mask of the image's size"):
        mask_from(url(Image.fromarray(drawn)), (32, 32))


@pytest.mark.parametrize(("value", "said"), [(0, "marks no pixel"), (255, "marks every pixel")])
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


@pytest.mark.parametrize(
    "read", [lambda data: picture_from(data).array[..., 0], lambda data: mask_from(data, (24, 16))]
)
def test_a_picture_is_turned_as_the_camera_noted(read: Any) -> None:
    lying = np.zeros((16, 24), np.uint8)
    lying[:, :8] = 255
    noted = Image.Exif()
    noted[0x0112] = 6  # taken upright: its left is the top
    buffer = io.BytesIO()
    Image.fromarray(lying).save(buffer, "PNG", exif=noted)
    found = read(f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}")
    np.testing.assert_array_equal(found > 0, np.rot90(lying, -1) > 0)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_unpacked() -> None:
    side = int(MOST_PIXELS**0.5) + 100
    with pytest.raises(RequestError, match="at most 8,388,608 are accepted"):
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
        ("df_rise", "until", "nan", "the option until is nan"),
        ("df_rise", "keep", "inf", "the option keep is inf"),
        ("df_rise", "at", "0:100000," * 50, "more than 200 values"),
        ("df_rise", "at", "1,,2", "expected whole numbers"),
        ("df_rise", "at", "-1", "expected 0 or more"),
        ("daam", "steps", "none,1", "values or none, not both"),
        ("daam", "steps", "1,200000", "at most 100000 are taken"),
        ("switch", "at", "1:100", "more than 32 values"),
        ("segments", "clusters", "1000", "at most 64 are taken"),
        ("segments", "most", "1000", "at most 100 are taken"),
        ("i2am", "groups", "1000", "at most 50 are taken"),
        ("word_gradients", "through", "-1", "expected 0 or more"),
        ("word_gradients", "through", "1000", "at most 200 are taken"),
        ("ablation", "at", "100001", "at most 100000 are taken"),
        ("ovam", "text", "a," * 20, "more than 16 values"),
        ("concept_attention", "concepts", "a," * 40, "more than 32 values"),
        ("daam", "layers", "x" * 3000, "at most 2000 are taken"),
        ("daam", "layers", "x" * 201, "at most 200 signs are taken"),
        ("shapley", "cache", "true", "has no option 'cache' on this page"),
    ],
)
def test_options_that_cannot_be_given_are_refused(method: str, name: str, text: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        options_from(find(method), {name: text})


EVIL = "**?" * 40 + "Z"
PATTERNS = [(method.name, option.name) for method in methods() for option in fields(method.options)]
PATTERNS = [(method, name) for method, name in PATTERNS if name in ("layers", "sweep", "rank", "channels", "heads")]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("method", "name"), PATTERNS)
@pytest.mark.parametrize("evil", [EVIL, "(a+)+$", "(a|a)*Z", "****", "a{1,9}", "x+", "\n"])
def test_a_pattern_that_could_take_for_ever_is_refused_at_once(method: str, name: str, evil: str) -> None:
    began = time.perf_counter()
    for ask in (
        lambda: options_from(find(method), {name: f"x{evil}x"}),
        lambda: check_patterns(find(method), {name: evil}),
        lambda: check_patterns(find(method), {name: ("a", evil)}),
    ):
        with pytest.raises(OptionError, match="on this page at most"):
            ask()
    assert time.perf_counter() - began < 1


def test_layers_have_names_and_few_stars() -> None:
    assert len({method for method, _ in PATTERNS}) == 7
    for method, name, text, value in (
        ("daam", "layers", r"^down_blocks|up_blocks\.[01]\.$", r"^down_blocks|up_blocks\.[01]\.$"),
        ("profile", "layers", "**.fn, downs.?.*", ("**.fn", "downs.?.*")),
        ("ablation", "channels", "downs.0.3:41,downs.0.3:42", ("downs.0.3:41", "downs.0.3:42")),
        ("ablation", "rank", "mid_attn.fn", "mid_attn.fn"),
        ("daam", "steps", "0:3,7", (0, 1, 2, 7)),
        ("daam", "steps", "none", None),
    ):
        assert options_from(find(method), {name: text}) == {name: value}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("glob", ["***Z", "*_*_*Z", "**?*?Z", "*?*?*Z"])
def test_globs_that_are_taken_are_matched_soon(glob: str) -> None:
    name = "up_blocks." + "attentions_and_" * 15
    layers = [Layer(f"{name}{number}", "", 1, 1, 1) for number in range(1000)]
    check_pattern("layers", glob)
    began = time.perf_counter()
    with pytest.raises(OptionError, match="no layer matches"):
        chosen([glob], layers)
    assert time.perf_counter() - began < 10


def test_nothing_is_kept_on_the_disk_for_visitors() -> None:
    for name in ("shapley", "lime"):
        assert options_from(find(name), {}) == {"cache": False}
        assert "cache" not in offered_options(find(name))


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
