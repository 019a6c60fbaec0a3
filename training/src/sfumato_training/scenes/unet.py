"""The denoiser, trained with its own copy of the text encoder on the encoded scenes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from sfumato.studio.shapes import SIZE
from sfumato.studio.tokenizer import MAX_LENGTH
from sfumato_training.autoencoder import load_vae
from sfumato_training.denoising import Averages, fit_denoiser
from sfumato_training.latents import scaling_of
from sfumato_training.precision import mixed_precision
from sfumato_training.scenes.clip import load_clip
from sfumato_training.scenes.config import Config
from sfumato_training.scenes.data import check_lengths, load_captions, token_numbers, told_captions
from sfumato_training.scenes.latents import make_latents
from sfumato_training.scenes.looking import look
from sfumato_training.scenes.networks import averaged_pipeline, build_scheduler, build_text_encoder, build_unet
from sfumato_training.schedule import noised, stratified
from sfumato_training.trainer import Loss, Work
from sfumato_training.unets import compiled, explicit_attention, start_as_identity


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


def train_unet(work: Work[Config]) -> None:
    """Train the U-Net and its text encoder into the folder of their stage, with grids of samples.

    Raises:
        TrainingError: A stage before it has not run, or a caption does not fit into the short context.
    """
    config, device = work.config, work.device
    settings = config.unet
    vae = load_vae(config.vae, SIZE, work.out, device)
    clip, tokenizer = load_clip(config, work.out)
    captions = load_captions(work.out / "data")
    latents = make_latents(work, vae, settings.encode_batch)
    scaling = scaling_of(latents)
    vae.register_to_config(scaling_factor=scaling)
    check_lengths(captions, tokenizer, settings.short_length, "short_length")
    signal = build_scheduler(settings).alphas_cumprod.to(device)  # (timestep,)
    density = timestep_density(signal.cpu())
    torch.manual_seed(config.seed + 2)
    unet = start_as_identity(build_unet(settings, config.clip.width, latents.shape[-1]))
    unet = unet.to(device, memory_format=torch.channels_last)
    text_encoder = build_text_encoder(clip, settings.text_layers).to(device).requires_grad_(True)
    if device.type == "cpu":
        explicit_attention(unet)
    denoise: Any = compiled(unet) if settings.compile else unet

    def loss(generator: torch.Generator) -> Loss:
        chosen = torch.randint(len(latents), (settings.batch,), generator=generator).tolist()
        clean = torch.from_numpy(latents[chosen]).float() * scaling
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = stratified(settings.batch, generator, density).to(device)
        short = float(torch.rand((), generator=generator)) < settings.short_context
        texts = told_captions(captions, chosen, settings, generator)
        tokens = token_numbers(tokenizer, texts, settings.short_length if short else MAX_LENGTH).to(device)
        noisy, velocity = noised(clean.to(device), noise.to(device), signal, timesteps)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        with mixed_precision(device):
            context = text_encoder(tokens).last_hidden_state
            predicted = denoise(noisy, timesteps, context).sample
        return F.mse_loss(predicted.float(), velocity), {}

    def look_at(averages: Averages, step: int) -> None:
        pipeline = averaged_pipeline(config, averages, vae, tokenizer)
        sampled = {"num_inference_steps": settings.sample_steps, "guidance_scale": settings.sample_guidance}
        look(work, "unet", step, pipeline, **sampled)

    fit_denoiser(
        work,
        "unet",
        settings,
        {"unet": unet, "text_encoder": text_encoder},
        loss,
        look_at,
        rates={"text_encoder": settings.text_lr},
        state={"scaling": scaling},
    )
