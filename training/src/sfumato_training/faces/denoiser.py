"""The denoiser of faces, trained on noisy faces, their steps and their labels.

It predicts the velocity where the source predicts the noise: an error of the noise at the noisiest steps, divided by
what little is left of the image there, becomes a wrong colour of the whole image, and takes ten times as many steps of
training to go away. Where the label shows (a mouth is 30 of 4,096 pixels), errors count more, as `emphasis` says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sfumato.studio.faces import LABELS
from sfumato_training.denoising import Averages, fit_denoiser
from sfumato_training.faces.config import Config
from sfumato_training.faces.data import label_effect, load_data, split
from sfumato_training.faces.looking import look
from sfumato_training.faces.networks import averaged_pipeline, build_denoiser
from sfumato_training.faces.reader import trained_reader
from sfumato_training.images import as_tensor
from sfumato_training.precision import mixed_precision
from sfumato_training.schedule import linear_scheduler, noised, shuffled
from sfumato_training.trainer import Loss, Work


def train_denoiser(work: Work[Config]) -> None:
    """Train the denoiser into the folder of its stage, with grids of samples and a picture of the curves."""
    config, device = work.config, work.device
    settings = config.denoiser
    images, labels = load_data(work.out / "data")
    trained_on = split(len(images))
    reader = trained_reader(config, work.out)
    signal = linear_scheduler().alphas_cumprod.to(device)  # (timestep,)
    torch.manual_seed(config.seed + 1)
    unet = build_denoiser(settings).to(device, memory_format=torch.channels_last)
    denoise: Any = torch.compile(unet, dynamic=False) if settings.compile else unet
    weights = torch.from_numpy(1 + settings.emphasis * label_effect(images[:trained_on], labels)).to(device)
    weights = weights / weights.mean()

    def loss(generator: torch.Generator) -> Loss:
        chosen = np.sort(torch.randint(trained_on, (settings.batch,), generator=generator).numpy())
        clean = as_tensor(images[chosen])
        numbers = torch.from_numpy(labels[chosen]).long()
        numbers[torch.rand(settings.batch, generator=generator) < settings.unlabelled] = len(LABELS)
        mirrored = torch.rand(settings.batch, generator=generator) < 0.5
        clean[mirrored] = clean[mirrored].flip(-1)
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = shuffled(settings.batch, len(signal), generator)
        clean, noise, numbers, timesteps = (part.to(device) for part in (clean, noise, numbers, timesteps))
        noisy, velocity = noised(clean, noise, signal, timesteps)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        with mixed_precision(device):
            predicted = denoise(noisy, timesteps, numbers, return_dict=False)[0]
        missed = predicted.float() - velocity
        value = (weights * (missed**2 if settings.loss == "l2" else missed.abs())).mean()
        return value, {"loss": missed.detach().abs().mean()}

    def look_at(averages: Averages, step: int) -> None:
        look(work, averaged_pipeline(config, averages["unet"]), reader, step)

    fit_denoiser(work, "denoiser", settings, {"unet": unet}, loss, look_at)
