"""Attention by ordinary softmax, recorded while a pipeline runs by itself: what Sfumato's maps must agree with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode


@dataclass
class Call:
    """One call of the kernel inside one module.

    Attributes:
        module: Path of the module inside the denoiser.
        number: Which call of the denoiser it belongs to, from 0.
        order: Which call of the kernel inside the module's forward, from 0.
        maps: (row, head, query, key) softmax of the scores.
    """

    module: str
    number: int
    order: int
    maps: torch.Tensor


@contextmanager
def written_out(denoiser: nn.Module) -> Iterator[list[Call]]:
    """Record every call of the kernel in modules that project queries, by ordinary softmax."""
    calls: list[Call] = []
    state: dict[str, Any] = {"number": -1, "inside": [], "order": 0}

    class Mode(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            output = func(*args, **(kwargs or {}))
            if func is F.scaled_dot_product_attention and state["inside"]:
                names = ("query", "key", "value", "attn_mask")
                given = dict(zip(names, args, strict=False)) | (kwargs or {})
                calls.append(Call(state["inside"][-1], state["number"], state["order"], _softmax(**given)))
                state["order"] += 1
            return output

    def count(module: nn.Module, args: Any) -> None:
        state["number"] += 1

    def enter(name: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            state["inside"].append(name)
            state["order"] = 0

        return hook

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        state["inside"].pop()

    handles = [denoiser.register_forward_pre_hook(count)]
    for name, module in denoiser.named_modules():
        if hasattr(module, "to_q"):
            handles += [module.register_forward_pre_hook(enter(name)), module.register_forward_hook(leave)]
    try:
        with Mode():
            yield calls
    finally:
        for handle in handles:
            handle.remove()


def _softmax(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    scale: float | None = None,
    **more: Any,
) -> torch.Tensor:
    scores = query.double() @ key.double().transpose(-1, -2) * (scale or 1 / math.sqrt(query.shape[-1]))
    if attn_mask is not None:
        added = torch.where(attn_mask, 0.0, -math.inf) if attn_mask.dtype == torch.bool else attn_mask
        scores = scores + added.double()
    return scores.softmax(-1)
