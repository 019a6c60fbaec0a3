"""From latents to images and back, through the pipeline's variational autoencoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from sfumato.errors import ModelError
from sfumato.models.turns import alone


def decoded(vae: Any, latents: torch.Tensor, *, gradients: bool = False) -> torch.Tensor:
    """The images (item, 3, y, x) of latents that are scaled as a denoiser takes them (item, channel, y, x)."""
    unscaled = latents / float(vae.config.scaling_factor) + _shift(vae)
    with alone(vae), torch.set_grad_enabled(gradients), _precise(vae):
        images: torch.Tensor = vae.decode(unscaled.to(vae.dtype), return_dict=False)[0]
    return images


def embedded(vae: Any, images: torch.Tensor) -> torch.Tensor:
    """The mean of the posterior of images, scaled as a denoiser takes it."""
    with alone(vae), _precise(vae):  # which other threads would meet in another precision
        made = vae.encode(images.to(vae.dtype))
    latents: torch.Tensor = (made.latent_dist.mean if hasattr(made, "latent_dist") else made.latent).to(images.dtype)
    return (latents - _shift(vae)) * float(vae.config.scaling_factor)


@contextmanager
def _precise(vae: Any) -> Iterator[None]:
    """The VAE in single precision, if it overflows in half.

    Raises:
        ModelError: Derivatives are to be taken, which would meet it in half precision again.
    """
    own: torch.dtype = vae.dtype
    if own != torch.float16 or not getattr(vae.config, "force_upcast", False):
        yield
        return
    if torch.is_grad_enabled():
        raise ModelError("the VAE overflows in float16, so it has no derivatives; load the model in another dtype")
    vae.to(torch.float32)
    try:
        yield
    finally:
        vae.to(own)


def _shift(vae: Any) -> float:
    """What the latents are shifted by."""
    return float(getattr(vae.config, "shift_factor", None) or 0.0)
