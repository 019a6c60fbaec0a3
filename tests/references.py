"""A reference pipeline with random weights, and pictures for it: small enough to build and run in a test."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from diffusers import DDIMScheduler
from numpy.typing import NDArray

from sfumato.pipelines.reference_pipeline import ReferenceInpaintPipeline
from sfumato.request import Request
from sfumato_training.autoencoder import build_vae
from sfumato_training.insert.config import UnetConfig
from sfumato_training.insert.networks import build_encoder, build_unet
from sfumato_training.shared_settings import VaeConfig

SIDE, REFERENCE_SIDE, PATCHES = 32, 128, 4
CHANNELS = (16, 32)


def tiny_references(*, seed: int = 0) -> ReferenceInpaintPipeline:
    """Latents of 16 x 16, references of 4 x 4 patches, two heads; weights that training starts at 0 are random too."""
    torch.manual_seed(seed)
    config = UnetConfig(channels=CHANNELS, heads=2, norm_groups=4, patch=32, width=16, layers=1, encoder_heads=2)
    unet, encoder = build_unet(config, 16), build_encoder(config)
    for parameter in unet.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    vae = build_vae(VaeConfig(channels=(8, 8)), SIDE)
    scheduler = DDIMScheduler(prediction_type="v_prediction", clip_sample=False, timestep_spacing="trailing")
    pipeline = ReferenceInpaintPipeline(vae, unet, encoder, scheduler)
    for part in (unet, encoder, vae):
        part.eval().requires_grad_(False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@cache
def pictures() -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
    """A reference with a pattern in its middle, an image, and a mask over a part of it."""
    random = np.random.default_rng(0)
    reference = np.full((REFERENCE_SIDE, REFERENCE_SIDE, 3), 200, np.uint8)
    reference[32:96, 32:128] = random.integers(0, 255, (64, 96, 3), np.uint8)
    image = random.integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[8:24, 4:20] = True
    return reference, image, mask


def reference_request(**more: object) -> Request:
    """Three steps with guidance."""
    reference, image, mask = pictures()
    given = {"seed": 3, "steps": 3, "guidance": 2.0, "reference": reference, "image": image, "mask": mask} | more
    return Request(**given)  # type: ignore[arg-type]
