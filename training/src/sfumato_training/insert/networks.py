"""The denoiser and the encoder of references, untrained and trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sfumato.pipelines.reference_pipeline import NOISE, PAINTED, ReferenceInpaintPipeline
from sfumato.studio.garments import SIZE
from sfumato_training.autoencoder import load_vae
from sfumato_training.checkpoints import averaged_weights, trained
from sfumato_training.denoising import Averages
from sfumato_training.insert.config import Config, UnetConfig
from sfumato_training.samples import at_rest
from sfumato_training.schedule import linear_scheduler
from sfumato_training.unets import start_as_identity


def build_unet(config: UnetConfig, latent_size: int) -> Any:
    """An untrained U-Net with cross-attention at every level, whose residual branches start at zero."""
    from diffusers import UNet2DConditionModel

    levels = len(config.channels)
    unet = UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=PAINTED,
        out_channels=NOISE,
        block_out_channels=config.channels,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        layers_per_block=1,
        cross_attention_dim=config.width,
        # What diffusers calls attention_head_dim is the number of heads in these blocks.
        attention_head_dim=config.heads,
        norm_num_groups=config.norm_groups,
    )
    return start_as_identity(unet)


def build_encoder(config: UnetConfig) -> Any:
    """An untrained vision transformer whose tokens stand for patches of the reference."""
    from transformers import Dinov2Config, Dinov2Model

    return Dinov2Model(
        Dinov2Config(
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.encoder_heads,
            mlp_ratio=2,
            image_size=SIZE,
            patch_size=config.patch,
            attn_implementation="eager",
        )
    )


def averaged_pipeline(config: Config, weights: Averages, vae: Any) -> ReferenceInpaintPipeline:
    """A pipeline with the given weights of "unet" and "image_encoder", in evaluation mode."""
    unet = build_unet(config.unet, SIZE // 2 ** (len(config.vae.channels) - 1))
    encoder = build_encoder(config.unet)
    unet.load_state_dict(weights["unet"])
    encoder.load_state_dict(weights["image_encoder"])
    pipeline = ReferenceInpaintPipeline(vae, unet, encoder, linear_scheduler())
    rested: ReferenceInpaintPipeline = at_rest(pipeline, config.device)
    return rested


def trained_pipeline(config: Config, out: Path) -> tuple[ReferenceInpaintPipeline, int]:
    """The newest checkpoint of a work folder, with averaged weights, and its steps.

    Raises:
        TrainingError: A stage has not run.
    """
    tensors, state = trained(out, "unet", "denoiser")
    weights = {name: averaged_weights(tensors, name) for name in ("unet", "image_encoder")}
    vae = load_vae(config.vae, SIZE, out, config.device)
    vae.register_to_config(scaling_factor=state["scaling"])
    return averaged_pipeline(config, weights, vae), int(state["step"])
