"""Training the network that reads attributes: also on blurred and noisy faces, as a half-trained model draws them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from sfumato.studio.faces import ATTRIBUTES
from sfumato.studio.faces_reader import build_reader, probabilities
from sfumato_training.checkpoints import last_weights, trained
from sfumato_training.faces.config import Config
from sfumato_training.faces.data import load_data, split
from sfumato_training.images import as_tensor
from sfumato_training.optimising import Training
from sfumato_training.schedule import linear_rate
from sfumato_training.trainer import Loss, Work, fit

STAGE = "reader"
_NOISE = 0.15
_SHIFT = 2


def train_reader(work: Work[Config]) -> None:
    """Train the reader into the folder of its stage and log its accuracy on the faces held back."""
    settings, seed = work.config.reader, work.config.seed
    images, labels = load_data(work.out / "data")
    trained_on = split(len(images))
    torch.manual_seed(seed)
    reader = build_reader(settings.width).to(work.device).train()
    training = Training({STAGE: reader})

    def loss(generator: torch.Generator) -> Loss:
        torch.manual_seed(seed * 1_000_003 + training.step)  # of the dropout
        chosen = np.sort(torch.randint(trained_on, (settings.batch,), generator=generator).numpy())
        logits = reader(_worn(as_tensor(images[chosen]), generator).to(work.device))
        truth = bits(torch.from_numpy(labels[chosen])).to(work.device)
        return F.binary_cross_entropy_with_logits(logits, truth), {}

    fit(work, STAGE, training, settings.steps, loss, lambda step: linear_rate(settings.lr, step, settings.steps))
    held = probabilities(images[trained_on:], reader.eval().cpu()) > 0.5
    truth = bits(torch.from_numpy(labels[trained_on:])).numpy() > 0.5
    right = (held == truth).mean(0)
    work.progress.event(STAGE, training.step, {name: float(one) for name, one in zip(ATTRIBUTES, right, strict=True)})


def trained_reader(config: Config, out: Path) -> Any:
    """The reader of a work folder, in evaluation mode.

    Raises:
        TrainingError: The stage "reader" has not run.
    """
    tensors, _ = trained(out, STAGE, "reader")
    reader = build_reader(config.reader.width)
    reader.load_state_dict(last_weights(tensors, STAGE))
    return reader.eval().requires_grad_(False)


def bits(numbers: torch.Tensor) -> torch.Tensor:
    """The four bits of labels' numbers, the first attribute first: (item, attribute) of 0 and 1."""
    places = torch.arange(len(ATTRIBUTES) - 1, -1, -1)
    return ((numbers.long()[:, None] >> places) & 1).float()


def _worn(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A third of the faces blurred, all with some noise, a change of contrast and a shift."""
    count = len(pixels)
    draws = torch.rand(count, 3, generator=generator)
    blurred = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    pixels = torch.where(draws[:, 0, None, None, None] < 1 / 3, blurred, pixels)
    pixels = pixels * (0.8 + 0.4 * draws[:, 1, None, None, None])
    pixels = pixels + torch.randn(pixels.shape, generator=generator) * _NOISE * draws[:, 2, None, None, None]
    across, down = torch.randint(-_SHIFT, _SHIFT + 1, (2,), generator=generator).tolist()
    return torch.roll(pixels, (down, across), dims=(2, 3)).clamp(-1, 1)
