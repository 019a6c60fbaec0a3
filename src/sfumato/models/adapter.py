"""Stable Diffusion with an image-prompt adapter: text as before, and a reference read by attention of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sfumato.errors import ModelError, RequestError
from sfumato.models.model import ReferenceTokens
from sfumato.models.unet import UNetModel
from sfumato.request import Request


def has_adapter(pipeline: Any) -> bool:
    """Whether an IP-Adapter is loaded."""
    projection = getattr(getattr(pipeline, "unet", None), "encoder_hid_proj", None)
    return hasattr(projection, "image_projection_layers")


class AdapterModel(UNetModel):
    """A ``StableDiffusionPipeline`` with one IP-Adapter loaded, base or Plus.

    Every cross-attention is called twice: on the text, then on the tokens of the reference. They are four or sixteen
    summaries of the whole picture, no patches of it.
    """

    # not replayed: a recorded call holds the reference of both branches among arguments that replay leaves alone
    features = (UNetModel.features - {"replay"}) | {"reference"}

    def complete(self, request: Request) -> Request:
        """As for text to image.

        Raises:
            RequestError: There is no reference.
            ModelError: Several adapters are loaded; or as for text to image.
        """
        if request.reference is None:
            raise RequestError(
                "an image-prompt adapter is loaded; give its picture: Request(..., reference='photo.png')"
            )
        if (count := len(self._projections)) != 1:
            raise ModelError(f"{count} IP-Adapters are loaded; load one, so that a reference has one meaning")
        return super().complete(request)

    def arguments(self, requests: Sequence[Request]) -> dict[str, Any]:
        """Arguments of ``StableDiffusionPipeline.__call__``, which gives all items of a batch one reference.

        Raises:
            ModelError: The requests have several.
        """
        if len({r.reference.sha256 for r in requests if r.reference is not None}) != 1:
            raise ModelError("an IP-Adapter gives all images of a batch one reference; run each reference by itself")
        assert requests[0].reference is not None
        return super().arguments(requests) | {"ip_adapter_image": requests[0].reference.image}

    def reference_tokens(self) -> ReferenceTokens:
        """The second call of every cross-attention; its tokens stand for no place of the reference.

        Raises:
            ModelError: The adapter is of a kind that is not known.
        """
        layer = self._projections[0]
        latents = getattr(layer, "latents", None)  # of the Plus variants, a learned query for each token
        count = getattr(layer, "num_image_text_embeds", None) if latents is None else latents.shape[1]
        if count is None:
            raise ModelError(
                f"how many tokens {type(layer).__name__} makes of a reference is not known; load an IP-Adapter of the "
                "base or Plus kind"
            )
        return ReferenceTokens(tuple(site for site in self.sites() if site.kind == "cross"), 1, (1, int(count)), False)

    @property
    def _projections(self) -> Sequence[Any]:
        found: Sequence[Any] = self.pipeline.unet.encoder_hid_proj.image_projection_layers
        return found
