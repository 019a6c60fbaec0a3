"""The latents of a data set, encoded once and kept in the work folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sfumato.writing.files import replacing_file
from sfumato_training.precision import mixed_precision
from sfumato_training.progress import Progress

LATENTS = "latents.npy"

Latents = npt.NDArray[np.float16]


def encoded(path: Path, count: int, batch: int, latents_of: Callable[[slice], Latents], progress: Progress) -> Latents:
    """Encode all items once; latents that are already there are kept.

    Args:
        path: Where the latents go, unscaled.
        count: Of the items.
        batch: Items of a step.
        latents_of: Those of some items.
        progress: Told every step.
    """
    if not path.is_file() or len(np.load(path, mmap_mode="r")) != count:
        parts = []
        for start in range(0, count, batch):
            parts.append(latents_of(slice(start, start + batch)))
            progress.step("encode", min(start + batch, count), count, {})
        with replacing_file(path) as opened:
            np.save(opened, np.concatenate(parts))
    found: Latents = np.load(path)
    return found


def means(vae: Any, pixels: torch.Tensor) -> Latents:
    """The means of an autoencoder's latents of pixels (item, channel, y, x)."""
    with torch.no_grad(), mixed_precision(vae.device):
        posterior = vae.encode(pixels.to(vae.device, memory_format=torch.channels_last)).latent_dist
    found: Latents = posterior.mean.float().cpu().numpy().astype(np.float16)
    return found


def scaling_of(latents: Latents) -> float:
    """The factor that gives latents a standard deviation of 1."""
    return float(1 / latents.astype(np.float32).std())
