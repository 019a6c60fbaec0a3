"""Kandinsky 2.2: a prior turns the text into the embedding of an image, and the U-Net reads only that."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    DDPMScheduler,
    DiffusionPipeline,
    KandinskyV22InpaintPipeline,
    KandinskyV22Pipeline,
    UNet2DConditionModel,
    VQModel,
)

from tests.families.family import Family, random_weights
from tests.families.parts import (
    IMAGE_WIDTH,
    SIZE,
    mask,
    picture,
)


def decoder_parts(*, channels: int = 4) -> dict[str, Any]:
    """The parts that make an image of its embedding; the U-Net predicts a variance beside the noise."""
    unet = UNet2DConditionModel(
        sample_size=32,
        in_channels=channels,
        out_channels=8,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        block_out_channels=(32, 64),
        layers_per_block=1,
        attention_head_dim=16,
        cross_attention_dim=32,
        encoder_hid_dim=IMAGE_WIDTH,
        encoder_hid_dim_type="image_proj",
        addition_embed_type="image",
        resnet_time_scale_shift="scale_shift",
        norm_num_groups=8,
    )
    movq = VQModel(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        vq_embed_dim=4,
        num_vq_embeddings=12,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        norm_num_groups=8,
        norm_type="spatial",
    )
    scheduler = DDPMScheduler(
        beta_schedule="linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=True,
        clip_sample_range=2.0,
        variance_type="learned_range",
    )
    return {"unet": unet, "movq": movq, "scheduler": scheduler}


@random_weights
def decoder() -> DiffusionPipeline:
    """The embedding of an image to an image."""
    return KandinskyV22Pipeline(**decoder_parts())


@random_weights
def inpainting() -> DiffusionPipeline:
    """Fills a mask by the embedding of an image."""
    return KandinskyV22InpaintPipeline(**decoder_parts(channels=9))


def _embedding(seed: int) -> torch.Tensor:
    return torch.randn(1, IMAGE_WIDTH, generator=torch.Generator().manual_seed(seed))


EMBEDDED = {
    "image_embeds": _embedding(1),
    "negative_image_embeds": _embedding(2),
    **SIZE,
    "guidance_scale": 4.0,
}

KANDINSKY = (
    Family("Kandinsky 2.2, decoder", "KandinskyV22Pipeline", decoder, EMBEDDED),
    Family(
        "Kandinsky 2.2, inpainting",
        "KandinskyV22InpaintPipeline",
        inpainting,
        {**EMBEDDED, "image": picture(), "mask_image": mask()},
    ),
)
