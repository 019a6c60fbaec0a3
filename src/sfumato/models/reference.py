"""Inpainting by example: a U-Net that cross-attends to the patches of a reference image; there is no text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sfumato.errors import ModelError, RequestError
from sfumato.inputs.image import Picture
from sfumato.models.latent import LatentModel
from sfumato.models.model import ReferenceTokens
from sfumato.request import CompletedRequest, Request


class ReferenceModel(LatentModel):
    """A ``ReferenceInpaintPipeline``."""

    read_as = "reference"
    """The argument of the pipeline's call that the reference is."""

    def complete(self, request: Request) -> CompletedRequest:
        """As for text to image; image, mask and reference are resized to what the model takes.

        Raises:
            RequestError: One of the three is missing.
            ModelError: The request asks for something that such a model does not have.
        """
        return super().complete(request)

    def _filled(self, request: Request) -> CompletedRequest:
        for name in ("prompt", "negative_prompt", "strength"):
            if getattr(request, name):
                raise ModelError(f"{self.source.name} takes no {name.replace('_', ' ')}; leave it out")
        if request.image is None or request.mask is None or request.reference is None:
            missing = [name for name in ("reference", "image", "mask") if getattr(request, name) is None]
            raise RequestError(
                f"this model paints what a reference shows into a masked part of an image; {' and '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} missing: Request(reference='garment.png', image='scene.png', "
                "mask='mask.png')"
            )
        done = super()._filled(request)
        size = (done.height, done.width)
        if (
            request.height is None
            and request.width is None
            and request.image.height * size[1] != request.image.width * size[0]
        ):
            raise ModelError(
                f"the image is {request.image.height} x {request.image.width} pixels (height x width); this model "
                f"paints {size[0]} x {size[1]}: crop it, or give height and width to stretch it"
            )
        return done.filled(reference=self._read(request.reference))

    def called_with(self, requests: Sequence[CompletedRequest]) -> dict[str, Any]:
        """As elsewhere, with the reference of each image."""
        references = [r.reference.image for r in requests for _ in r.seeds if r.reference is not None]
        return super().called_with(requests) | {self.read_as: references}

    def reference_tokens(self, adapter: int = 1) -> ReferenceTokens:
        """All cross-attention reads the reference; every token is a patch.

        Raises:
            ModelError: Another adapter than the first is meant; there are none.
        """
        config = self.pipeline.image_encoder.config
        patches = int(config.image_size) // int(config.patch_size)
        return self._tokens((patches, patches), True, adapter)

    def _tokens(self, grid: tuple[int, int], patches: bool, adapter: int) -> ReferenceTokens:
        if adapter != 1:
            raise ModelError(f"adapter is {adapter}; {self.source.name} has no IP-Adapters, so leave it out")
        sites = tuple(site for site in self.sites() if site.kind == "cross")
        return ReferenceTokens(sites, (0,) * len(sites), grid, patches)

    def encode(self, conditions: Sequence[str], *, gradients: bool = False) -> torch.Tensor:
        """The denoiser's condition without a reference: zeros (row, patch, channel).

        Raises:
            ModelError: A condition is text, which the model does not read.
        """
        if any(conditions):
            raise ModelError(f"{self.source.name} reads no text; its condition is the reference image")
        height, width = self.reference_tokens().grid
        channels = int(self.pipeline.unet.config.cross_attention_dim)
        weight = next(self.denoiser.parameters())
        return torch.zeros(len(conditions), height * width, channels, dtype=weight.dtype, device=weight.device)

    def _sides(self, request: Request) -> tuple[int, int]:
        """What is asked for, else the model's own, whatever the size of the image."""
        return request.height or self._side, request.width or self._side

    def _read(self, reference: Picture) -> Picture:
        """The reference at the size that the encoder reads.

        Raises:
            ModelError: It is not square.
        """
        if reference.height != reference.width:
            raise ModelError(
                f"the reference is {reference.height} x {reference.width} pixels (height x width); this model reads "
                "squares: crop it, or pad it"
            )
        side = int(self.pipeline.image_encoder.config.image_size)
        return reference.resized(side, side)


class PaintByExampleModel(ReferenceModel):
    """A ``PaintByExamplePipeline``: the reference is one token, so its attention has no say in the image."""

    read_as = "example_image"

    def _read(self, reference: Picture) -> Picture:
        return reference  # the pipeline's own processor resizes and crops it

    def reference_tokens(self, adapter: int = 1) -> ReferenceTokens:
        """One token, on which all attention lies."""
        return self._tokens((1, 1), False, adapter)
