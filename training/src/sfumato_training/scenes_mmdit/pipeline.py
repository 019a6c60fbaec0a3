"""The trained parts as a FluxPipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sfumato.errors import TrainingError
from sfumato.studio.shapes import SIZE
from sfumato.studio.unigram import scene_unigram_tokenizer
from sfumato_training.autoencoder import load_vae
from sfumato_training.checkpoints import averaged_weights, load_latest
from sfumato_training.scenes.clip import load_clip
from sfumato_training.scenes_mmdit.config import Config, TransformerConfig
from sfumato_training.scenes_mmdit.transformer import build_scheduler, build_text_encoder, build_transformer

PARTS = ("transformer", "text_encoder_2")
"""What the stage "transformer" trains."""


def recommended(config: TransformerConfig) -> dict[str, Any]:
    """The arguments of a FluxPipeline's call that this model is used with: true guidance, a short context."""
    return {"true_cfg_scale": config.sample_guidance, "max_sequence_length": config.length}


def averaged_pipeline(
    config: Config, weights: Mapping[str, Mapping[str, torch.Tensor]], *, vae: Any, clip: Any, tokenizer: Any
) -> Any:
    """Build a FluxPipeline.

    Args:
        config: The whole config.
        weights: Of the trained parts, as `Training.averaged` gives them.
        vae: The autoencoder, whose scaling and shift are those of the latents.
        clip: The CLIPModel whose text encoder pools the prompt.
        tokenizer: Its tokenizer.
    """
    from diffusers import FluxPipeline
    from transformers import CLIPTextModel

    settings = config.transformer
    second = scene_unigram_tokenizer(settings.length)
    transformer, text_encoder = build_transformer(settings, config.clip.width), build_text_encoder(settings, second)
    transformer.load_state_dict(weights["transformer"])
    text_encoder.load_state_dict(weights["text_encoder_2"], strict=False)
    pooling = CLIPTextModel(clip.config.text_config)
    pooling.load_state_dict(clip.text_model.state_dict(), strict=False)
    for module in (transformer, text_encoder, pooling):
        module.to(config.device).eval().requires_grad_(False)
    pipeline = FluxPipeline(
        scheduler=build_scheduler(),
        vae=vae,
        text_encoder=pooling,
        tokenizer=tokenizer,
        text_encoder_2=text_encoder,
        tokenizer_2=second,
        transformer=transformer,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def trained_pipeline(config: Config, out: Path) -> tuple[Any, int]:
    """Load the newest checkpoint of a work folder as a pipeline with averaged weights.

    Returns:
        The FluxPipeline and the number of steps its transformer was trained.

    Raises:
        TrainingError: The stage "transformer" has not run.
    """
    found = load_latest(out / "transformer")
    if found is None:
        raise TrainingError(f"{out} holds no trained transformer; run the stage 'transformer' first")
    tensors, state = found
    vae = load_vae(config.vae, SIZE, out, config.device)
    vae.register_to_config(scaling_factor=state["scaling"], shift_factor=state["middle"])
    clip, tokenizer = load_clip(config, out)
    weights = {part: averaged_weights(tensors, part) for part in PARTS}
    return averaged_pipeline(config, weights, vae=vae, clip=clip, tokenizer=tokenizer), int(state["step"])
