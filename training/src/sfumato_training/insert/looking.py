"""Looks at a reference model in training: a grid of samples, and numbers for the log."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from sfumato.studio.garments import Pair, pair
from sfumato.studio.garments_reader import measured
from sfumato.writing.files import replacing_file
from sfumato_training.insert.config import Config
from sfumato_training.precision import mixed_precision
from sfumato_training.progress import Progress

LOOKED_AT = 24
"""Pairs that a look paints; none of them is trained on."""

_BATCH = 24


def look(config: Config, out: Path, progress: Progress, pipeline: Any, step: int) -> None:
    """Paint some pairs into `out`/samples (reference, target and what was painted), and log what the reader finds."""
    started = time.monotonic()
    settings = config.unet
    pairs = [pair(seed) for seed in range(LOOKED_AT)]
    images = painted(pipeline, pairs, steps=settings.sample_steps, guidance=settings.sample_guidance)
    path = out / "samples" / f"{step:06d}.png"
    cells = [np.concatenate([one.reference, one.target, made], axis=1) for one, made in zip(pairs, images, strict=True)]
    rows = [np.concatenate(cells[start : start + 6], axis=1) for start in range(0, len(cells), 6)]
    with replacing_file(path) as opened:
        Image.fromarray(np.concatenate(rows)).save(opened, "PNG")
    found = [measured(one, made) for one, made in zip(pairs, images, strict=True)]
    values = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    progress.event("unet", step, {**values, "samples": path.name, "seconds": time.monotonic() - started})


def painted(pipeline: Any, pairs: list[Pair], *, steps: int, guidance: float) -> npt.NDArray[np.uint8]:
    """Paint the garment of each pair into its scene, in bf16 autocast, to look at and to count (not bit-stable)."""
    found = []
    for start in range(0, len(pairs), _BATCH):
        some = pairs[start : start + _BATCH]
        with mixed_precision(pipeline.unet.device):
            made = pipeline(
                [Image.fromarray(one.reference) for one in some],
                [Image.fromarray(one.scene) for one in some],
                [Image.fromarray(one.mask) for one in some],
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=[torch.Generator().manual_seed(number) for number in range(start, start + len(some))],
                output_type="np",
            ).images
        found.append((made * 255).round().astype(np.uint8))
    return np.concatenate(found)
