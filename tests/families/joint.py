"""Transformers in which text and image tokens attend to one another: Stable Diffusion 3, Flux, Chroma and AuraFlow."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    ChromaPipeline,
    ChromaTransformer2DModel,
    DiffusionPipeline,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3InpaintPipeline,
    StableDiffusion3Pipeline,
)
from transformers import UMT5Config, UMT5EncoderModel

from tests.families.family import Family, random_weights
from tests.families.parts import (
    NEGATIVE,
    PROMPT,
    SIZE,
    T5_LENGTH,
    TEXT_WIDTH,
    amplified,
    autoencoder,
    clip_text,
    flow,
    mask,
    picture,
    projected_clip_text,
    second_clip_tokenizer,
    t5_text,
    t5_tokenizer,
)
from tests.pipelines import clip_tokenizer

LATENT_CHANNELS = 16
HEADS, HEAD_WIDTH = 2, 16
# Flux shares the channels of a head between an index, the row and the column.
AXES = (4, 6, 6)


@random_weights
def stable_diffusion_3(
    pipeline: type[DiffusionPipeline] = StableDiffusion3Pipeline,
    *,
    dual_attention_layers: tuple[int, ...] = (),
    qk_norm: str | None = None,
) -> DiffusionPipeline:
    """Three text encoders, joint blocks only.

    Args:
        pipeline: Its class.
        dual_attention_layers: The blocks with a second attention among the image tokens alone, as in version 3.5.
        qk_norm: The normalisation of queries and keys, as in version 3.5.
    """
    tokenizer, tokenizer_2 = clip_tokenizer(), second_clip_tokenizer()
    width = HEADS * HEAD_WIDTH
    return pipeline(
        transformer=amplified(
            SD3Transformer2DModel(
                sample_size=16,
                patch_size=2,
                in_channels=LATENT_CHANNELS,
                out_channels=LATENT_CHANNELS,
                num_layers=3,
                attention_head_dim=HEAD_WIDTH,
                num_attention_heads=HEADS,
                caption_projection_dim=width,
                joint_attention_dim=2 * TEXT_WIDTH,
                pooled_projection_dim=2 * TEXT_WIDTH,
                pos_embed_max_size=24,
                dual_attention_layers=dual_attention_layers,
                qk_norm=qk_norm,
            )
        ),
        scheduler=flow(),
        vae=autoencoder(latent_channels=LATENT_CHANNELS, scaling=1.5305, shift=0.0609),
        text_encoder=projected_clip_text(tokenizer, activation="quick_gelu"),
        text_encoder_2=projected_clip_text(tokenizer_2),
        text_encoder_3=t5_text(2 * TEXT_WIDTH),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        tokenizer_3=t5_tokenizer(),
    )


@random_weights
def flux(
    pipeline: type[DiffusionPipeline] = FluxPipeline, *, guidance: bool = True, shifted: bool = True
) -> DiffusionPipeline:
    """T5 for the tokens, CLIP for the pooled text; two joint blocks and two that hold text and image in one sequence.

    Args:
        pipeline: Its class.
        guidance: Whether the guidance scale is embedded, as in the development model.
        shifted: Whether the timesteps are shifted by the size of the image, as in the development model.
    """
    tokenizer = clip_tokenizer()
    return pipeline(
        transformer=amplified(
            FluxTransformer2DModel(
                patch_size=1,
                in_channels=4 * LATENT_CHANNELS,
                num_layers=2,
                num_single_layers=2,
                attention_head_dim=HEAD_WIDTH,
                num_attention_heads=HEADS,
                joint_attention_dim=TEXT_WIDTH,
                pooled_projection_dim=TEXT_WIDTH,
                guidance_embeds=guidance,
                axes_dims_rope=AXES,
            )
        ),
        scheduler=flow(dynamic=True) if shifted else flow(shift=1.0),
        vae=_flux_autoencoder(),
        text_encoder=clip_text(tokenizer),
        text_encoder_2=t5_text(),
        tokenizer=tokenizer,
        tokenizer_2=t5_tokenizer(),
    )


@random_weights
def chroma() -> DiffusionPipeline:
    """Flux without CLIP, with a mask over the padding of the text and true guidance in two calls."""
    with warnings.catch_warnings():
        # its own position embedding is the one that diffusers is about to move
        warnings.filterwarnings("ignore", "`FluxPosEmbed` is deprecated", FutureWarning)
        transformer = amplified(
            ChromaTransformer2DModel(
                patch_size=1,
                in_channels=4 * LATENT_CHANNELS,
                num_layers=2,
                num_single_layers=2,
                attention_head_dim=HEAD_WIDTH,
                num_attention_heads=HEADS,
                joint_attention_dim=TEXT_WIDTH,
                axes_dims_rope=AXES,
                approximator_num_channels=16,
                approximator_hidden_dim=32,
                approximator_layers=1,
            )
        )
    return ChromaPipeline(
        transformer=transformer,
        scheduler=flow(shift=1.0),
        vae=_flux_autoencoder(),
        text_encoder=t5_text(),
        tokenizer=t5_tokenizer(),
    )


@random_weights
def aura_flow() -> DiffusionPipeline:
    """Two joint blocks and two single ones; eight learnt register tokens stand before the text."""
    tokenizer = t5_tokenizer()
    width = HEADS * HEAD_WIDTH
    return AuraFlowPipeline(
        transformer=amplified(
            AuraFlowTransformer2DModel(
                sample_size=16,
                patch_size=2,
                in_channels=4,
                out_channels=4,
                num_mmdit_layers=2,
                num_single_dit_layers=2,
                attention_head_dim=HEAD_WIDTH,
                num_attention_heads=HEADS,
                joint_attention_dim=TEXT_WIDTH,
                caption_projection_dim=width,
                pos_embed_max_size=256,
            )
        ),
        scheduler=flow(shift=1.73),
        vae=autoencoder(scaling=0.13025),
        text_encoder=UMT5EncoderModel(
            UMT5Config(
                vocab_size=len(tokenizer), d_model=TEXT_WIDTH, d_kv=8, d_ff=2 * TEXT_WIDTH, num_layers=2, num_heads=4
            )
        ),
        tokenizer=tokenizer,
    )


def _flux_autoencoder() -> Any:
    return autoencoder(latent_channels=LATENT_CHANNELS, scaling=0.3611, shift=0.1159)


TEXT = {"prompt": PROMPT, "max_sequence_length": T5_LENGTH, **SIZE}
CHANGED = {**TEXT, "image": picture(), "strength": 0.5}
FILLED = {**TEXT, "image": picture(), "mask_image": mask(), "strength": 0.8}

JOINT = (
    Family("Stable Diffusion 3", "StableDiffusion3Pipeline", stable_diffusion_3, {**TEXT, "guidance_scale": 5.0}),
    Family(
        "Stable Diffusion 3.5",
        "StableDiffusion3Pipeline",
        partial(stable_diffusion_3, dual_attention_layers=(0,), qk_norm="rms_norm"),
        {**TEXT, "guidance_scale": 5.0},
    ),
    Family(
        "Stable Diffusion 3, image to image",
        "StableDiffusion3Img2ImgPipeline",
        partial(stable_diffusion_3, StableDiffusion3Img2ImgPipeline),
        {**CHANGED, "guidance_scale": 5.0},
    ),
    Family(
        "Stable Diffusion 3, inpainting",
        "StableDiffusion3InpaintPipeline",
        partial(stable_diffusion_3, StableDiffusion3InpaintPipeline),
        {**FILLED, "guidance_scale": 5.0},
    ),
    Family("Flux dev", "FluxPipeline", flux, {**TEXT, "guidance_scale": 3.5}),
    Family(
        "Flux schnell",
        "FluxPipeline",
        partial(flux, guidance=False, shifted=False),
        {**TEXT, "guidance_scale": 0.0},
    ),
    Family(
        "Flux, true guidance",
        "FluxPipeline",
        flux,
        {**TEXT, "guidance_scale": 3.5, "true_cfg_scale": 3.0, "negative_prompt": NEGATIVE},
    ),
    Family(
        "Flux, image to image",
        "FluxImg2ImgPipeline",
        partial(flux, FluxImg2ImgPipeline),
        {**CHANGED, "guidance_scale": 3.5},
    ),
    Family(
        "Flux, inpainting",
        "FluxInpaintPipeline",
        partial(flux, FluxInpaintPipeline),
        {**FILLED, "guidance_scale": 3.5},
    ),
    Family("Chroma", "ChromaPipeline", chroma, {**TEXT, "guidance_scale": 5.0, "negative_prompt": NEGATIVE}),
    Family("AuraFlow", "AuraFlowPipeline", aura_flow, {**TEXT, "guidance_scale": 3.5}),
)
