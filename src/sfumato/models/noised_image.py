"""Real images: one given image, noised to one timestep, as the input of one call of the denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from sfumato.errors import ModelError, RequestError
from sfumato.models import noise, schedulers
from sfumato.models.tasks import PipelineTask
from sfumato.models.text import Text
from sfumato.request import CompletedRequest, Request

DDIM = "ddim"
"""Whose input is the noised latent itself."""


class Embedding(Protocol):
    """What a model must answer to look at a given image; `sfumato.models.latent.LatentModel` does."""

    pipeline: Any
    task: PipelineTask
    text: Text

    @property
    def denoiser(self) -> nn.Module:
        """Whose precision the latents take."""
        ...

    def takes(self, name: str) -> bool:
        """Whether the pipeline's own call has an argument of this name."""
        ...

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Latents of images."""
        ...

    def levels(self, timestep: float) -> tuple[torch.Tensor, torch.Tensor]:
        """How much of the image and of the noise a latent holds at a timestep."""
        ...

    def packed(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents as the pipeline takes them."""
        ...


def prepared(model: Embedding, request: Request) -> Request:
    """The request of one step at the timestep that the image is noised to.

    Raises:
        RequestError: There is no image.
        ModelError: The pipeline does not start from latents that are given, or has no such timestep.
    """
    if request.image is None:
        raise RequestError("a given image is to be noised, but there is none; give Request(..., image='photo.png')")
    own = model.pipeline.scheduler
    flow = noise.is_flow_match(own)
    if model.task.image is not None:
        raise ModelError(
            f"{type(model.pipeline).__name__} cannot look at a given image; take a text-to-image pipeline of the same "
            "model: sfumato.load(..., task='text-to-image')"
        )
    if not model.takes("latents") or not model.text.named:
        raise ModelError(
            f"{type(model.pipeline).__name__} cannot look at a given image; take a pipeline that reads text"
        )
    if not flow and (noise.is_flow(own) or DDIM not in schedulers.choices(model.pipeline)):
        raise ModelError(
            f"{type(model.pipeline).__name__} cannot look at a given image: {type(own).__name__} begins at no timestep "
            "that is asked for"
        )
    trained = int(model.pipeline.scheduler.config.get("num_train_timesteps", 1000))
    if not 0 < (request.at or 0) < trained:
        raise ModelError(f"at is {request.at}; this model has timesteps 1 to {trained - 1}")
    forced = {
        "steps": 1,
        "schedule": (int(request.at or 0),),
        "scheduler": schedulers.known_scheduler(model.pipeline, None) if flow else DDIM,
    }
    for name, value in forced.items():
        if getattr(request, name) not in (None, value):
            raise ModelError(f"{name} is {getattr(request, name)}; a given image is looked at once, so leave it out")
    return request.with_(**forced)


def noised(model: Embedding, requests: Sequence[CompletedRequest]) -> torch.Tensor:
    """The latents of the images with noise, as the pipeline takes them; the noise of an image is that of its seed."""
    weight = next(model.denoiser.parameters())
    found = []
    for request in requests:
        assert request.image is not None
        pixels = torch.from_numpy(np.array(request.image.image.convert("RGB"))).permute(2, 0, 1)[None]
        vae = model.pipeline.vae
        with torch.no_grad():
            latent = model.embed((pixels / 127.5 - 1).to(model.pipeline._execution_device, vae.dtype)).to(weight.dtype)
        signal, spread = (level.to(latent) for level in model.levels(float(request.at or 0)))
        for seed in request.seeds:
            drawn = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed)).to(latent)
            found.append(signal * latent + spread * drawn)
    return model.packed(torch.cat(found))
