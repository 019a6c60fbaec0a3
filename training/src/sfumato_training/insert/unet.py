"""The denoiser, trained with the encoder of references on pairs whose correspondence it is never told."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sfumato.pipelines.reference_pipeline import shrunk
from sfumato.studio.garments import SIZE
from sfumato_training import autoencoder
from sfumato_training.denoising import Averages, fit_denoiser
from sfumato_training.images import as_tensor
from sfumato_training.insert.config import Config
from sfumato_training.insert.data import REFERENCE, TARGET, load_data, split
from sfumato_training.insert.looking import look
from sfumato_training.insert.networks import averaged_pipeline, build_encoder, build_unet
from sfumato_training.latents import LATENTS, Latents, encoded, means, scaling_of
from sfumato_training.precision import mixed_precision
from sfumato_training.schedule import linear_scheduler, noised, shuffled
from sfumato_training.trainer import Loss, Work
from sfumato_training.unets import compiled, explicit_attention


def train_vae(work: Work[Config]) -> None:
    """Train the autoencoder on references and targets."""
    pictures, _ = load_data(work.out / "data")
    autoencoder.train_vae(work, pictures.reshape(-1, *pictures.shape[2:]))


def make_latents(work: Work[Config], vae: Any) -> Latents:
    """Encode all targets once, whole and with the masked part grey: (pair, whole and masked, channel, y, x)."""
    pictures, masks = load_data(work.out / "data")

    def latents_of(pairs: slice) -> Latents:
        whole = as_tensor(pictures[pairs, TARGET])
        left = whole * torch.from_numpy(~masks[pairs])[:, None]
        return np.stack(np.split(means(vae, torch.cat((whole, left))), 2), axis=1)

    return encoded(work.out / LATENTS, len(masks), work.config.unet.encode_batch, latents_of, work.progress)


def train_unet(work: Work[Config]) -> None:
    """Train U-Net and encoder into the folder of their stage, with grids of samples."""
    config, device = work.config, work.device
    settings = config.unet
    vae = autoencoder.load_vae(config.vae, SIZE, work.out, device)
    pictures, masks = load_data(work.out / "data")
    trained_on = split(len(masks))
    latents = make_latents(work, vae)
    scaling = scaling_of(latents[:, 0])
    vae.register_to_config(scaling_factor=scaling)
    signal = linear_scheduler().alphas_cumprod.to(device)  # (timestep,)
    torch.manual_seed(config.seed + 2)
    unet = build_unet(settings, latents.shape[-1]).to(device, memory_format=torch.channels_last)
    encoder = build_encoder(settings).to(device).train()
    if device.type == "cpu":
        explicit_attention(unet)
    denoise: Any = compiled(unet) if settings.compile else unet
    factor = SIZE // latents.shape[-1]

    def loss(generator: torch.Generator) -> Loss:
        chosen = np.sort(torch.randint(trained_on, (settings.batch,), generator=generator).numpy())
        clean, left = (torch.from_numpy(latents[chosen, place]).float() * scaling for place in (0, 1))
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = shuffled(settings.batch, len(signal), generator)
        told = (torch.rand(settings.batch, generator=generator) >= settings.withheld).float()
        mask = shrunk(torch.from_numpy(masks[chosen])[:, None].float(), factor)
        reference = as_tensor(pictures[chosen, REFERENCE])
        clean, left, noise, timesteps, told, mask, reference = (
            part.to(device) for part in (clean, left, noise, timesteps, told, mask, reference)
        )
        noisy, velocity = noised(clean, noise, signal, timesteps)
        rows = torch.cat((noisy, mask, left), dim=1).contiguous(memory_format=torch.channels_last)
        with mixed_precision(device):
            tokens = encoder(reference).last_hidden_state[:, 1:] * told[:, None, None]
            predicted = denoise(rows, timesteps, tokens).sample
        missed = (predicted.float() - velocity).square()
        weight = settings.outside + (1 - settings.outside) * (mask > 0)
        return (weight * missed).mean() / weight.mean(), {}

    def look_at(averages: Averages, step: int) -> None:
        look(work, averaged_pipeline(config, averages, vae), step)

    fit_denoiser(
        work,
        "unet",
        settings,
        {"unet": unet, "image_encoder": encoder},
        loss,
        look_at,
        rates={"image_encoder": settings.encoder_lr},
        state={"scaling": scaling},
    )
