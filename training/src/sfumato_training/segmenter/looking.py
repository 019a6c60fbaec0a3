"""How good a segmenter is: intersection over union on scenes whose captions training never saw."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sfumato.studio.reader import read
from sfumato.studio.scenes import Scene, held_out_captions, scene_of
from sfumato.studio.segmenter import CLASSES, class_map, shape_probabilities
from sfumato_training.segmenter.wear import worn


def held_out_scenes(count: int) -> list[Scene]:
    """A fixed list of drawn scenes, one for each of the first `count` held-out captions."""
    return [scene_of(caption, seed) for seed, caption in enumerate(held_out_captions(count))]


def nested_scenes(count: int) -> list[Scene]:
    """A fixed list of drawn scenes of held-out captions in which a thing lies inside another: few of any list are."""
    captions: dict[str, None] = {}
    for seed in itertools.count():
        captions |= dict.fromkeys(caption for caption in held_out_captions(seed=seed) if " inside " in caption)
        if len(captions) >= count:
            break
    return [scene_of(caption, seed) for seed, caption in enumerate(itertools.islice(captions, count))]


def class_ious(truth: npt.NDArray[Any], found: npt.NDArray[Any]) -> dict[str, float]:
    """Intersection over union of each class, its pixels counted over all images, as COCO and VOC do for segmentation.

    Args:
        truth: Places in `CLASSES`, any shape.
        found: The same shape.

    Returns:
        By class, from 0 to 1; a class that is neither there nor found is left out.
    """
    count = len(CLASSES)
    pairs = np.bincount(truth.ravel().astype(np.intp) * count + found.ravel(), minlength=count**2).reshape(count, count)
    both = np.diag(pairs)
    either = pairs.sum(0) + pairs.sum(1) - both
    return {name: float(both[i] / either[i]) for i, name in enumerate(CLASSES) if either[i]}


def mean_iou(ious: Mapping[str, float]) -> float:
    """The mean over the classes, the background included."""
    return float(np.mean(list(ious.values())))


def look(segmenter: Any, scenes: Sequence[Scene]) -> dict[str, dict[str, float]]:
    """Intersection over union of each class, on the scenes as they are drawn and worn by blur and noise.

    Args:
        segmenter: As `shape_probabilities` takes it.
        scenes: Drawn scenes.

    Returns:
        By "drawn" and "worn", then by class.
    """
    images = np.stack([scene.image for scene in scenes])
    truth = np.stack([class_map(scene) for scene in scenes])
    shown = {"drawn": images, "worn": worn(images)}
    return {how: class_ious(truth, shape_probabilities(some, segmenter).argmax(1)) for how, some in shown.items()}


def things_named(segmenter: Any, scenes: Sequence[Scene]) -> list[tuple[bool, ...]]:
    """For each thing of each scene, in the order of the caption, whether more of its pixels get its class than another.

    Args:
        segmenter: As `shape_probabilities` takes it.
        scenes: Drawn scenes.
    """
    maps = shape_probabilities([scene.image for scene in scenes], segmenter).argmax(1)
    return [
        tuple(
            CLASSES[np.bincount(found[mask]).argmax()] == thing.shape
            for thing, mask in zip(scene.things, scene.thing_masks, strict=True)
        )
        for scene, found in zip(scenes, maps, strict=True)
    ]


def read_ious(segmenter: Any, images: Sequence[npt.NDArray[np.uint8]]) -> dict[str, float]:
    """Intersection over union of each class on images without exact masks, against what the reader finds in them.

    Args:
        segmenter: As `shape_probabilities` takes it.
        images: Each (128, 128, 3) uint8, such as those that studio/scenes generates.

    Returns:
        By class.
    """
    truth = np.stack([_read_class_map(image) for image in images])
    return class_ious(truth, shape_probabilities(images, segmenter).argmax(1))


def _read_class_map(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    found = np.zeros(image.shape[:2], np.uint8)
    for thing in read(image).things:
        found[thing.mask] = CLASSES.index(thing.shape)
    return found
