"""The transformer of scenes and its T5 encoder, untrained, and trained as a FluxPipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sfumato.errors import TrainingError
from sfumato.models.flux import PACKING
from sfumato.studio.shapes import SIZE
from sfumato.studio.unigram import scene_unigram_tokenizer
from sfumato_training.autoencoder import load_vae
from sfumato_training.checkpoints import averaged_weights, trained
from sfumato_training.denoising import Averages
from sfumato_training.samples import at_rest
from sfumato_training.scenes.clip import load_clip
from sfumato_training.scenes_mmdit.config import Config, TransformerConfig

LATENT_CHANNELS = 4


def build_transformer(config: TransformerConfig, pooled: int) -> Any:
    """Build an untrained FluxTransformer2DModel whose blocks start as the identity.

    Args:
        config: The stage's config.
        pooled: Channels of the pooled text.

    Raises:
        TrainingError: Flux has three axes: the text's index, row and column.
    """
    from diffusers import FluxTransformer2DModel

    if len(config.axes) != 3:
        raise TrainingError(f"[transformer] axes is {list(config.axes)}; expected three numbers: index, row, column")
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=PACKING**2 * LATENT_CHANNELS,
        num_layers=config.double,
        num_single_layers=config.single,
        attention_head_dim=sum(config.axes),
        num_attention_heads=config.heads,
        joint_attention_dim=config.text_width,
        pooled_projection_dim=pooled,
        guidance_embeds=False,
        axes_dims_rope=config.axes,
    )
    # A modulation of zero closes every residual branch, and the output starts at zero (adaLN-Zero).
    double = (norm for block in transformer.transformer_blocks for norm in (block.norm1, block.norm1_context))
    single = (block.norm for block in transformer.single_transformer_blocks)
    for layer in (*(norm.linear for norm in (*double, *single, transformer.norm_out)), transformer.proj_out):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    return transformer


def build_text_encoder(config: TransformerConfig, tokenizer: Any) -> Any:
    """Build an untrained T5EncoderModel, gated as T5 v1.1, whose relative positions encode the order of words."""
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=config.text_width,
            d_kv=config.text_width // config.text_heads,
            d_ff=2 * config.text_width,
            num_layers=config.text_layers,
            num_heads=config.text_heads,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )


def build_scheduler() -> Any:
    """Build the scheduler of rectified flow with evenly spaced noise levels."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0)


def recommended(config: TransformerConfig) -> dict[str, Any]:
    """The arguments of a FluxPipeline's call that this model is used with: true guidance, a short context."""
    return {"true_cfg_scale": config.sample_guidance, "max_sequence_length": config.length}


def averaged_pipeline(config: Config, weights: Averages, *, vae: Any, clip: Any, tokenizer: Any) -> Any:
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
    pipeline = FluxPipeline(
        scheduler=build_scheduler(),
        vae=vae,
        text_encoder=pooling,
        tokenizer=tokenizer,
        text_encoder_2=text_encoder,
        tokenizer_2=second,
        transformer=transformer,
    )
    return at_rest(pipeline, config.device)


def trained_pipeline(config: Config, out: Path) -> tuple[Any, int]:
    """Load the newest checkpoint of a work folder as a pipeline with averaged weights.

    Returns:
        The FluxPipeline and the number of steps its transformer was trained.

    Raises:
        TrainingError: A stage has not run.
    """
    tensors, state = trained(out, "transformer", "transformer")
    vae = load_vae(config.vae, SIZE, out, config.device)
    vae.register_to_config(scaling_factor=state["scaling"], shift_factor=state["middle"])
    clip, tokenizer = load_clip(config, out)
    weights = {name: averaged_weights(tensors, name) for name in ("transformer", "text_encoder_2")}
    return averaged_pipeline(config, weights, vae=vae, clip=clip, tokenizer=tokenizer), int(state["step"])
