"""The denoiser of faces, untrained and trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sfumato.pipelines.label_pipeline import LabelPipeline
from sfumato.pipelines.label_unet import LabelUNet
from sfumato.studio.faces import LABELS, SIZE
from sfumato_training.checkpoints import averaged_weights, trained
from sfumato_training.faces.config import Config, DenoiserConfig
from sfumato_training.samples import at_rest
from sfumato_training.schedule import linear_scheduler


def build_denoiser(config: DenoiserConfig) -> LabelUNet:
    """An untrained denoiser whose output starts at zero."""
    unet: LabelUNet = LabelUNet(sample_size=SIZE, dim=config.dim, dim_mults=config.dim_mults, labels=len(LABELS))
    last: Any = unet.final_conv[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    return unet


def averaged_pipeline(config: Config, weights: dict[str, torch.Tensor]) -> LabelPipeline:
    """A pipeline with the given weights, in evaluation mode."""
    unet = build_denoiser(config.denoiser)
    unet.load_state_dict(weights)
    pipeline: LabelPipeline = at_rest(LabelPipeline(unet, linear_scheduler()), config.device)
    return pipeline


def trained_pipeline(config: Config, out: Path) -> tuple[LabelPipeline, int]:
    """The newest checkpoint of a work folder, with averaged weights, and its steps.

    Raises:
        TrainingError: The stage "denoiser" has not run.
    """
    tensors, state = trained(out, "denoiser", "denoiser")
    return averaged_pipeline(config, averaged_weights(tensors, "unet")), int(state["step"])
