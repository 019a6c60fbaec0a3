"""Training the network that reads attributes: also on blurred and noisy faces, as a half-trained model draws them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from sfumato.errors import TrainingError
from sfumato.studio.faces import ATTRIBUTES
from sfumato.studio.faces_reader import build_reader, probabilities
from sfumato_training.checkpoints import Training, load_latest, save, step_generator
from sfumato_training.faces.config import Config
from sfumato_training.faces.data import load_data, split
from sfumato_training.images import as_tensor
from sfumato_training.progress import Progress

_NOISE = 0.15
_SHIFT = 2


def train_reader(config: Config, out: Path, progress: Progress, *, resume: bool = True) -> None:
    """Train the reader into `out`/reader and log its accuracy on the faces held back."""
    settings = config.reader
    images, labels = load_data(out / "data")
    trained_on = split(len(images))
    device = torch.device(config.device)
    torch.manual_seed(config.seed)
    reader = build_reader(settings.width).to(device)
    training = Training({"reader": reader})
    if resume:
        training.resume(out / "reader")
    reader.train()
    while training.step < settings.steps:
        started = time.monotonic()
        generator = step_generator(config.seed, "reader", training.step)
        torch.manual_seed(config.seed * 1_000_003 + training.step)  # of the dropout
        chosen = np.sort(torch.randint(trained_on, (settings.batch,), generator=generator).numpy())
        pixels = as_tensor(images[chosen])
        pixels = _worn(pixels, generator).to(device)
        logits = reader(pixels)
        loss = F.binary_cross_entropy_with_logits(logits, bits(torch.from_numpy(labels[chosen])).to(device))
        rise = min(1.0, (training.step + 1) / 50)
        training.update(loss, settings.lr * rise * max(0.02, 1 - training.step / settings.steps), 1.0)
        values = {"loss": loss.item(), "seconds": time.monotonic() - started}
        progress.step("reader", training.step, settings.steps, values)
        if training.step % config.checkpoint_every == 0 or training.step == settings.steps:
            save(out / "reader", training.step, training.tensors(), {})
    held = probabilities(images[trained_on:], reader.eval().cpu()) > 0.5
    truth = bits(torch.from_numpy(labels[trained_on:])).numpy() > 0.5
    right = (held == truth).mean(0)
    progress.event("reader", training.step, {name: float(value) for name, value in zip(ATTRIBUTES, right, strict=True)})


def trained_reader(config: Config, out: Path) -> Any:
    """The reader of a work folder, in evaluation mode.

    Raises:
        TrainingError: The stage "reader" has not run.
    """
    found = load_latest(out / "reader")
    if found is None:
        raise TrainingError(f"{out} holds no trained reader; run the stage 'reader' first")
    reader = build_reader(config.reader.width)
    start = "model.reader."
    reader.load_state_dict({k.removeprefix(start): v for k, v in found[0].items() if k.startswith(start)})
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
