"""The autoencoder: trained on crops, since what it learns (flat colours, edges, textures) is local."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from sfumato.errors import TrainingError
from sfumato.models.loading import studio_models
from sfumato_training.checkpoints import averaged_weights, trained
from sfumato_training.images import as_tensor
from sfumato_training.optimising import Training
from sfumato_training.precision import mixed_precision
from sfumato_training.schedule import linear_rate
from sfumato_training.shared_settings import VaeConfig, WithVae
from sfumato_training.trainer import Loss, Work, fit, keep_start

STAGE = "vae"
HELD_BACK = 200
"""The last images are never trained on: they measure the autoencoder."""


def build_vae(config: VaeConfig, image_size: int) -> Any:
    """Build an untrained diffusers AutoencoderKL with 4 latent channels."""
    from diffusers import AutoencoderKL

    levels = len(config.channels)
    vae = AutoencoderKL(
        block_out_channels=config.channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=image_size,
        mid_block_add_attention=False,
    )
    # Starts with little noise on the latent: with the usual start, noise as large as the signal, hundreds of steps pass
    # before the decoder listens to the latent at all.
    with torch.no_grad():
        vae.quant_conv.bias[4:] = -6.0
    return vae


def _crops(images: npt.NDArray[np.uint8], config: VaeConfig, generator: torch.Generator) -> torch.Tensor:
    """Cut a square out of each of some random images: of two random places the one with more contrast.

    Much of a scene is empty background, which is learned soon; edges and corners are what takes long.
    """
    slack = images.shape[1] - config.crop + 1
    chosen = torch.randint(len(images), (config.batch,), generator=generator).tolist()
    corners = torch.randint(slack, (config.batch, 2, 2), generator=generator).tolist()
    cut = []
    for index, places in zip(chosen, corners, strict=True):
        candidates = [images[index, y : y + config.crop, x : x + config.crop] for y, x in places]
        cut.append(max(candidates, key=lambda candidate: float(candidate[::4, ::4].std(axis=(0, 1)).sum())))
    return as_tensor(np.stack(cut))


def train_vae(work: Work[WithVae], images: npt.NDArray[np.uint8]) -> None:
    """Train the autoencoder into the folder of its stage.

    Args:
        work: The stage "vae" of it.
        images: (image, y, x, channel); the last ones measure the autoencoder.
    """
    settings, device = work.config.vae, work.device
    held, images = images[-HELD_BACK:], images[: max(1, len(images) - HELD_BACK)]
    torch.manual_seed(work.config.seed)
    vae = build_vae(settings, images.shape[1]).to(device, memory_format=torch.channels_last)
    if settings.start:
        vae.load_state_dict(_weights(settings.start))
    training = Training({"vae": vae}, ema=0.998)

    def errors(pixels: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        with mixed_precision(device):
            posterior = vae.encode(pixels).latent_dist
            again = vae.decode(posterior.mean + posterior.std * noise).sample.float()
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return F.mse_loss(again, pixels), F.l1_loss(again, pixels), divergence

    forward: Any = torch.compile(errors, dynamic=False) if settings.compile else errors
    side = settings.crop // 2 ** (len(settings.channels) - 1)

    def loss(generator: torch.Generator) -> Loss:
        pixels = _crops(images, settings, generator).to(device, memory_format=torch.channels_last)
        noise = torch.randn(settings.batch, 4, side, side, generator=generator).to(device)
        squared, absolute, divergence = forward(pixels, noise)
        return squared + settings.l1 * absolute + settings.kl * divergence, {"mse": squared}

    fit(work, STAGE, training, settings.steps, loss, lambda step: linear_rate(settings.lr, step, settings.steps))
    keep_start(training, settings, work.out / STAGE)
    decibel = psnr(load_vae(settings, images.shape[1], work.out, device), held)
    work.progress.event(STAGE, training.step, {"psnr": decibel})


def _weights(model: str) -> dict[str, torch.Tensor]:
    """The weights of the autoencoder of a pipeline on disk.

    Raises:
        TrainingError: There is none.
    """
    from diffusers import AutoencoderKL

    folder = studio_models().get(model, Path(model))
    if not (folder / "vae").is_dir():
        raise TrainingError(f"{model} has no autoencoder; give an embedded model, or a folder in diffusers layout")
    try:
        vae = AutoencoderKL.from_pretrained(
            str(folder), subfolder="vae", use_safetensors=True, torch_dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        raise TrainingError(f"the autoencoder of {model} cannot be loaded: {error}") from error
    weights: dict[str, torch.Tensor] = vae.state_dict()
    return weights


def load_vae(settings: VaeConfig, image_size: int, out: Path, device: torch.device | str) -> Any:
    """Load the trained autoencoder with its averaged weights, in evaluation mode.

    Raises:
        TrainingError: The stage "vae" has not run.
    """
    tensors, _ = trained(out, STAGE, "autoencoder")
    vae = build_vae(settings, image_size)
    vae.load_state_dict(averaged_weights(tensors, STAGE))
    return vae.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def psnr(vae: Any, images: npt.NDArray[np.uint8]) -> float:
    """Measure encoding and decoding of whole images, in decibel over all of them, after rounding to 8 bits."""
    squared, count = 0.0, 0
    for start in range(0, len(images), 50):
        batch = images[start : start + 50]
        with torch.no_grad(), mixed_precision(vae.device):
            pixels = as_tensor(batch).to(vae.device, memory_format=torch.channels_last)
            again = vae.decode(vae.encode(pixels).latent_dist.mean).sample.float().clamp(-1, 1)
        rounded = ((again + 1) * 127.5).round().permute(0, 2, 3, 1).cpu().numpy()
        squared += float(np.square(rounded - batch).sum())
        count += batch.size
    return float(10 * np.log10(255.0**2 / max(squared / count, 1e-12)))
