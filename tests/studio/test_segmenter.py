"""The segmenter of scenes: what the shipped weights find, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import sfumato
from sfumato.errors import ModelError, OptionError
from sfumato.models.loading import studio_models
from sfumato.studio.scenes import SHAPES, scene_of, training_scene
from sfumato.studio.segmenter import (
    CLASSES,
    WEIGHTS,
    build_segmenter,
    class_map,
    load_segmenter,
    shape_probabilities,
)


@pytest.fixture(scope="module")
def segmenter() -> Any:
    """The shipped one."""
    return load_segmenter()


# What the shipped weights find.


def test_it_names_the_nouns_of_a_caption(segmenter: Any) -> None:
    scene = scene_of("a red heart left of a blue cross", seed=3)
    (found,) = shape_probabilities([scene.image], segmenter)
    assert (found.shape, found.dtype) == ((9, 128, 128), np.float32)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    mass = {name: found[CLASSES.index(name)].mean() for name in SHAPES}
    assert set(sorted(mass, key=mass.__getitem__)[-2:]) == {"heart", "cross"}
    np.testing.assert_array_less(0.9, found[CLASSES.index("heart")][scene.thing_masks[0]].mean())


def test_one_image_or_many_give_the_same(segmenter: Any) -> None:
    images = np.stack([training_scene(index).image for index in range(3)])
    together = shape_probabilities(images)
    np.testing.assert_allclose(together[1], shape_probabilities([images[1]], segmenter)[0], atol=1e-5)
    assert shape_probabilities([], segmenter).shape == (0, 9, 128, 128)


def test_the_weights_are_small_safe_and_in_half_precision() -> None:
    folder = WEIGHTS.parent
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model.safetensors"]
    weights = load_file(str(WEIGHTS))
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert sum(value.numel() for value in weights.values()) < 1e6
    assert WEIGHTS.stat().st_size < 2e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    for told in ("## Data", "## Training", "sfumato train segmenter", "minutes", "CPU core", "| mean IoU, drawn |"):
        assert told in card, told


def test_it_is_no_pipeline() -> None:
    assert "studio/segmenter" not in studio_models()
    with pytest.raises(ModelError):
        sfumato.load("studio/segmenter")
    with pytest.raises(ModelError):
        sfumato.load(WEIGHTS.parent)


# What is refused.


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((64, 64, 3), np.uint8), r"got uint8 of shape \(64, 64, 3\); resize the image first"),
        (np.zeros((128, 128), np.uint8), r"got uint8 of shape \(128, 128\)"),
        (np.zeros((3, 128, 128), np.uint8), r"got uint8 of shape \(3, 128, 128\)"),
        (np.zeros((128, 128, 3), np.float32), r"got float32 of shape \(128, 128, 3\)"),
    ],
)
def test_an_image_of_another_shape_or_type_is_an_error(segmenter: Any, image: Any, message: str) -> None:
    whole = np.zeros((128, 128, 3), np.uint8)
    with pytest.raises(OptionError, match=message):
        shape_probabilities([whole, image], segmenter)


def test_weights_that_are_missing_damaged_or_of_another_model_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    message = r"cannot be read from .*; train it with `sfumato train segmenter`$"
    with pytest.raises(ModelError, match=message):
        load_segmenter(path)
    path.write_bytes(WEIGHTS.read_bytes()[:5000])
    with pytest.raises(ModelError, match=message):
        load_segmenter(path)
    save_file({"down.0.0.bias": torch.zeros(8)}, str(path))
    with pytest.raises(ModelError, match=message) as found:
        load_segmenter(path)
    assert "\n" not in str(found.value)


def test_a_width_that_cannot_be_normalised_is_an_error() -> None:
    with pytest.raises(OptionError, match="the width of the segmenter is 10; expected a multiple of 4"):
        build_segmenter(10)


def test_the_class_map_is_the_shape_of_what_is_visible() -> None:
    scene = scene_of("a red star inside a blue ring", seed=1)
    found = class_map(scene)
    np.testing.assert_array_equal(found == CLASSES.index("star"), scene.thing_masks[0])
    np.testing.assert_array_equal(found == CLASSES.index("ring"), scene.thing_masks[1])
    np.testing.assert_array_equal(found == 0, ~scene.thing_masks.any(0))
