"""The denoiser of scenes and its text encoder, untrained and trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sfumato.studio.shapes import SIZE
from sfumato.studio.tokenizer import load_tokenizer
from sfumato_training.autoencoder import load_vae
from sfumato_training.checkpoints import averaged_weights, trained
from sfumato_training.denoising import Averages
from sfumato_training.samples import at_rest
from sfumato_training.scenes.clip import TOKENIZER, build_clip
from sfumato_training.scenes.config import Config, UnetConfig


def build_unet(config: UnetConfig, context: int, latent_size: int = 16) -> Any:
    """Build an untrained UNet2DConditionModel with cross-attention at every level.

    Args:
        config: The stage's config.
        context: Width of the text encoder.
        latent_size: Height and width of the latents.
    """
    from diffusers import UNet2DConditionModel

    levels = len(config.channels)
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=4,
        out_channels=4,
        block_out_channels=config.channels,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        layers_per_block=config.layers,
        cross_attention_dim=context,
        # What diffusers calls attention_head_dim is the number of heads in these blocks.
        attention_head_dim=config.heads,
        norm_num_groups=config.norm_groups,
    )


def build_text_encoder(clip: Any, layers: int) -> Any:
    """Copy the first layers and the final normalisation of a CLIPModel's text encoder into a CLIPTextModel."""
    from transformers import CLIPTextConfig, CLIPTextModel

    settings = clip.config.text_config.to_dict()
    settings["num_hidden_layers"] = min(layers, settings["num_hidden_layers"])
    config = CLIPTextConfig(**settings)
    config._attn_implementation = "eager"
    encoder = CLIPTextModel(config)
    weights = clip.text_model.state_dict()
    encoder.load_state_dict({name: weights[name] for name in encoder.state_dict()})
    return encoder.train()


def build_scheduler(config: UnetConfig) -> Any:
    """Build the scheduler that the model is trained with and shipped with."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=config.beta_end,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )


def averaged_pipeline(config: Config, weights: Averages, vae: Any, tokenizer: Any) -> Any:
    """A StableDiffusionPipeline with the given weights of "unet" and "text_encoder", in evaluation mode."""
    from diffusers import StableDiffusionPipeline

    text_encoder = build_text_encoder(build_clip(config.clip, tokenizer), config.unet.text_layers)
    text_encoder.load_state_dict(weights["text_encoder"])
    side = vae.config.sample_size // 2 ** (len(config.vae.channels) - 1)
    unet = build_unet(config.unet, text_encoder.config.hidden_size, side)
    unet.load_state_dict(weights["unet"])
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(config.unet),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return at_rest(pipeline, config.device)


def trained_pipeline(config: Config, out: Path) -> tuple[Any, int]:
    """Load the newest checkpoint of a work folder as a pipeline with averaged weights.

    Returns:
        The StableDiffusionPipeline and the number of steps its U-Net was trained.

    Raises:
        TrainingError: A stage has not run.
    """
    tensors, state = trained(out, "unet", "U-Net")
    vae = load_vae(config.vae, SIZE, out, config.device)
    vae.register_to_config(scaling_factor=state["scaling"])
    weights = {name: averaged_weights(tensors, name) for name in ("unet", "text_encoder")}
    return averaged_pipeline(config, weights, vae, load_tokenizer(out / TOKENIZER)), int(state["step"])
