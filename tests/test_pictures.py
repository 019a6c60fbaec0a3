from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfumato.errors import RequestError
from sfumato.pictures import MOST_PIXELS, Picture, stencil
from sfumato.request import Request

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)


def stored(image: Image.Image, path: Path, **more: Any) -> Path:
    image.save(path, **more)
    return path


def test_files_images_and_arrays_are_the_same_picture(tmp_path: Path) -> None:
    path = stored(Image.fromarray(PIXELS), tmp_path / "one.png")
    found = [Picture.of(given) for given in (path, str(path), Image.fromarray(PIXELS), PIXELS)]
    assert len(set(found)) == 1
    assert (found[0].height, found[0].width) == (12, 20)
    np.testing.assert_array_equal(found[0].array, PIXELS)
    assert Picture.of(found[0]) is found[0]


def test_a_request_with_an_image_survives_json() -> None:
    request = Request("a", image=PIXELS, strength=0.5)  # type: ignore[arg-type]
    again = Request.from_dict(json.loads(json.dumps(request.to_dict())))
    assert again == request
    assert again.key == request.key
    assert hash(again) == hash(request)
    changed = PIXELS.copy()
    changed[0, 0, 0] ^= 1
    assert request.with_(image=changed).key != request.key
    assert "pixels" not in repr(request)


def test_a_stored_image_that_was_changed_is_refused() -> None:
    values = Request("a", image=PIXELS).to_dict()  # type: ignore[arg-type]
    for change in ({"sha256": "0"}, {"png": "no base64!"}, {"png": "AAAA"}):
        with pytest.raises(RequestError, match="stored image"):
            Request.from_dict(values | {"image": values["image"] | change})


def test_orientation_transparency_and_other_modes(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    turned = Picture.of(stored(Image.fromarray(PIXELS), tmp_path / "turned.jpg", exif=exif))
    assert (turned.height, turned.width) == (20, 12)
    clear = Picture.of(Image.new("RGBA", (8, 8), (255, 0, 0, 0)))
    assert (clear.array == 255).all()
    cmyk = Picture.of(stored(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "cmyk.jpg"))
    assert cmyk.array[0, 0, 0] > 200
    assert cmyk.array[0, 0, 1] < 60
    assert Picture.of(Image.new("L", (8, 9), 7)).array.shape == (9, 8, 3)


def test_bad_images_say_what_is_wrong(tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.fromarray(PIXELS).save(whole, format="PNG")
    files = {
        "cut.png": whole.getvalue()[: len(whole.getvalue()) // 2],
        "text.png": b"no image at all",
        "empty.png": b"",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    stored(Image.fromarray(PIXELS), tmp_path / "frames.gif")
    wrong: list[tuple[Any, str]] = [
        (tmp_path / "cut.png", "damaged"),
        (tmp_path / "text.png", "is no PNG, JPEG or WebP image"),
        (tmp_path / "empty.png", "is no PNG"),
        (tmp_path / "frames.gif", "is no PNG"),
        (tmp_path / "none.png", "cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
        ("a" * 5000, "cannot be read"),
        (np.zeros((7, 9, 3), np.uint8), "8 or more on each side"),
        (np.zeros((9, 9, 3), np.float32), "expected .y, x, 3. of uint8"),
        (Image.new("L", (MOST_PIXELS // 8 + 8, 8)), "make it smaller"),
        (7, "image is int"),
    ]
    for given, message in wrong:
        with pytest.raises(RequestError, match=message):
            Request("a", image=given)


@pytest.mark.parametrize("strength", [0, -1, 1.5, float("nan"), True, "half"])
def test_a_wrong_strength_is_refused(strength: Any) -> None:
    with pytest.raises(RequestError, match="above 0, at most 1"):
        Request("a", strength=strength)


def test_a_stencil_is_black_and_white_however_it_is_given(tmp_path: Path) -> None:
    mask = np.zeros((16, 24), bool)
    mask[4:12, 6:18] = True
    grey = np.repeat(np.where(mask, 250, 3).astype(np.uint8)[..., None], 3, -1)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for given in (mask, grey, Image.fromarray(mask), tmp_path / "mask.png", stencil(mask), stencil(mask).to_dict()):
        found = stencil(given)
        np.testing.assert_array_equal(found.array[..., 0] > 127, mask)
        assert set(np.unique(found.array)) == {0, 255}
        assert found == stencil(mask)
    small = stencil(mask).resized(8, 12, smooth=False)
    assert set(np.unique(small.array)) == {0, 255}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((16, 16), bool), "marks no pixel"),
        (np.ones((16, 16), bool), "marks every pixel"),
        (np.full((16, 16, 3), 128, np.uint8), "100% of the mask is grey"),
        (np.dstack([np.full((16, 16), value, np.uint8) for value in (255, 0, 0)]), "in colour"),
        (Image.new("RGBA", (16, 16), (255, 255, 255, 100)), "has transparency"),
        (np.zeros((16, 16)), "expected"),
    ],
)
def test_what_is_no_stencil_is_refused(given: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        stencil(given)
