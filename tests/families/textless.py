"""Pipelines that read no text: Paint-by-Example, which reads an image, and two that read nothing."""

from __future__ import annotations

from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiffusionPipeline,
    PaintByExamplePipeline,
    PNDMScheduler,
    UNet2DModel,
)
from diffusers.pipelines.deprecated.paint_by_example.image_encoder import PaintByExampleImageEncoder
from transformers import CLIPVisionConfig

from tests.families.family import Family, random_weights
from tests.families.parts import IMAGE_SIDE, IMAGE_WIDTH, SIZE, TEXT_WIDTH, clip_images, mask, picture
from tests.families.unets import stable_diffusion_parts


@random_weights
def paint_by_example() -> DiffusionPipeline:
    """Fills a mask with the object of an example, which is read as a single token."""
    parts = stable_diffusion_parts(channels=9)
    vision = CLIPVisionConfig(
        hidden_size=IMAGE_WIDTH,
        intermediate_size=2 * IMAGE_WIDTH,
        projection_dim=IMAGE_WIDTH,
        num_hidden_layers=5,
        num_attention_heads=4,
        image_size=IMAGE_SIDE,
        patch_size=8,
    )
    return PaintByExamplePipeline(
        unet=parts["unet"],
        vae=parts["vae"],
        scheduler=PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, skip_prk_steps=True
        ),
        image_encoder=PaintByExampleImageEncoder(vision, proj_size=TEXT_WIDTH),
        feature_extractor=clip_images(),
        safety_checker=None,
        requires_safety_checker=False,
    )


@random_weights
def ddpm() -> DiffusionPipeline:
    """Pixels from noise alone."""
    return DDPMPipeline(unet=_pixels(), scheduler=DDPMScheduler())


@random_weights
def ddim() -> DiffusionPipeline:
    """Pixels from noise alone, in few steps."""
    return DDIMPipeline(unet=_pixels(), scheduler=DDIMScheduler())


def _pixels() -> UNet2DModel:
    return UNet2DModel(
        sample_size=(16, 24),
        in_channels=3,
        out_channels=3,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64),
        layers_per_block=1,
        attention_head_dim=8,
        norm_num_groups=8,
    )


TEXTLESS = (
    Family(
        "Paint-by-Example",
        "PaintByExamplePipeline",
        paint_by_example,
        {
            "example_image": picture(IMAGE_SIDE, IMAGE_SIDE, seed=1),
            "image": picture(),
            "mask_image": mask(),
            **SIZE,
            "guidance_scale": 5.0,
        },
    ),
    Family("DDPM", "DDPMPipeline", ddpm),
    Family("DDIM", "DDIMPipeline", ddim),
)
