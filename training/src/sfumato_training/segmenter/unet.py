"""Training the segmenter: the cross-entropy of the class of every pixel, on worn scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from sfumato.studio.segmenter import Segmenter, build_segmenter
from sfumato_training.checkpoints import last_weights, trained
from sfumato_training.images import as_tensor
from sfumato_training.optimising import Training
from sfumato_training.precision import mixed_precision
from sfumato_training.segmenter.config import Config
from sfumato_training.segmenter.data import load_data
from sfumato_training.segmenter.looking import held_out_scenes, look, mean_iou
from sfumato_training.segmenter.wear import augmented
from sfumato_training.trainer import Loss, Work, falling, fit

STAGE = "unet"


def train_unet(work: Work[Config]) -> None:
    """Train the segmenter into the folder of its stage and log its intersection over union on held-out scenes."""
    settings, device = work.config.unet, work.device
    images, class_maps = load_data(work.out / "data")
    torch.manual_seed(work.config.seed)
    unet: Any = build_segmenter(settings.width)
    unet.to(device, memory_format=torch.channels_last)
    training = Training({"unet": unet}, betas=(0.9, settings.beta2), weight_decay=settings.weight_decay)
    held_out = held_out_scenes(settings.held_out) if settings.looks_every else []

    def loss(generator: torch.Generator) -> Loss:
        chosen = np.sort(torch.randint(len(images), (settings.batch,), generator=generator).numpy())
        pixels, classes = augmented(as_tensor(images[chosen]), torch.from_numpy(class_maps[chosen]).long(), generator)
        with mixed_precision(device):
            logits = unet(pixels.to(device, memory_format=torch.channels_last))
        return F.cross_entropy(logits.float(), classes.to(device)), {}

    def look_at(step: int) -> None:
        for how, ious in look(unet, held_out).items():
            work.progress.event(STAGE, step, {"scenes": how, "mean iou": mean_iou(ious), **ious})

    fit(
        work,
        STAGE,
        training,
        settings.steps,
        loss,
        falling(settings),
        clip_norm=settings.clip_norm,
        look=look_at,
        looks_every=settings.looks_every,
    )


def trained_unet(config: Config, out: Path) -> tuple[Segmenter, int]:
    """The segmenter of a work folder in evaluation mode, and the steps it was trained for.

    Raises:
        TrainingError: The stage "unet" has not run.
    """
    tensors, state = trained(out, STAGE, "segmenter")
    unet = build_segmenter(config.unet.width)
    unet.load_state_dict(last_weights(tensors, "unet"))
    return unet.eval().requires_grad_(False), int(state["step"])
