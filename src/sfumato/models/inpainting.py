"""Stable Diffusion 1.x and 2.x painting into the masked part of an image, with a U-Net of 4 or 9 input channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sfumato.errors import RequestError
from sfumato.models.image_to_image import ImageToImageModel
from sfumato.request import Request


class InpaintingModel(ImageToImageModel):
    """A ``StableDiffusionInpaintPipeline``."""

    features = ImageToImageModel.features | {"mask"}
    default_strength = 1.0

    def complete(self, request: Request) -> Request:
        """As for image to image; the mask is resized with the image.

        Raises:
            RequestError: There is no mask, or no image.
            ModelError: As for image to image.
        """
        if request.mask is None:
            raise RequestError("this pipeline paints into a mask; give one: Request(..., image=..., mask='mask.png')")
        return super().complete(request)

    def arguments(self, requests: Sequence[Request]) -> dict[str, Any]:
        """Arguments of ``StableDiffusionInpaintPipeline.__call__``."""
        masks = [r.mask.image for r in requests for _ in r.seeds if r.mask is not None]
        first = requests[0]
        return super().arguments(requests) | {"mask_image": masks, "height": first.height, "width": first.width}
