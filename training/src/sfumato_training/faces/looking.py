"""Looks at a denoiser in training: a grid of samples, and numbers for the log."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sfumato.studio.faces import ATTRIBUTES, LABELS
from sfumato.studio.faces_reader import labels_of
from sfumato_training.faces.config import Config
from sfumato_training.faces.data import load_data, split
from sfumato_training.faces.pictures import draw_curves
from sfumato_training.images import as_tensor
from sfumato_training.precision import mixed_precision
from sfumato_training.samples import generated, write_sheet
from sfumato_training.trainer import Work

SEEDS = 3
"""How many faces of every label a look draws."""

NOISE_LEVELS = (100, 300, 500)
"""Timesteps from which held-back faces are denoised in one go."""

_HELD = 32


def look(work: Work[Config], pipeline: Any, reader: Any, step: int) -> None:
    """Draw faces of every label, and log how many bits are right and how near held-back faces are.

    SSIM and PSNR compare held-back faces with the clean image that the denoiser sees in them after noise of
    `NOISE_LEVELS` was added, means over faces and levels.
    """
    started = time.monotonic()
    settings = work.config.denoiser
    labels = [label for _ in range(SEEDS) for label in LABELS]
    images = generated(
        pipeline,
        [seed for seed in range(SEEDS) for _ in LABELS],
        [int(label, 2) for label in labels],
        batch=24,
        num_inference_steps=settings.sample_steps,
        guidance_scale=settings.sample_guidance,
    )
    samples = write_sheet(work.out, step, images.reshape(SEEDS, len(LABELS), *images.shape[1:]))
    right = np.array([list(shown) for shown in labels_of(images, reader)]) == np.array([list(want) for want in labels])
    values = {f"{name} right": float(share) for name, share in zip(ATTRIBUTES, right.mean(0), strict=True)}
    values |= restored(work.config, work.out, pipeline)
    work.progress.event("denoiser", step, {**values, "samples": samples, "seconds": time.monotonic() - started})
    draw_curves(work.out)


def restored(config: Config, out: Path, pipeline: Any) -> dict[str, float]:
    """Mean SSIM and PSNR (decibel) of held-back faces and their clean estimates."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    images, labels = load_data(out / "data")
    first = split(len(images))
    held, numbers = np.array(images[first : first + _HELD]), torch.from_numpy(labels[first : first + _HELD]).long()
    device = pipeline.unet.device
    clean = as_tensor(held).to(device)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(config.seed)).to(device)
    alike: dict[str, list[float]] = {"ssim": [], "psnr": []}
    for level in NOISE_LEVELS:
        signal = pipeline.scheduler.alphas_cumprod[level].to(device)
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        with torch.no_grad(), mixed_precision(device):
            predicted = pipeline.unet(noisy, level, numbers.to(device), return_dict=False)[0].float()
        estimate = (signal.sqrt() * noisy - (1 - signal).sqrt() * predicted).clamp(-1, 1)
        seen = ((estimate + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        for one, other in zip(held, seen, strict=True):
            alike["ssim"].append(float(structural_similarity(one, other, channel_axis=-1)))
            alike["psnr"].append(float(peak_signal_noise_ratio(one, other)))
    return {name: float(np.mean(values)) for name, values in alike.items()}
