"""Image-prompt adapters: text is read as before, and references by attention of their own, after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sfumato.errors import ModelError
from sfumato.models.model import ReferenceTokens, Site


def adapters_of(pipeline: Any) -> Sequence[Any]:
    """The image projections of the IP-Adapters that are loaded, in order; none where there are no adapters."""
    networks = (getattr(pipeline, name, None) for name in ("unet", "transformer"))
    projections = (getattr(one, "encoder_hid_proj", None) for one in networks)
    found = (getattr(one, "image_projection_layers", None) for one in projections)
    return next((tuple(layers) for layers in found if layers is not None), ())


def token_count(projection: Any) -> int:
    """How many tokens an adapter makes of a reference, four or sixteen: summaries of the picture, no patches of it.

    Raises:
        ModelError: The adapter is of a kind that is not known.
    """
    latents = getattr(projection, "latents", None)  # of the Plus variants, a learned query for each token
    count = getattr(projection, "num_image_text_embeds", None) if latents is None else latents.shape[1]
    if count is None:
        raise ModelError(
            f"how many tokens {type(projection).__name__} makes of a reference is not known; load an IP-Adapter of the "
            "base or Plus kind"
        )
    return int(count)


def adapter_tokens(pipeline: Any, sites: Sequence[Site], adapter: int) -> ReferenceTokens:
    """How one of a U-Net's adapters reads its reference: by a call of its own in every cross-attention.

    The calls follow that of the text, in the order of the adapters. An adapter whose scale is 0 in a module is not
    called there.

    Args:
        pipeline: With adapters.
        sites: The attention modules of its U-Net.
        adapter: Which one, from 1.

    Raises:
        ModelError: There is no such adapter, or its scale is 0 everywhere.
    """
    projections = adapters_of(pipeline)
    if not 1 <= adapter <= len(projections):
        raise ModelError(f"adapter is {adapter}; the number of IP-Adapters that are loaded is {len(projections)}")
    found, orders = [], []
    for site in sites:
        if site.kind != "cross":
            continue
        called = [_is_called(scale) for scale in pipeline.unet.get_submodule(site.name).processor.scale]
        if called[adapter - 1]:
            found.append(site)
            orders.append(sum(called[:adapter]))
    if not found:
        raise ModelError(
            f"the scale of IP-Adapter {adapter} is 0 in every module, so it reads no reference; raise it: "
            "pipeline.set_ip_adapter_scale(...), or --adapter FILE,scale=0.6"
        )
    return ReferenceTokens(tuple(found), tuple(orders), (1, token_count(projections[adapter - 1])), patches=False)


def _is_called(scale: Any) -> bool:
    """Whether an adapter acts in a module, by its scale there: a number, or one for each of its pictures."""
    return any(scale) if isinstance(scale, list) else scale != 0
