"""The identity of a model: one digest over all of its weights, so a result can say exactly what made it."""

from __future__ import annotations

import hashlib
import weakref
from typing import Any

import torch
from torch import nn

from sfumato.errors import ModelError
from sfumato.models.model import modules_of
from sfumato.models.turns import alone

_known: weakref.WeakKeyDictionary[Any, tuple[tuple[tuple[int, int], ...], str]] = weakref.WeakKeyDictionary()


def weight_hash(whole: Any) -> str:
    """SHA-256 over name, shape, type and bytes of every tensor of a pipeline or of one network.

    Computed again only when a tensor was replaced or written to since the last call, and never while another thread
    has changed weights for a check.
    """
    with alone(whole):
        return _weight_hash(whole)


def _weight_hash(whole: Any) -> str:
    parts = {"": whole} if isinstance(whole, nn.Module) else modules_of(whole)
    tensors = {
        f"{part}.{name}": tensor if tensor.device.type != "meta" else _offloaded(module, name)
        for part, module in sorted(parts.items())
        for name, tensor in sorted(module.state_dict().items())
    }
    state = tuple((tensor.data_ptr(), -1 if tensor.is_inference() else tensor._version) for tensor in tensors.values())
    if whole in _known and _known[whole][0] == state:
        return _known[whole][1]
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        plain = tensor.detach().to("cpu").contiguous().flatten()
        digest.update(plain.view(torch.uint8).numpy().data)
    _known[whole] = (state, digest.hexdigest())
    return digest.hexdigest()


def _offloaded(module: nn.Module, name: str) -> torch.Tensor:
    """A weight that accelerate keeps elsewhere between calls.

    Raises:
        ModelError: It is nowhere to be found.
    """
    owner, _, own = name.rpartition(".")
    holder: Any = getattr(module.get_submodule(owner), "_hf_hook", None)
    for hook in getattr(holder, "hooks", (holder,)):
        if (kept := getattr(hook, "weights_map", None)) is not None:
            found: torch.Tensor = kept[own]
            return found
    raise ModelError(f"the weight {name} is on no device, so the model cannot run; load it again")
