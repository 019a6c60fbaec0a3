"""Training the segmenter: the cross-entropy of the class of every pixel, on worn scenes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from sfumato.errors import TrainingError
from sfumato.studio.segmenter import Segmenter, build_segmenter
from sfumato_training.checkpoints import Training, load_latest, save, step_generator
from sfumato_training.images import as_tensor
from sfumato_training.precision import mixed_precision
from sfumato_training.progress import Progress
from sfumato_training.schedule import falling_rate
from sfumato_training.segmenter.config import Config
from sfumato_training.segmenter.data import load_data
from sfumato_training.segmenter.looking import held_out_scenes, look, mean_iou
from sfumato_training.segmenter.wear import augmented

STAGE = "unet"


def train_unet(config: Config, out: Path, progress: Progress, *, resume: bool = True) -> None:
    """Train the segmenter into `out`/unet and log its intersection over union on held-out scenes."""
    settings = config.unet
    images, class_maps = load_data(out / "data")
    device = torch.device(config.device)
    torch.manual_seed(config.seed)
    unet: Any = build_segmenter(settings.width)
    unet.to(device, memory_format=torch.channels_last)
    training = Training({"unet": unet}, betas=(0.9, settings.beta2), weight_decay=settings.weight_decay)
    if resume and training.resume(out / STAGE):
        progress.event(STAGE, training.step, {"resumed": True})
    held_out = held_out_scenes(settings.held_out) if settings.looks_every else []
    while training.step < settings.steps:
        started = time.monotonic()
        generator = step_generator(config.seed, STAGE, training.step)
        chosen = np.sort(torch.randint(len(images), (settings.batch,), generator=generator).numpy())
        pixels, classes = augmented(as_tensor(images[chosen]), torch.from_numpy(class_maps[chosen]).long(), generator)
        pixels = pixels.to(device, memory_format=torch.channels_last)
        with mixed_precision(device):
            logits = unet(pixels)
        loss = F.cross_entropy(logits.float(), classes.to(device))
        lr = falling_rate(settings.lr, training.step, settings.steps, settings.warmup, settings.cooldown)
        norm = training.update(loss, lr, settings.clip_norm)
        last = training.step == settings.steps
        values = {"loss": loss.item(), "norm": norm, "lr": lr, "seconds": time.monotonic() - started}
        progress.step(STAGE, training.step, settings.steps, values)
        if training.step % config.checkpoint_every == 0 or last:
            save(out / STAGE, training.step, training.tensors(), {})
        if settings.looks_every and (training.step % settings.looks_every == 0 or last):
            for how, ious in look(unet, held_out).items():
                progress.event(STAGE, training.step, {"scenes": how, "mean iou": mean_iou(ious), **ious})


def trained_unet(config: Config, out: Path) -> tuple[Segmenter, int]:
    """The segmenter of a work folder in evaluation mode, and the steps it was trained for.

    Raises:
        TrainingError: The stage "unet" has not run.
    """
    found = load_latest(out / STAGE)
    if found is None:
        raise TrainingError(f"{out} holds no trained segmenter; run the stage 'unet' first")
    unet = build_segmenter(config.unet.width)
    start = "model.unet."
    unet.load_state_dict({k.removeprefix(start): v for k, v in found[0].items() if k.startswith(start)})
    return unet.eval().requires_grad_(False), int(found[1]["step"])
