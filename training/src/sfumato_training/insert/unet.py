"""The denoiser, trained with the encoder of references on pairs whose correspondence it is never told."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sfumato.errors import TrainingError
from sfumato.pipelines.reference_pipeline import NOISE, PAINTED, ReferenceInpaintPipeline, shrunk
from sfumato.studio.garments import SIZE
from sfumato.writing.files import replacing_file
from sfumato_training.autoencoder import load_vae
from sfumato_training.checkpoints import Training, averaged_weights, load_latest, save, step_generator
from sfumato_training.images import as_tensor
from sfumato_training.insert.config import Config, UnetConfig
from sfumato_training.insert.data import REFERENCE, TARGET, load_data, split
from sfumato_training.precision import mixed_precision
from sfumato_training.progress import Progress
from sfumato_training.schedule import falling_rate, linear_scheduler, noised, stratified
from sfumato_training.unets import compiled, explicit_attention, start_as_identity

STAGE = "unet"
LATENTS = "latents.npy"


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


def make_latents(config: Config, out: Path, vae: Any, progress: Progress) -> tuple[npt.NDArray[np.float16], float]:
    """Encode all targets once, whole and with the masked part grey, to `out`/latents.npy.

    Returns:
        Unscaled latents (pair, whole and masked, channel, y, x), and their scaling factor, 1 / standard deviation of
        the whole ones.
    """
    path = out / LATENTS
    pictures, masks = load_data(out / "data")
    if not path.is_file() or len(np.load(path, mmap_mode="r")) != len(masks):
        parts = []
        for start in range(0, len(masks), config.unet.encode_batch):
            chosen = slice(start, start + config.unet.encode_batch)
            whole = as_tensor(pictures[chosen, TARGET])
            left = whole * torch.from_numpy(~masks[chosen])[:, None]
            both = torch.cat((whole, left)).to(vae.device, memory_format=torch.channels_last)
            with torch.no_grad(), mixed_precision(vae.device):
                found = vae.encode(both).latent_dist.mean.float().cpu().numpy().astype(np.float16)
            parts.append(np.stack(np.split(found, 2), axis=1))
            progress.step("encode", min(chosen.stop, len(masks)), len(masks), {})
        with replacing_file(path) as opened:
            np.save(opened, np.concatenate(parts))
    latents: npt.NDArray[np.float16] = np.load(path)
    return latents, float(1 / latents[:, 0].astype(np.float32).std())


def train_unet(config: Config, out: Path, progress: Progress, *, resume: bool = True) -> None:
    """Train U-Net and encoder into `out`/unet, with grids of samples in `out`/samples."""
    settings = config.unet
    device = torch.device(config.device)
    vae = load_vae(config.vae, SIZE, out, device)
    pictures, masks = load_data(out / "data")
    trained_on = split(len(masks))
    latents, scaling = make_latents(config, out, vae, progress)
    vae.register_to_config(scaling_factor=scaling)
    signal = linear_scheduler().alphas_cumprod.to(device)  # (timestep,)
    torch.manual_seed(config.seed + 2)
    unet = build_unet(settings, latents.shape[-1]).to(device, memory_format=torch.channels_last)
    encoder = build_encoder(settings).to(device).train()
    if device.type == "cpu":
        explicit_attention(unet)
    models = {"unet": unet, "image_encoder": encoder}
    training = Training(
        models,
        rates={"image_encoder": settings.encoder_lr},
        ema=settings.ema,
        betas=(0.9, settings.beta2),
        weight_decay=settings.weight_decay,
        muon=["unet"] if settings.muon else [],
    )
    if resume and training.resume(out / STAGE):
        progress.event(STAGE, training.step, {"resumed": True})
    denoise: Any = compiled(unet) if settings.compile else unet
    even = torch.full((len(signal),), 1 / len(signal))
    factor = SIZE // latents.shape[-1]
    while training.step < settings.steps:
        started = time.monotonic()
        generator = step_generator(config.seed, STAGE, training.step)
        chosen = np.sort(torch.randint(trained_on, (settings.batch,), generator=generator).numpy())
        clean, left = (torch.from_numpy(latents[chosen, place]).float() * scaling for place in (0, 1))
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = stratified(settings.batch, generator, even)[torch.randperm(settings.batch, generator=generator)]
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
        loss = (weight * missed).mean() / weight.mean()
        lr = falling_rate(settings.lr, training.step, settings.steps, settings.warmup, settings.cooldown)
        norm = training.update(loss, lr, settings.clip_norm)
        values = {"loss": loss.item(), "norm": norm, "lr": lr, "seconds": time.monotonic() - started}
        progress.step(STAGE, training.step, settings.steps, values)
        last = training.step == settings.steps
        if training.step % config.checkpoint_every == 0 or last:
            save(out / STAGE, training.step, training.tensors(), {"scaling": scaling})
        if settings.samples_every and (training.step % settings.samples_every == 0 or last):
            from sfumato_training.insert.looking import look

            look(config, out, progress, averaged_pipeline(config, training.averaged(), vae), training.step)


def averaged_pipeline(
    config: Config, weights: dict[str, dict[str, torch.Tensor]], vae: Any
) -> ReferenceInpaintPipeline:
    """A pipeline with the given weights of "unet" and "image_encoder", in evaluation mode."""
    parts = {
        "unet": build_unet(config.unet, SIZE // 2 ** (len(config.vae.channels) - 1)),
        "image_encoder": build_encoder(config.unet),
    }
    for name, part in parts.items():
        part.load_state_dict(weights[name])
        part.to(config.device).eval().requires_grad_(False)
    pipeline = ReferenceInpaintPipeline(vae, parts["unet"], parts["image_encoder"], linear_scheduler())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def trained_pipeline(config: Config, out: Path) -> tuple[ReferenceInpaintPipeline, int]:
    """The newest checkpoint of a work folder, with averaged weights, and its steps.

    Raises:
        TrainingError: A stage has not run.
    """
    found = load_latest(out / STAGE)
    if found is None:
        raise TrainingError(f"{out} holds no trained denoiser; run the stage {STAGE!r} first")
    tensors, state = found
    weights = {name: averaged_weights(tensors, name) for name in ("unet", "image_encoder")}
    vae = load_vae(config.vae, SIZE, out, config.device)
    vae.register_to_config(scaling_factor=state["scaling"])
    return averaged_pipeline(config, weights, vae), int(state["step"])
