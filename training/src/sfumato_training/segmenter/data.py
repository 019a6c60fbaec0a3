"""The training scenes with the class of every pixel: drawn in parallel into two arrays."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sfumato.errors import TrainingError
from sfumato.studio.grammar import held_out_plan
from sfumato.studio.scenes import Scene, scene, scene_plan, training_scene
from sfumato.studio.segmenter import class_map
from sfumato.studio.shapes import SIZE
from sfumato.writing.files import replacing_file, write_text
from sfumato_training.drawing import ABOUT, drawn_with, in_chunks
from sfumato_training.progress import Progress
from sfumato_training.segmenter.config import DataConfig

IMAGES, CLASS_MAPS = "images.npy", "class_maps.npy"
_CHUNK = 250
_SEEDS = 64
"""Seeds that belong to one nested scene."""

Bytes = npt.NDArray[np.uint8]


def make_data(config: DataConfig, folder: Path, progress: Progress) -> None:
    """Fill `folder` with images.npy (scene, y, x, channel) and class_maps.npy (scene, y, x), both uint8.

    A folder that already holds the same scenes is left as it is. The class maps are put there last, by renaming, so a
    folder with class maps is whole. Held-out captions never occur.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = {"scenes": config.scenes, "nested_every": config.nested_every}
    if (folder / CLASS_MAPS).is_file() and drawn_with(folder) == about:
        return
    (folder / CLASS_MAPS).unlink(missing_ok=True)
    write_text(folder / ABOUT, json.dumps(about) + "\n")
    shape = (config.scenes, SIZE, SIZE, 3)
    images = np.lib.format.open_memmap(folder / IMAGES, mode="w+", dtype=np.uint8, shape=shape)
    class_maps = np.zeros(shape[:3], np.uint8)
    for places, (some, maps) in in_chunks(_draw, config.scenes, _CHUNK, config.workers, config.nested_every):
        images[places], class_maps[places] = some, maps
        progress.step("data", places.stop, config.scenes, {})
    images.flush()
    with replacing_file(folder / CLASS_MAPS) as opened:
        np.save(opened, class_maps)


def load_data(folder: Path) -> tuple[Bytes, Bytes]:
    """Map the images (scene, y, x, channel) and the class maps (scene, y, x).

    Raises:
        TrainingError: The stage "data" has not run.
    """
    if not (folder / CLASS_MAPS).is_file():
        raise TrainingError(f"{folder} holds no training scenes; run the stage 'data' first")
    return np.load(folder / IMAGES, mmap_mode="r"), np.load(folder / CLASS_MAPS, mmap_mode="r")


def numbered_scene(number: int, nested_every: int) -> Scene:
    """The training scene of a number; of every `nested_every` one has a thing inside another.

    Left to chance 5% have, too few to learn the shapes that lie inside.
    """
    if not nested_every or number % nested_every:
        return training_scene(number)
    plans = ((seed, scene_plan(seed)) for seed in count(number * _SEEDS))
    return scene(next(seed for seed, drawn in plans if drawn.relation == "inside" and not held_out_plan(drawn)))


def _draw(start: int, stop: int, nested_every: int) -> tuple[Bytes, Bytes]:
    scenes = [numbered_scene(number, nested_every) for number in range(start, stop)]
    return np.stack([scene.image for scene in scenes]), np.stack([class_map(scene) for scene in scenes])
