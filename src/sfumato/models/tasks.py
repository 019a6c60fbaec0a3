"""What a pipeline is given beside text: an image to start from, a mask, a control image, a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sfumato.errors import ModelError, RequestError
from sfumato.request import CompletedRequest, Request

Image = Literal["start", "control", "edit"]


@dataclass(frozen=True)
class PipelineTask:
    """One way to use the networks of a pipeline.

    Attributes:
        name: As users call it.
        image: What an image of the request is for: the run starts from it, is controlled by it or edits it; None where
            the pipeline takes none.
        mask: Whether it paints into a mask.
        adapters: How many image-prompt adapters are loaded; each needs a reference.
    """

    name: str
    image: Image | None = None
    mask: bool = False
    adapters: int = 0

    @property
    def features(self) -> frozenset[str]:
        """What of a request it takes."""
        given = {"image": self.image is not None, "mask": self.mask, "reference": self.adapters > 0}
        return frozenset(name for name, takes in given.items() if takes)

    def check(self, request: Request) -> None:
        """Demand what the pipeline cannot do without.

        Raises:
            RequestError: A picture is missing.
        """
        if self.mask and request.mask is None:
            raise RequestError("this pipeline paints into a mask; give one: Request(..., image=..., mask='mask.png')")
        if self.image is not None and request.image is None:
            needs = {"start": "starts from", "control": "is controlled by", "edit": "edits"}[self.image]
            raise RequestError(f"this pipeline {needs} an image; give one: Request(..., image='photo.png')")
        if self.adapters and request.reference is None:
            raise RequestError(
                "an image-prompt adapter is loaded; give its picture: Request(..., reference='photo.png')"
            )

    def check_references(self, request: Request) -> None:
        """Demand one reference for all adapters, or one for each.

        Raises:
            RequestError: There are more or fewer.
        """
        if request.more_references is not None and len(request.references) != self.adapters:
            raise RequestError(
                f"{len(request.references)} references were given; this model reads "
                + (f"one for each of its {self.adapters} IP-Adapters, or one for all" if self.adapters > 1 else "one")
            )

    def arguments(self, requests: Sequence[CompletedRequest]) -> dict[str, Any]:
        """The arguments of the pipeline's call that carry pictures, one for each image that is made.

        Raises:
            ModelError: The requests have several references, which an adapter cannot tell apart.
        """
        found: dict[str, Any] = {}
        if self.image is not None:
            found["image"] = [r.image.image for r in requests for _ in r.seeds if r.image is not None]
        if self.mask:
            found["mask_image"] = [r.mask.image for r in requests for _ in r.seeds if r.mask is not None]
        if self.adapters:
            known = {tuple(one.sha256 for one in r.references): r.references for r in requests}
            if len(known) != 1:
                raise ModelError(
                    "an IP-Adapter gives all images of a batch one reference; run each reference by itself"
                )
            (pictures,) = known.values()
            each = pictures if len(pictures) == self.adapters else pictures * self.adapters
            found["ip_adapter_image"] = [one.image for one in each]
        return found


TEXT = PipelineTask("text-to-image")
IMAGE = PipelineTask("image-to-image", image="start")
INPAINTING = PipelineTask("inpainting", image="start", mask=True)
CONTROL = PipelineTask("text-to-image with a control image", image="control")
EDITING = PipelineTask("editing by instruction", image="edit")
