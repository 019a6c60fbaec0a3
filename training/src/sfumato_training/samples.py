"""Samples of a model in training: generated in batches, and kept as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from sfumato.writing.files import replacing_file
from sfumato_training.precision import mixed_precision


def at_rest(pipeline: Any, device: str) -> Any:
    """A pipeline whose networks are on a device, in evaluation mode and without gradients, and that shows no bar."""
    for part in networks(pipeline).values():
        part.to(device).eval().requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def networks(pipeline: Any) -> dict[str, Any]:
    """The networks of a pipeline by name."""
    return {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}


def generated(
    pipeline: Any, seeds: Sequence[int], *given: Sequence[Any], batch: int = 32, **arguments: Any
) -> npt.NDArray[np.uint8]:
    """Generate one image for each seed, in mixed precision, to look at and to count (not bit-stable).

    Args:
        pipeline: Of diffusers.
        seeds: One for each image.
        given: What the pipeline's call is given first, one for each image.
        batch: Images of a call.
        arguments: What else the call is given.

    Returns:
        (image, y, x, channel) uint8.
    """
    images = []
    for start in range(0, len(seeds), batch):
        some = slice(start, start + batch)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[some]]
        with mixed_precision(pipeline.device):
            made = pipeline(*(list(one[some]) for one in given), generator=generators, output_type="np", **arguments)
        images.append((made.images * 255).round().astype(np.uint8))
    return np.concatenate(images)


def write_sheet(out: Path, step: int, rows: npt.NDArray[np.uint8]) -> str:
    """Write rows of images into `out`/samples as one picture.

    Args:
        out: The work folder.
        step: Optimizer steps done, which name the picture.
        rows: (row, column, y, x, channel).

    Returns:
        The name of the picture.
    """
    path = out / "samples" / f"{step:06d}.png"
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    with replacing_file(path) as opened:
        Image.fromarray(sheet).save(opened, "PNG")
    return path.name
