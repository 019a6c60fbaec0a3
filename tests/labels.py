"""A tiny label-conditional pipeline with random weights, for tests of everything that works on pixels."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import DDIMScheduler
from numpy.typing import NDArray

from sfumato.pipelines.label_pipeline import LabelPipeline
from sfumato.pipelines.label_unet import LabelUNet
from sfumato.request import Request

SIDE = 16
REQUEST = Request(label="0011", seed=3, steps=6, guidance=2.0)


def tiny_labels(seed: int = 0, prediction_type: str = "epsilon") -> LabelPipeline:
    """Draws 16 x 16 pixels from labels of four bits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = LabelUNet(SIDE, dim=8, dim_mults=(1, 2)).eval().requires_grad_(False)
    scheduler = DDIMScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        clip_sample=False,
        timestep_spacing="trailing",
        prediction_type=prediction_type,
    )
    pipeline = LabelPipeline(unet, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def square() -> NDArray[np.bool_]:
    """A mask of ten pixels."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[4:6, 4:9] = True
    return mask
