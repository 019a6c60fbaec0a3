"""The decoder of Kandinsky 2.2: an image from an image's embedding, whose tokens are keys added to self-attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sfumato.errors import ModelError
from sfumato.models.family import Family
from sfumato.models.latent import LatentModel
from sfumato.models.model import Source
from sfumato.models.tasks import PipelineTask


class KandinskyModel(LatentModel):
    """A ``KandinskyV22Pipeline``, wrapped with the embeddings that its prior made of a prompt.

    Raises:
        ModelError: The embeddings are missing.
    """

    condition = None

    def __init__(
        self,
        pipeline: Any,
        source: Source,
        family: Family,
        task: PipelineTask,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        if missing := [n for n in ("image_embeds", "negative_image_embeds") if n not in (arguments or {})]:
            raise ModelError(
                f"{type(pipeline).__name__} reads embeddings, and {missing[0]} is missing; give what its prior made: "
                "sfumato.wrap(pipeline, image_embeds=..., negative_image_embeds=...)"
            )
        super().__init__(pipeline, source, family, task, arguments)

    def decode(self, latents: torch.Tensor, *, gradients: bool = False) -> torch.Tensor:
        """The MOVQ's images of latents."""
        with torch.set_grad_enabled(gradients):
            images: torch.Tensor = self._vae.decode(latents, force_not_quantize=True)["sample"]
        return images

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """The MOVQ's latents."""
        latents: torch.Tensor = self._vae.encode(images)["latents"]
        return latents

    @property
    def _vae(self) -> Any:
        return self.pipeline.movq

    @property
    def _scale(self) -> int:
        return int(self.pipeline.movq_scale_factor)

    @property
    def _multiple(self) -> int:
        return self._scale**2  # what the pipeline rounds up to
