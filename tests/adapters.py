"""IP-Adapters with random weights in the layout of their published files, and what reads pictures for them."""

from __future__ import annotations

from typing import Any

import torch
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

WIDTH = 32


def vision(**more: Any) -> CLIPVisionModelWithProjection:
    torch.manual_seed(0)
    config = {"hidden_size": WIDTH, "image_size": 32, "projection_dim": WIDTH, "intermediate_size": 37,
              "patch_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4} | more  # fmt: skip
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**config)).eval()


def processor() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def adapter_weights(unet: Any, *, plus: bool = False) -> dict[str, torch.Tensor]:
    """A random IP-Adapter in the layout of its published files."""
    random = torch.Generator().manual_seed(3)
    context = unet.config.cross_attention_dim

    def made(*shape: int, scale: float = 0.2) -> torch.Tensor:
        return torch.randn(*shape, generator=random) * scale

    found: dict[str, torch.Tensor] = {}
    number = 1
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            width = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
            for part in ("k", "v"):
                found[f"ip_adapter.{number}.to_{part}_ip.weight"] = made(width, context)
            number += 2
    if not plus:
        return found | {
            "image_proj.proj.weight": made(4 * context, WIDTH),
            "image_proj.proj.bias": torch.zeros(4 * context),
            "image_proj.norm.weight": torch.ones(context),
            "image_proj.norm.bias": torch.zeros(context),
        }
    inner = 64  # one head
    plus_parts = {
        "latents": made(1, 16, context),
        "proj_in.weight": made(context, WIDTH),
        "proj_in.bias": torch.zeros(context),
        "proj_out.weight": made(context, context),
        "proj_out.bias": torch.zeros(context),
        "norm_out.weight": torch.ones(context),
        "norm_out.bias": torch.zeros(context),
    }
    for layer in range(4):
        plus_parts |= {
            f"layers.{layer}.0.norm1.weight": torch.ones(context),
            f"layers.{layer}.0.norm1.bias": torch.zeros(context),
            f"layers.{layer}.0.norm2.weight": torch.ones(context),
            f"layers.{layer}.0.norm2.bias": torch.zeros(context),
            f"layers.{layer}.0.to_q.weight": made(inner, context),
            f"layers.{layer}.0.to_kv.weight": made(2 * inner, context),
            f"layers.{layer}.0.to_out.weight": made(context, inner),
            f"layers.{layer}.1.0.weight": torch.ones(context),
            f"layers.{layer}.1.0.bias": torch.zeros(context),
            f"layers.{layer}.1.1.weight": made(4 * context, context),
            f"layers.{layer}.1.3.weight": made(context, 4 * context),
        }
    return found | {f"image_proj.{name}": value for name, value in plus_parts.items()}
