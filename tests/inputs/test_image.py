from __future__ import annotations

import io
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfumato.errors import RequestError
from sfumato.inputs.image import MOST_BYTES, MOST_PIXELS, Picture, opened
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
        ("/dev/zero", "it is no regular file; give a file on the disk"),
        ("a" * 5000, "cannot be read: File name too long"),
        ("", "cannot be read: it is no path"),
        ("a\0b.png", "cannot be read: it contains a NUL"),
        ("\ud800.png", "cannot be read: it contains half of a surrogate pair"),
        ("~nosuchuser/a.png", "there is no home folder for ~nosuchuser; write the path out"),
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


@pytest.mark.timeout(20)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(RequestError, match="it is no regular file"):
        opened(tmp_path / "pipe.png")


def test_a_file_of_too_many_bytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(MOST_BYTES + 1)  # takes no room on the disk
    with pytest.raises(RequestError, match="it has 134 MB; at most 134 are read"):
        opened(tmp_path / "large.png")


def test_a_bomb_is_refused_by_its_size_before_it_is_unpacked(tmp_path: Path) -> None:
    whole = stored(Image.new("1", (8, 8)), tmp_path / "bomb.png").read_bytes()
    header = bytearray(whole[12:29])
    header[4:12] = struct.pack(">II", 60_000, 60_000)
    content = whole[:12] + bytes(header) + struct.pack(">I", zlib.crc32(header)) + whole[33:]
    (tmp_path / "bomb.png").write_bytes(content)
    with pytest.raises(RequestError, match="far more than 16,777,216 pixels"):
        opened(tmp_path / "bomb.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_damaged_file_is_an_image_or_one_clear_error(kind: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = stored(Image.fromarray(PIXELS), tmp_path / "whole", format=kind, exif=exif).read_bytes()
    generator = np.random.default_rng(0)
    said: list[str] = []
    for _ in range(150):
        content = bytearray(whole)
        for place in generator.integers(0, len(whole), 3):
            content[place] = generator.integers(256)
        (tmp_path / "damaged").write_bytes(content[: generator.integers(8, len(whole) + 1)])
        try:
            Picture.of(opened(tmp_path / "damaged"))
        except RequestError as error:
            said.append(str(error))
    assert said
    assert not any("\n" in one for one in said)
