"""The denoiser, trained with its own copy of the text encoder on the encoded scenes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from sfumato.errors import TrainingError
from sfumato.studio.shapes import SIZE
from sfumato.studio.tokenizer import MAX_LENGTH
from sfumato_training.autoencoder import load_vae
from sfumato_training.checkpoints import Training, save, step_generator
from sfumato_training.latents import LATENTS, encoded
from sfumato_training.precision import mixed_precision
from sfumato_training.progress import Progress
from sfumato_training.scenes.clip import load_clip
from sfumato_training.scenes.config import Config, UnetConfig
from sfumato_training.scenes.data import load_captions, load_images, token_numbers, varied
from sfumato_training.schedule import falling_rate, noised, stratified
from sfumato_training.unets import compiled, explicit_attention, start_as_identity


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


def timestep_density(signal: torch.Tensor) -> torch.Tensor:
    """How often each timestep is trained, summing to 1.

    With a velocity as target, very noisy steps have the largest error and the least to learn (where the objects lie
    cannot be told from noise), so drawn evenly they drown the rest. Steps are drawn evenly where the signal-to-noise
    ratio is 0.1 to 10, and less often beyond, by the square root of the ratio, but never less than 0.15 as often.

    Args:
        signal: Cumulative product of the alphas, one for each timestep.
    """
    ratio = signal / (1 - signal)
    often = torch.minimum((ratio / 0.1).sqrt(), (10 / ratio).sqrt()).clamp(0.15, 1)
    return often / often.sum()


def train_unet(
    config: Config,
    out: Path,
    progress: Progress,
    *,
    resume: bool = True,
) -> None:
    """Train the U-Net and its text encoder into `out`/unet, with grids of samples in `out`/samples.

    Args:
        config: The whole config.
        out: The work folder; the stages "data", "vae" and "clip" have run in it.
        progress: Told every step.
        resume: Go on from the last checkpoint, if there is one.
    """
    settings = config.unet
    device = torch.device(config.device)
    vae = load_vae(config.vae, SIZE, out, config.device)
    clip, tokenizer = load_clip(config, out)
    captions = load_captions(out / "data")
    latents, scaling = encoded(load_images(out / "data"), out / LATENTS, vae, settings.encode_batch, progress)
    vae.register_to_config(scaling_factor=scaling)
    longest = max(len(row) for row in tokenizer(captions).input_ids)
    if longest > settings.short_length:
        raise TrainingError(f"short_length is {settings.short_length}, but a caption has {longest} tokens; raise it")
    signal = build_scheduler(settings).alphas_cumprod.to(device)  # (timestep,)
    density = timestep_density(signal.cpu())

    torch.manual_seed(config.seed + 2)
    unet = start_as_identity(build_unet(settings, config.clip.width, latents.shape[-1]))
    unet = unet.to(device, memory_format=torch.channels_last)
    text_encoder = build_text_encoder(clip, settings.text_layers).to(device).requires_grad_(True)
    if device.type == "cpu":
        explicit_attention(unet)
    training = Training(
        {"unet": unet, "text_encoder": text_encoder},
        rates={"text_encoder": settings.text_lr},
        ema=settings.ema,
        betas=(0.9, settings.beta2),
        weight_decay=settings.weight_decay,
        muon=["unet"] if settings.muon else [],
    )
    if resume and training.resume(out / "unet"):
        progress.event("unet", training.step, {"resumed": True})
    denoise: Any = compiled(unet) if settings.compile else unet

    while training.step < settings.steps:
        started = time.monotonic()
        generator = step_generator(config.seed, "unet", training.step)
        chosen = torch.randint(len(latents), (settings.batch,), generator=generator).tolist()
        clean = torch.from_numpy(latents[chosen]).float() * scaling
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = stratified(settings.batch, generator, density).to(device)
        short = float(torch.rand((), generator=generator)) < settings.short_context
        texts = varied(
            [captions[index] for index in chosen],
            empty=settings.empty,
            drop_captions=settings.drop_captions,
            drop_words=settings.drop_words,
            generator=generator,
        )
        tokens = token_numbers(tokenizer, texts, settings.short_length if short else MAX_LENGTH).to(device)
        clean, noise = clean.to(device), noise.to(device)
        noisy, velocity = noised(clean, noise, signal, timesteps)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        with mixed_precision(device):
            context = text_encoder(tokens).last_hidden_state
            predicted = denoise(noisy, timesteps, context).sample
        loss = F.mse_loss(predicted.float(), velocity)
        lr = falling_rate(settings.lr, training.step, settings.steps, settings.warmup, settings.cooldown)
        norm = training.update(loss, lr, settings.clip_norm)
        progress.step(
            "unet",
            training.step,
            settings.steps,
            {"loss": loss.item(), "norm": norm, "lr": lr, "seconds": time.monotonic() - started},
        )
        last = training.step == settings.steps
        if training.step % config.checkpoint_every == 0 or last:
            save(out / "unet", training.step, training.tensors(), {"scaling": scaling})
        if settings.samples_every and (training.step % settings.samples_every == 0 or last):
            from sfumato_training.scenes.sampling import averaged_pipeline, look

            pipeline = averaged_pipeline(config, training.averaged(), vae, tokenizer)
            guidance = {"guidance_scale": settings.sample_guidance}
            look(pipeline, out, progress, "unet", training.step, settings.sample_steps, guidance)
