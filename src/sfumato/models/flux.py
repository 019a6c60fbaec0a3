"""Flux, Chroma and Qwen-Image: latents packed two by two into a sequence; branches of guidance one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sfumato.errors import ModelError
from sfumato.models.latent import LatentModel
from sfumato.models.model import Branches
from sfumato.request import CompletedRequest, Request

PACKING = 2
"""Squares of 2 x 2 latent pixels are one position."""


def packed(latents: torch.Tensor) -> torch.Tensor:
    """Latents (row, channel, y, x) as positions: (row, position, channel and pixel of a square)."""
    rows, channels, height, width = latents.shape
    apart = latents.reshape(rows, channels, height // PACKING, PACKING, width // PACKING, PACKING)
    return apart.permute(0, 2, 4, 1, 3, 5).flatten(3, 5).flatten(1, 2)


class FluxModel(LatentModel):
    """A ``FluxPipeline`` or ``ChromaPipeline``.

    The guidance of Flux is distilled into its network: it is one branch, unless its user gives ``true_cfg_scale`` above
    1, which makes the negative prompt count.
    """

    how_to_guide = (
        "wrap the pipeline with true_cfg_scale above 1, or raise guidance above 1 where it takes no such scale"
    )

    def _filled(self, request: Request) -> CompletedRequest:
        """As elsewhere; a negative prompt that would not count is refused.

        Raises:
            ModelError: The message says what to do.
        """
        done = super()._filled(request)
        distilled = self.guided_by == "guidance_scale" and self.takes("true_cfg_scale")
        if done.negative_prompt and distilled and "unconditional" not in self.branches(done).names:
            raise ModelError(f"the negative prompt would not count; leave it out, or {self.how_to_guide}")
        return done

    def branches(self, request: CompletedRequest) -> Branches:
        """The conditional branch first, then the unconditional one, each in a call of its own."""
        if float(self.arguments.get("true_cfg_scale", 1.0)) > 1:
            return Branches(("conditional", "unconditional"), sequential=True)
        return super().branches(request)

    def spatial(self, latents: torch.Tensor, request: CompletedRequest) -> torch.Tensor:
        """Unpacked: (row, position, 4 channels) to (row, channel, y, x)."""
        height, width = self.token_grid(request)
        apart = latents.reshape(len(latents), height, width, -1, PACKING, PACKING)
        return apart.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)

    def packed(self, latents: torch.Tensor) -> torch.Tensor:
        """The other way round."""
        return packed(latents)

    def _negatives(self, requests: Sequence[CompletedRequest]) -> list[str] | None:
        negative = super()._negatives(requests)
        if self._steered or "unconditional" not in self.branches(requests[0]).names:
            return None  # the pipelines would warn that they are not used
        return negative or [""] * len(requests)

    @property
    def _patch(self) -> int:
        return PACKING


class QwenModel(FluxModel):
    """A ``QwenImagePipeline``: guided where there is a negative prompt, if only " "; its VAE is one of videos."""

    guided_by = "true_cfg_scale"
    how_to_guide = "give a negative prompt, if only ' ', and a guidance above 1"

    def branches(self, request: CompletedRequest) -> Branches:
        """As Flux with true guidance, where there is something to guide away from."""
        on = request.guidance > 1 and (request.negative_prompt or self._steered)
        return Branches(("conditional", "unconditional"), sequential=True) if on else Branches(("conditional",))

    def decode(self, latents: torch.Tensor, *, gradients: bool = False) -> torch.Tensor:
        """Images of latents, each a video of one frame."""
        mean, spread = self._moments(latents)
        with torch.set_grad_enabled(gradients):
            frames: torch.Tensor = self._vae.decode(latents.unsqueeze(2) * spread + mean, return_dict=False)[0]
        return frames[:, :, 0]

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """The mean of the VAE's posterior, normalised as the denoiser takes it."""
        mean, spread = self._moments(images)
        found: torch.Tensor = (self._vae.encode(images.unsqueeze(2)).latent_dist.mean - mean) / spread
        return found[:, :, 0]

    def _moments(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        config = self._vae.config
        mean, spread = (torch.tensor(found).view(1, -1, 1, 1, 1) for found in (config.latents_mean, config.latents_std))
        return mean.to(like), spread.to(like)
