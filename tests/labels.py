"""Tiny pipelines on pixels with random weights: one that takes labels, and one that is told nothing."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
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


def tiny_unconditional() -> DDPMPipeline:
    """Draws 8 x 8 pixels, told nothing."""
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        norm_num_groups=4,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    return DDPMPipeline(unet.eval(), DDPMScheduler())


def square() -> NDArray[np.bool_]:
    """A mask of ten pixels."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[4:6, 4:9] = True
    return mask
