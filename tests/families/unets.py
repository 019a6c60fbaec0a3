"""Stable Diffusion and Stable Diffusion XL: U-Nets whose cross-attention reads the text."""

from __future__ import annotations

from functools import partial
from typing import Any

from diffusers import (
    DiffusionPipeline,
    EulerDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)

from tests.families.family import Family, random_weights
from tests.families.parts import (
    NEGATIVE,
    PROMPT,
    SIZE,
    TEXT_WIDTH,
    autoencoder,
    clip_text,
    mask,
    picture,
    projected_clip_text,
    second_clip_tokenizer,
)
from tests.pipelines import Shape, clip_tokenizer, stable_diffusion

# Cross-attention at two resolutions and in the middle block, as in the released models, on latents of 16 x 24.
SHAPE = Shape(
    unet_channels=(32, 64, 64), reads_prompt=(True, True, False), vae_channels=(16, 16, 32), latent_side=16
)  # fmt: skip


def stable_diffusion_parts(*, channels: int = 4, guidance_width: int | None = None) -> dict[str, Any]:
    """The parts of a Stable Diffusion pipeline, by the names its classes give them.

    Args:
        channels: Of the input of the U-Net: more than four where it sees an image or a mask too.
        guidance_width: Of the embedded guidance scale, in a U-Net that has one.
    """
    parts = stable_diffusion(SHAPE).components
    parts["unet"] = UNet2DConditionModel.from_config(
        parts["unet"].config, in_channels=channels, time_cond_proj_dim=guidance_width
    )
    return {**parts, "requires_safety_checker": False}


def stable_diffusion_xl_parts(*, channels: int = 4) -> dict[str, Any]:
    """The parts of a Stable Diffusion XL pipeline, by the names its classes give them."""
    tokenizer, tokenizer_2 = clip_tokenizer(), second_clip_tokenizer()
    size_width = 8
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=channels,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(2, 4, 4),
        use_linear_projection=True,
        cross_attention_dim=2 * TEXT_WIDTH,
        norm_num_groups=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=size_width,
        # six numbers for size and crop, and the pooled text
        projection_class_embeddings_input_dim=6 * size_width + TEXT_WIDTH,
    )
    return {
        "unet": unet,
        "vae": autoencoder(scaling=0.13025),
        "text_encoder": clip_text(tokenizer),
        "text_encoder_2": projected_clip_text(tokenizer_2),
        "tokenizer": tokenizer,
        "tokenizer_2": tokenizer_2,
        "scheduler": euler(),
        "add_watermarker": False,
    }


def euler(spacing: str = "leading") -> EulerDiscreteScheduler:
    """The scheduler of Stable Diffusion XL and, with trailing steps, of the turbo models."""
    return EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing=spacing, steps_offset=1
    )


@random_weights
def plain() -> DiffusionPipeline:
    """Text to image."""
    return StableDiffusionPipeline(**stable_diffusion_parts())


@random_weights
def turbo() -> DiffusionPipeline:
    """Text to image in few steps, meant to run without guidance."""
    return StableDiffusionPipeline(**stable_diffusion_parts() | {"scheduler": euler("trailing")})


@random_weights
def image_to_image() -> DiffusionPipeline:
    """Text and image to image."""
    return StableDiffusionImg2ImgPipeline(**stable_diffusion_parts())


@random_weights
def inpainting(channels: int = 4) -> DiffusionPipeline:
    """Fills a mask; with nine channels the U-Net sees the mask and the masked image too."""
    return StableDiffusionInpaintPipeline(**stable_diffusion_parts(channels=channels))


@random_weights
def instruct_pix2pix() -> DiffusionPipeline:
    """Edits an image by an instruction; the U-Net sees the image in four more channels."""
    return StableDiffusionInstructPix2PixPipeline(**stable_diffusion_parts(channels=8))


@random_weights
def latent_consistency() -> DiffusionPipeline:
    """The guidance scale is embedded beside the timestep, so there is no unconditional branch."""
    parts = stable_diffusion_parts(guidance_width=32) | {"scheduler": LCMScheduler()}
    return LatentConsistencyModelPipeline(**parts)


@random_weights
def plain_xl() -> DiffusionPipeline:
    """Text to image with two text encoders."""
    return StableDiffusionXLPipeline(**stable_diffusion_xl_parts())


@random_weights
def image_to_image_xl() -> DiffusionPipeline:
    """Text and image to image, without the aesthetic score of the refiner."""
    return StableDiffusionXLImg2ImgPipeline(**stable_diffusion_xl_parts())


@random_weights
def inpainting_xl(channels: int = 4) -> DiffusionPipeline:
    """Fills a mask; with nine channels the U-Net sees the mask and the masked image too."""
    return StableDiffusionXLInpaintPipeline(**stable_diffusion_xl_parts(channels=channels))


TEXT = {"prompt": PROMPT, **SIZE, "guidance_scale": 5.0}
CHANGED = {"prompt": PROMPT, "image": picture(), "strength": 0.5, "guidance_scale": 5.0}
FILLED = {"prompt": PROMPT, "image": picture(), "mask_image": mask(), **SIZE, "strength": 1.0, "guidance_scale": 5.0}
EDIT = {"prompt": PROMPT, "image": picture(), "guidance_scale": 5.0, "image_guidance_scale": 1.5}
NEGATED = {**TEXT, "negative_prompt": NEGATIVE}

UNETS = (
    Family("Stable Diffusion", "StableDiffusionPipeline", plain, TEXT),
    Family("Stable Diffusion, negative prompt", "StableDiffusionPipeline", plain, NEGATED),
    Family("Stable Diffusion, guidance off", "StableDiffusionPipeline", turbo, {**TEXT, "guidance_scale": 0.0}),
    Family("Stable Diffusion, image to image", "StableDiffusionImg2ImgPipeline", image_to_image, CHANGED),
    Family("Stable Diffusion, inpainting", "StableDiffusionInpaintPipeline", inpainting, FILLED),
    Family(
        "Stable Diffusion, inpainting with nine channels",
        "StableDiffusionInpaintPipeline",
        partial(inpainting, 9),
        FILLED,
    ),
    Family("InstructPix2Pix", "StableDiffusionInstructPix2PixPipeline", instruct_pix2pix, EDIT),
    Family("Latent Consistency Model", "LatentConsistencyModelPipeline", latent_consistency, TEXT),
    Family("Stable Diffusion XL", "StableDiffusionXLPipeline", plain_xl, TEXT),
    Family("Stable Diffusion XL, negative prompt", "StableDiffusionXLPipeline", plain_xl, NEGATED),
    Family("Stable Diffusion XL, image to image", "StableDiffusionXLImg2ImgPipeline", image_to_image_xl, CHANGED),
    Family("Stable Diffusion XL, inpainting", "StableDiffusionXLInpaintPipeline", inpainting_xl, FILLED),
    Family(
        "Stable Diffusion XL, inpainting with nine channels",
        "StableDiffusionXLInpaintPipeline",
        partial(inpainting_xl, 9),
        FILLED,
    ),
)
