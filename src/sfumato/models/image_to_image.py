"""Stable Diffusion 1.x and 2.x from an image: the run starts from the noised image, some steps into the schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sfumato.errors import ModelError, RequestError
from sfumato.models.unet import UNetModel
from sfumato.request import Request


class ImageToImageModel(UNetModel):
    """A ``StableDiffusionImg2ImgPipeline``."""

    features = UNetModel.features | {"image"}
    default_strength = 0.8

    def complete(self, request: Request) -> Request:
        """As for text to image; sizes come from the image, which is resized where others are asked for.

        Raises:
            RequestError: There is no image.
            ModelError: As for text to image, or the strength leaves no step to run.
        """
        if request.image is None:
            raise RequestError("this pipeline starts from an image; give one: Request(..., image='photo.png')")
        done = super().complete(
            request.with_(
                height=request.height or request.image.height,
                width=request.width or request.image.width,
                strength=request.strength or self.default_strength,
            )
        )
        if self.steps(done) < 1:
            raise ModelError(
                f"strength {done.strength} of {done.steps} steps leaves none to run; take {1 / (done.steps or 1):.2g} "
                "or more, or more steps"
            )
        size = (int(done.height or 0), int(done.width or 0))
        mask = None if request.mask is None else request.mask.resized(*size, smooth=False)
        return done.with_(image=request.image.resized(*size), mask=mask)

    def steps(self, request: Request) -> int:
        """The last ones, as many as the strength says."""
        return int((request.steps or 0) * (request.strength or self.default_strength))

    def arguments(self, requests: Sequence[Request]) -> dict[str, Any]:
        """Arguments of ``StableDiffusionImg2ImgPipeline.__call__``."""
        given = super().arguments(requests)
        del given["height"], given["width"]
        pictures = [r.image.image for r in requests for _ in r.seeds if r.image is not None]
        return given | {"image": pictures, "strength": requests[0].strength}
