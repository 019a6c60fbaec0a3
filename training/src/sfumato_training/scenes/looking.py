"""Looks at a model of the scenes in training: a grid of samples, and numbers for the log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sfumato.studio.grammar import expected
from sfumato.studio.reader import matches, read
from sfumato.studio.scenes import held_out_captions
from sfumato.studio.shapes import SIZE
from sfumato_training.samples import generated, write_sheet
from sfumato_training.scenes.config import Shared
from sfumato_training.trainer import Work

PROMPTS = (
    "a red circle",
    "a large striped blue star",
    "a green square left of a yellow triangle",
    "a white ring above a purple cross",
    "two orange squares",
    "three blue hearts, gray background",
    "a black diamond inside a white circle on a teal background",
    "a small yellow ring and a red heart, brown background",
)
"""What the grid of samples shows, from left to right."""


def score(images: npt.NDArray[np.uint8], captions: Sequence[str]) -> dict[str, float]:
    """Read the images and give the shares of what the captions promise that is there.

    Returns:
        objects: Promised objects with their shape and colour.
        binding: Of the promised objects whose shape is there, those in their own colour (only captions that promise
            two different colours).
        relations: Promised relations that hold, and counts: promised numbers that are right.
    """
    found: dict[str, list[bool]] = {"objects": [], "binding": [], "relations": [], "counts": []}
    for image, caption in zip(images, captions, strict=True):
        expectation, reading = expected(caption), read(image)
        result = matches(reading, expectation)
        found["objects"] += result.objects
        if len({thing.colour for thing in expectation.things}) > 1:
            shapes = {seen.shape for seen in reading.things}
            pairs = zip(expectation.things, result.objects, strict=True)
            found["binding"] += [right for thing, right in pairs if thing.shape in shapes]
        found["relations"] += [] if result.relation is None else [result.relation]
        found["counts"] += [] if result.count is None else [result.count]
    return {name: float(np.mean(values)) for name, values in found.items() if values}


def look(work: Work[Shared], stage: str, step: int, pipeline: Any, **arguments: Any) -> None:
    """Draw a grid of samples and log what the reader finds in images of held-out captions.

    Args:
        work: Of the training.
        stage: The stage in training.
        step: Optimizer steps done.
        pipeline: With the averaged weights.
        arguments: Of its call, for steps, guidance and size.
    """
    started = time.monotonic()
    seeds = [0] * len(PROMPTS) + [1] * len(PROMPTS)
    others = list(held_out_captions(2 * len(PROMPTS)))
    images = generated(pipeline, [*seeds, *range(len(others))], [*PROMPTS, *PROMPTS, *others], **arguments)
    samples = write_sheet(work.out, step, images.reshape(-1, len(PROMPTS), *images.shape[1:]))
    values = score(images[len(seeds) :], others) if images.shape[1:3] == (SIZE, SIZE) else {}
    work.progress.event(stage, step, {**values, "samples": samples, "seconds": time.monotonic() - started})
