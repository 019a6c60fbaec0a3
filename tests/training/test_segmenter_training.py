"""The segmenter of scenes: what the shipped weights reach by its measures, and a training that can be cut off."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sfumato.errors import TrainingError
from sfumato.studio.scenes import held_out, held_out_captions, scene_of, training_scene
from sfumato.studio.segmenter import (
    CLASSES,
    WEIGHTS,
    class_map,
    load_segmenter,
    shape_probabilities,
)
from sfumato_training.checkpoints import load_latest
from sfumato_training.recipes import recipe, train
from sfumato_training.segmenter.config import Config
from sfumato_training.segmenter.data import load_data, make_data, numbered_scene
from sfumato_training.segmenter.looking import (
    class_ious,
    held_out_scenes,
    look,
    mean_iou,
    nested_scenes,
    read_ious,
    things_named,
)
from sfumato_training.segmenter.recipe import RECIPE
from sfumato_training.segmenter.unet import trained_unet
from sfumato_training.segmenter.wear import augmented, blurred, worn
from tests.training.conftest import Silent
from tests.training.test_training import Cut

TINY = {
    "checkpoint_every": 1,
    "data": {"scenes": 6, "workers": 1},
    "unet": {"steps": 3, "batch": 2, "width": 4, "warmup": 1, "held_out": 4, "looks_every": 2},
}


@pytest.fixture(scope="module")
def segmenter() -> Any:
    """The shipped one."""
    return load_segmenter()


# What the shipped weights find.


def test_it_finds_the_shapes_of_captions_that_training_never_saw(segmenter: Any) -> None:
    found = look(segmenter, held_out_scenes(40))
    assert set(found["drawn"]) == set(CLASSES)
    assert mean_iou(found["drawn"]) > 0.95
    assert mean_iou(found["worn"]) > 0.90


def test_it_names_what_lies_inside_another_thing(segmenter: Any) -> None:
    scenes = nested_scenes(20)
    assert {scene.relation for scene in scenes} == {"inside"}
    named = things_named(segmenter, scenes)
    assert len({scene.caption for scene in scenes}) == len(named) == 20
    assert np.mean([inner for inner, _ in named]) > 0.65
    assert np.mean([outer for _, outer in named]) > 0.95


def test_colours_and_numerals_are_outside_its_vocabulary(segmenter: Any) -> None:
    assert not {"red", "small", "striped", "two"} & set(CLASSES)
    scenes = [scene_of(f"two {colour} stars, teal background", seed=5) for colour in ("red", "white")]
    maps = shape_probabilities([scene.image for scene in scenes], segmenter).argmax(1)
    np.testing.assert_array_equal(scenes[0].thing_masks, scenes[1].thing_masks)
    assert (maps[0] == maps[1]).mean() > 0.99
    assert class_ious(maps[0], maps[1])["star"] > 0.9


def test_the_reader_agrees_on_scenes_as_they_are_drawn(segmenter: Any) -> None:
    found = read_ious(segmenter, [scene_of("a green circle and a white square", seed=2).image])
    assert min(found["circle"], found["square"]) > 0.9


# Truth, measure and wear.


def test_intersection_over_union_counts_pixels_of_all_images() -> None:
    truth = np.array([[[0, 0, 1, 1]], [[0, 2, 2, 2]]])
    found = np.array([[[0, 1, 1, 1]], [[0, 0, 2, 2]]])
    ious = class_ious(truth, found)
    assert ious == pytest.approx({"background": 2 / 4, "circle": 2 / 3, "ring": 2 / 3})
    assert mean_iou(ious) == pytest.approx((1 / 2 + 2 / 3 + 2 / 3) / 3)


def test_wear_moves_pictures_and_class_maps_alike() -> None:
    scenes = [scene_of("a white triangle", seed=seed) for seed in range(6)]
    truth = torch.stack([torch.from_numpy(class_map(scene)).long() for scene in scenes])
    pixels = (truth > 0).float()[:, None].expand(-1, 3, -1, -1) * 1.6 - 0.8
    moved, classes = augmented(pixels, truth.clone(), torch.Generator().manual_seed(0))
    again, same = augmented(pixels, truth.clone(), torch.Generator().manual_seed(0))
    assert torch.equal(moved, again)
    assert torch.equal(classes, same)
    np.testing.assert_array_equal((classes > 0).sum((1, 2)), (truth > 0).sum((1, 2)))
    assert not torch.equal(classes, truth)
    assert mean_iou(class_ious((classes > 0).numpy(), (moved.mean(1) > 0).numpy())) > 0.9
    assert float(moved.abs().max()) <= 1


def test_blur_keeps_what_is_even_and_each_picture_has_its_own_width() -> None:
    pixels = torch.full((2, 3, 16, 16), 0.3)
    pixels[:, :, 8, 8] = 1.3
    soft = blurred(pixels, torch.tensor([0.5, 1.5]))
    np.testing.assert_allclose(soft.sum((2, 3)), pixels.sum((2, 3)), rtol=1e-4)
    assert soft[0, 0, 8, 8] > 2 * soft[1, 0, 8, 8] - 0.3
    np.testing.assert_allclose(soft[:, :, 0, 0], 0.3, rtol=1e-4)


def test_worn_scenes_are_soft_and_noisy_and_the_same_every_time() -> None:
    images = np.stack([training_scene(0).image])
    once = worn(images)
    assert (once.shape, once.dtype) == (images.shape, np.uint8)
    np.testing.assert_array_equal(once, worn(images))
    assert 8 < np.abs(once.astype(float) - images).mean() < 16


# The training.


def test_every_stage_runs_and_logs_its_measure(out: Path, config: Config) -> None:
    assert recipe("segmenter") is RECIPE
    assert RECIPE.of(out) == config
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    looks = [(entry["step"], entry["scenes"]) for entry in entries if "mean iou" in entry]
    assert looks == [(2, "drawn"), (2, "worn"), (3, "drawn"), (3, "worn")]
    assert all(0 <= entry["mean iou"] <= 1 for entry in entries if "mean iou" in entry)


def test_the_settings_of_the_shipped_weights_are_those_of_the_file() -> None:
    shipped: Config = RECIPE.load()
    assert shipped.unet.width == len(load_file(str(WEIGHTS))["down.0.0.bias"])
    assert f"{shipped.unet.steps:,} steps of {shipped.unet.batch} scenes" in (WEIGHTS.parent / "README.md").read_text()


def test_the_data_are_training_scenes_with_their_class_maps(out: Path, config: Config) -> None:
    images, class_maps = load_data(out / "data")
    for number in range(6):
        scene = numbered_scene(number, config.data.nested_every)
        assert not held_out(scene.caption)
        np.testing.assert_array_equal(images[number], scene.image)
        np.testing.assert_array_equal(class_maps[number], class_map(scene))
    assert [scene.caption for scene in held_out_scenes(4)] == list(held_out_captions(4))


def test_some_scenes_are_nested_and_the_others_are_left_to_chance() -> None:
    relations = [numbered_scene(number, 2).relation for number in range(8)]
    assert relations[::2] == ["inside"] * 4
    for number in (1, 3):
        assert numbered_scene(number, 2).caption == training_scene(number).caption
    assert numbered_scene(4, 0).caption == training_scene(4).caption


def test_data_that_are_there_are_left_and_others_drawn_anew(out: Path, config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(out / "data", folder)
    silent = Silent()
    make_data(config.data, folder, silent)
    assert not silent.steps
    make_data(dataclasses.replace(config.data, nested_every=2), folder, silent)
    assert silent.steps == [("data", 6, {})]
    np.testing.assert_array_equal(load_data(folder)[0][2], numbered_scene(2, 2).image)


@pytest.mark.parametrize("cut", [1, 2])
def test_a_training_that_was_cut_off_goes_on_bit_for_bit(out: Path, config: Config, tmp_path: Path, cut: int) -> None:
    config = dataclasses.replace(config, unet=dataclasses.replace(config.unet, looks_every=0))
    shutil.copy(out / "config.json", tmp_path)
    (tmp_path / "data").symlink_to(out / "data")
    with pytest.raises(KeyboardInterrupt):
        train("segmenter", config, tmp_path, stages=("unet",), progress=Cut("unet", cut))
    resumed = Silent()
    train("segmenter", config, tmp_path, stages=("unet",), progress=resumed)
    assert [step for _, step, _ in resumed.steps] == list(range(cut, 4))
    expected, found = load_latest(out / "unet"), load_latest(tmp_path / "unet")
    assert expected is not None
    assert found is not None
    assert expected[0].keys() == found[0].keys()
    for name, tensor in expected[0].items():
        assert torch.equal(tensor, found[0][name]), name


def test_a_stage_names_the_stage_it_needs(config: Config, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="run the stage 'data' first"):
        train("segmenter", config, tmp_path, stages=("unet",), progress=Silent())
    with pytest.raises(TrainingError, match="run the stage 'unet' first"):
        trained_unet(config, tmp_path)


def test_the_export_holds_what_was_trained_and_its_measure(out: Path, config: Config, tmp_path: Path) -> None:
    quality = {"mean IoU, generated": 0.5}
    folder = RECIPE.export(out, tmp_path, quality=quality, took="12 minutes", machine="an abacus")
    assert folder == tmp_path / "segmenter"
    ours, (theirs, steps) = load_segmenter(folder / "model.safetensors"), trained_unet(config, out)
    assert steps == 3
    for name, parameter in theirs.named_parameters():
        assert torch.equal(ours.state_dict()[name], parameter.half().float()), name
    card = " ".join((folder / "README.md").read_text().split())
    for told in (
        "on an abacus. It took 12 minutes",
        "6 scenes drawn",
        "3 steps of 2 scenes",
        "| mean IoU, generated | 50.0% |",
    ):
        assert told in card, told
    measured = mean_iou(look(ours, held_out_scenes(4))["drawn"])
    assert f"| mean IoU, drawn | {measured:.1%} |" in card
