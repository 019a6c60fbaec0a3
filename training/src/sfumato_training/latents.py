"""The latents of a data set, encoded once and kept in the work folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sfumato.writing.files import replacing_file
from sfumato_training.images import as_tensor
from sfumato_training.precision import mixed_precision
from sfumato_training.progress import Progress

LATENTS = "latents.npy"


def encoded(
    images: npt.NDArray[np.uint8], path: Path, vae: Any, batch: int, progress: Progress
) -> tuple[npt.NDArray[np.float16], float]:
    """Encode all images once; latents that are already there are kept.

    Args:
        images: (image, y, x, channel).
        path: Where the latents go: (image, channel, y, x), unscaled.
        vae: An AutoencoderKL.
        batch: Images per step.
        progress: Receives every step.

    Returns:
        The latents and their scaling factor, 1 / standard deviation.
    """
    if not path.is_file() or len(np.load(path, mmap_mode="r")) != len(images):
        parts = []
        for start in range(0, len(images), batch):
            pixels = as_tensor(images[start : start + batch])
            with torch.no_grad(), mixed_precision(vae.device):
                posterior = vae.encode(pixels.to(vae.device, memory_format=torch.channels_last)).latent_dist
            parts.append(posterior.mean.float().cpu().numpy().astype(np.float16))
            progress.step("encode", min(start + batch, len(images)), len(images), {})
        with replacing_file(path) as opened:
            np.save(opened, np.concatenate(parts))
    latents: npt.NDArray[np.float16] = np.load(path)
    return latents, float(1 / latents.astype(np.float32).std())
