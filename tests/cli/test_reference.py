"""A reference on the command line: from drawing a pair to its maps, and what cannot be painted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from sfumato.studio.garments import pair
from tests.adapters import adapter_weights, vision
from tests.cli.running import run
from tests.pipelines import stable_diffusion
from tests.references import tiny_references


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and the pictures of a pair."""
    place = tmp_path_factory.mktemp("reference")
    tiny_references().save_pretrained(place / "model")
    assert run("studio", "draw", "--seed", "8", "--out", str(place / "pair")).code == 0
    return place


def asked(folder: Path, **changes: str | None) -> list[str]:
    given: dict[str, str | None] = {
        "model": str(folder / "model"),
        "reference": str(folder / "pair" / "reference.png"),
        "image": str(folder / "pair" / "scene.png"),
        "mask": str(folder / "pair" / "mask.png"),
        "steps": "2",
        "guidance": "2",
    } | changes
    return ["explain", *(word for name, value in given.items() if value is not None for word in (f"--{name}", value))]


def test_the_drawn_pictures_are_those_of_the_pair(folder: Path) -> None:
    one = pair(8)
    for name in ("reference", "reference_mask", "scene", "mask", "target"):
        with Image.open(folder / "pair" / f"{name}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), getattr(one, name))


def test_a_reference_is_explained_by_i2am_without_being_asked(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(*asked(folder), "--at", "16,16", "--out", str(out))
    assert (done.code, done.err) == (0, "")
    names = {path.name for path in out.iterdir()}
    assert {"image.png", "i2am.png", "i2am_points.png", "report.html", "explanation.zarr"} <= names
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["provenance"]["method"] == "i2am"
    assert {"height", "width", "png"} <= set(summary["request"]["mask"])


@pytest.mark.parametrize(
    ("changes", "more", "message"),
    [
        ({"reference": "absent.png"}, (), "the image 'absent.png' cannot be read"),
        ({"mask": None}, (), "mask is missing"),
        ({"image": None, "mask": None}, (), "image and mask are missing"),
        ({}, ("--at", "1,1"), "at has the point 1,1, which lies outside the mask"),
        ({}, ("--at", "16"), "at is (16,); expected points x,y"),
        ({"model": "studio/scenes"}, (), "takes no reference"),
        ({"model": "studio/faces"}, (), "starts from noise and takes no image"),
    ],
)
def test_what_cannot_be_painted_is_one_line(
    folder: Path, tmp_path: Path, changes: dict[str, str | None], more: tuple[str, ...], message: str
) -> None:
    found = run(*asked(folder, **changes), *more, "--out", str(tmp_path / "out"))
    assert message in found.error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("colour", "the mask is in colour"),
        ("grey", "of the mask is grey"),
        ("empty", "the mask marks no pixel"),
        ("full", "the mask marks every pixel"),
        ("small", "give a mask of the image's size"),
        ("clear", "the mask has transparent pixels"),
    ],
)
def test_masks_that_are_none(folder: Path, tmp_path: Path, kind: str, message: str) -> None:
    size = (64, 64) if kind == "small" else (128, 128)
    mask = Image.new("RGB", size, {"colour": "red", "grey": "grey", "full": "white"}.get(kind, "black"))
    mask.paste("white" if kind != "empty" else "black", (40, 40, 60, 60))
    if kind == "clear":
        mask.putalpha(128)
    mask.save(tmp_path / "mask.png")
    found = run(*asked(folder, mask=str(tmp_path / "mask.png")), "--out", str(tmp_path / "out"))
    assert message in found.error


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-image model and an adapter for it."""
    place = tmp_path_factory.mktemp("adapted")
    pipeline = stable_diffusion()
    pipeline.save_pretrained(place / "model")
    save_file(adapter_weights(pipeline.unet), place / "adapter.safetensors")
    vision().save_pretrained(place / "image_encoder")
    Image.fromarray(pair(8).reference).save(place / "reference.png")
    return place


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_adapters_and_their_references_are_given_in_order(adapted: Path, tmp_path: Path) -> None:
    words = ["explain", "a red cat", "--model", str(adapted / "model"), "--steps", "1", "--size", "32x32", "--json"]
    words += ["--image", str(adapted / "reference.png"), "--method", "daam", "--out", str(tmp_path / "out")]
    adapter, reference = str(adapted / "adapter.safetensors"), ("--reference", str(adapted / "reference.png"))
    done = run(
        *words, "--strength", "1", "--adapter", f"{adapter},scale=0.4", "--adapter", adapter, *reference, *reference
    )
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    assert len(summary["request"]["more_references"]) == 1
    assert summary["request"]["strength"] == 1.0
    for more, message in (
        (("--adapter", adapter), "--adapter was given without --reference"),
        (("--adapter", "absent", *reference), "there is no adapter 'absent'"),
        (("--adapter", f"{adapter},scale=much", *reference), "is no number"),
        (("--adapter", adapter, *reference, *reference), "2 references were given; this model reads one"),
    ):
        assert message in run(*words[:-1], str(tmp_path / "none"), *more).error
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
