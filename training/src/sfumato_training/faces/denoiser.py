"""The denoiser of faces, trained on noisy faces, their steps and their labels.

It predicts the velocity where the source predicts the noise: an error of the noise at the noisiest steps, divided by
what little is left of the image there, becomes a wrong colour of the whole image, and takes ten times as many steps of
training to go away. Where the label shows (a mouth is 30 of 4,096 pixels), errors count more, as `emphasis` says.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sfumato.errors import TrainingError
from sfumato.pipelines.label_pipeline import LabelPipeline
from sfumato.pipelines.label_unet import LabelUNet
from sfumato.studio.faces import LABELS, SIZE
from sfumato_training.checkpoints import Training, averaged_weights, load_latest, save, step_generator
from sfumato_training.faces.config import Config, DenoiserConfig
from sfumato_training.faces.data import label_effect, load_data, split
from sfumato_training.faces.looking import look
from sfumato_training.faces.reader import trained_reader
from sfumato_training.images import as_tensor
from sfumato_training.precision import mixed_precision
from sfumato_training.progress import Progress
from sfumato_training.schedule import falling_rate, linear_scheduler, noised, stratified

STAGE = "denoiser"


def build_denoiser(config: DenoiserConfig) -> LabelUNet:
    """An untrained denoiser whose output starts at zero."""
    unet: LabelUNet = LabelUNet(sample_size=SIZE, dim=config.dim, dim_mults=config.dim_mults, labels=len(LABELS))
    last: Any = unet.final_conv[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    return unet


def train_denoiser(config: Config, out: Path, progress: Progress, *, resume: bool = True) -> None:
    """Train the denoiser into `out`/denoiser, with grids of samples in `out`/samples and a picture of the curves."""
    settings = config.denoiser
    images, labels = load_data(out / "data")
    trained_on = split(len(images))
    reader = trained_reader(config, out)
    device = torch.device(config.device)
    signal = linear_scheduler().alphas_cumprod.to(device)  # (timestep,)
    torch.manual_seed(config.seed + 1)
    unet = build_denoiser(settings).to(device, memory_format=torch.channels_last)
    training = Training(
        {"unet": unet},
        ema=settings.ema,
        betas=(0.9, settings.beta2),
        weight_decay=settings.weight_decay,
        muon=["unet"] if settings.muon else [],
    )
    if resume and training.resume(out / STAGE):
        progress.event(STAGE, training.step, {"resumed": True})
    denoise: Any = torch.compile(unet, dynamic=False) if settings.compile else unet
    weights = torch.from_numpy(1 + settings.emphasis * label_effect(images[:trained_on], labels)).to(device)
    weights = weights / weights.mean()
    even = torch.full((len(signal),), 1 / len(signal))
    while training.step < settings.steps:
        started = time.monotonic()
        generator = step_generator(config.seed, STAGE, training.step)
        chosen = torch.randint(trained_on, (settings.batch,), generator=generator).numpy()
        clean = as_tensor(images[np.sort(chosen)])
        numbers = torch.from_numpy(labels[np.sort(chosen)]).long()
        numbers[torch.rand(settings.batch, generator=generator) < settings.unlabelled] = len(LABELS)
        mirrored = torch.rand(settings.batch, generator=generator) < 0.5
        clean[mirrored] = clean[mirrored].flip(-1)
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = stratified(settings.batch, generator, even)[torch.randperm(settings.batch, generator=generator)]
        clean, noise, numbers, timesteps = (part.to(device) for part in (clean, noise, numbers, timesteps))
        noisy, velocity = noised(clean, noise, signal, timesteps)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        with mixed_precision(device):
            predicted = denoise(noisy, timesteps, numbers, return_dict=False)[0]
        missed = predicted.float() - velocity
        loss = (weights * (missed**2 if settings.loss == "l2" else missed.abs())).mean()
        lr = falling_rate(settings.lr, training.step, settings.steps, settings.warmup, settings.cooldown)
        norm = training.update(loss, lr, settings.clip_norm)
        values = {
            "loss": missed.detach().abs().mean().item(),
            "norm": norm,
            "lr": lr,
            "seconds": time.monotonic() - started,
        }
        progress.step(STAGE, training.step, settings.steps, values)
        if training.step % config.checkpoint_every == 0 or training.step == settings.steps:
            save(out / STAGE, training.step, training.tensors(), {})
        last = training.step == settings.steps
        if settings.samples_every and (training.step % settings.samples_every == 0 or last):
            pipeline = averaged_pipeline(config, training.averaged()["unet"])
            look(config, out, progress, pipeline=pipeline, reader=reader, step=training.step)


def averaged_pipeline(config: Config, weights: dict[str, torch.Tensor]) -> LabelPipeline:
    """A pipeline with the given weights, in evaluation mode."""
    unet = build_denoiser(config.denoiser)
    unet.load_state_dict(weights)
    pipeline = LabelPipeline(unet.to(config.device).eval().requires_grad_(False), linear_scheduler())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def trained_pipeline(config: Config, out: Path) -> tuple[LabelPipeline, int]:
    """The newest checkpoint of a work folder, with averaged weights, and its steps.

    Raises:
        TrainingError: The stage "denoiser" has not run.
    """
    found = load_latest(out / STAGE)
    if found is None:
        raise TrainingError(f"{out} holds no trained denoiser; run the stage {STAGE!r} first")
    return averaged_pipeline(config, averaged_weights(found[0], "unet")), int(found[1]["step"])
