"""The attention modules of a denoiser, found by its structure: which read the text, and where their grid comes from."""

from __future__ import annotations

from torch import nn

from sfumato.models.model import Kind, Site

PLACES = {
    "down_blocks": "down",
    "mid_block": "mid",
    "up_blocks": "up",
    "transformer_blocks": "block",
    "joint_transformer_blocks": "block",
    "blocks": "block",
    "single_transformer_blocks": "single",
}
"""Parts of U-Nets and transformers, in order of execution."""
TEXT_FIRST = frozenset(
    {"FluxTransformer2DModel", "ChromaTransformer2DModel", "QwenImageTransformer2DModel", "AuraFlowTransformer2DModel"}
)
"""Whose joint attention has the text before the image; elsewhere, as in Stable Diffusion 3, the image is first."""


def sites_of(denoiser: nn.Module) -> tuple[Site, ...]:
    """Every attention module of the denoiser's blocks, in order of execution."""
    registers = getattr(denoiser, "register_tokens", None)
    before = 0 if registers is None else int(registers.shape[1])
    first = any(kind.__name__ in TEXT_FIRST for kind in type(denoiser).__mro__)
    found = []
    for name, module in denoiser.named_modules():
        top = name.split(".")[0]
        if top in PLACES and hasattr(module, "to_q") and hasattr(module, "to_k") and hasattr(module, "heads"):
            found.append(_site(name, module, PLACES[top], first, before))
    order = list(dict.fromkeys(PLACES.values()))
    return tuple(sorted(found, key=lambda site: order.index(site.place)))


def _site(name: str, module: nn.Module, place: str, text_first: bool, registers: int) -> Site:
    if place in ("block", "single"):
        joint = place == "single" or getattr(module, "added_kv_proj_dim", None) is not None
        return Site(name, "joint" if joint else _reads(name, module), place, None, text_first, registers)
    frame, inside, _ = name.partition(".transformer_blocks.")
    if inside:
        return Site(name, _reads(name, module), place, frame)
    added = getattr(module, "added_kv_proj_dim", None) is not None
    alone = getattr(module, "only_cross_attention", False)
    return Site(name, ("cross" if alone else "added") if added else "self", place, name)


def _reads(name: str, module: nn.Module) -> Kind:
    return "cross" if getattr(module, "is_cross_attention", name.endswith("attn2")) else "self"
