"""Image-prompt adapters: text is read as before, and a reference by attention of its own, after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sfumato.errors import ModelError
from sfumato.models.model import ReferenceTokens, Site


def has_adapter(pipeline: Any) -> bool:
    """Whether an IP-Adapter is loaded."""
    networks = (getattr(pipeline, name, None) for name in ("unet", "transformer"))
    return any(hasattr(getattr(one, "encoder_hid_proj", None), "image_projection_layers") for one in networks)


def adapter_tokens(pipeline: Any, sites: Sequence[Site]) -> ReferenceTokens:
    """How the one adapter of a U-Net reads its reference: by the second call of every cross-attention.

    Its tokens, four or sixteen, are summaries of the whole picture, no patches of it.

    Raises:
        ModelError: Several adapters are loaded, or one of a kind that is not known.
    """
    layers = pipeline.unet.encoder_hid_proj.image_projection_layers
    if len(layers) != 1:
        raise ModelError(f"{len(layers)} IP-Adapters are loaded; load one, so that a reference has one meaning")
    latents = getattr(layers[0], "latents", None)  # of the Plus variants, a learned query for each token
    count = getattr(layers[0], "num_image_text_embeds", None) if latents is None else latents.shape[1]
    if count is None:
        raise ModelError(
            f"how many tokens {type(layers[0]).__name__} makes of a reference is not known; load an IP-Adapter of the "
            "base or Plus kind"
        )
    return ReferenceTokens(tuple(site for site in sites if site.kind == "cross"), 1, (1, int(count)), patches=False)
