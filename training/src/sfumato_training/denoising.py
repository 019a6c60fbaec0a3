"""What the training of every denoiser has in common: its optimizer, its rate, its looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from sfumato_training.optimising import Training
from sfumato_training.shared_settings import Denoising, Whole
from sfumato_training.trainer import Loss, Work, falling, fit

Averages = dict[str, dict[str, torch.Tensor]]
"""Averaged weights of each network, as `Training.averaged` gives them."""


def fit_denoiser(
    work: Work[Whole],
    stage: str,
    settings: Denoising,
    models: Mapping[str, torch.nn.Module],
    loss: Callable[[torch.Generator], Loss],
    look: Callable[[Averages, int], None],
    *,
    rates: Mapping[str, float] | None = None,
    state: Mapping[str, Any] | None = None,
) -> None:
    """Train a denoiser into the folder of its stage, with looks at its averaged weights.

    Args:
        work: As `fit` takes it.
        stage: Its name.
        settings: Of the stage.
        models: The denoiser first, then what is trained with it.
        loss: Of a batch.
        look: Called with the averaged weights and the step.
        rates: Learning rates of models as shares of the denoiser's.
        state: What else a checkpoint keeps.
    """
    training = Training(
        models,
        rates=rates,
        ema=settings.ema,
        betas=(0.9, settings.beta2),
        weight_decay=settings.weight_decay,
        muon=[next(iter(models))] if settings.muon else [],
    )
    fit(
        work,
        stage,
        training,
        settings.steps,
        loss,
        falling(settings),
        clip_norm=settings.clip_norm,
        state=state,
        look=lambda step: look(training.averaged(), step),
        looks_every=settings.samples_every,
    )
