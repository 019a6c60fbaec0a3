"""Looks at a reference model in training: a grid of samples, and numbers for the log."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from PIL import Image

from sfumato.studio.garments import pair
from sfumato.studio.garments_reader import measured_garment
from sfumato_training.insert.config import Config
from sfumato_training.samples import generated, write_sheet
from sfumato_training.trainer import Work

LOOKED_AT = 24
"""Pairs that a look paints; none of them is trained on."""


def look(work: Work[Config], pipeline: Any, step: int) -> None:
    """Paint some pairs into a grid (reference, target and what was painted), and log what the reader finds."""
    started = time.monotonic()
    settings = work.config.unet
    pairs = [pair(seed) for seed in range(LOOKED_AT)]
    images = generated(
        pipeline,
        range(LOOKED_AT),
        *([Image.fromarray(getattr(one, part)) for one in pairs] for part in ("reference", "scene", "mask")),
        batch=LOOKED_AT,
        num_inference_steps=settings.sample_steps,
        guidance_scale=settings.sample_guidance,
    )
    cells = [np.concatenate([one.reference, one.target, made], axis=1) for one, made in zip(pairs, images, strict=True)]
    samples = write_sheet(work.out, step, np.stack(cells).reshape(-1, 6, *cells[0].shape))
    found = [measured_garment(one, made) for one, made in zip(pairs, images, strict=True)]
    values = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    work.progress.event("unet", step, {**values, "samples": samples, "seconds": time.monotonic() - started})
