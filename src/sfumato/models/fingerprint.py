"""One digest over all weights of a model, so a result can say exactly what made it, and one over its other buffers."""

from __future__ import annotations

import hashlib
import weakref
from cmath import isfinite
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sfumato.errors import ModelError
from sfumato.models.model import modules_of
from sfumato.models.turns import alone

SAMPLED = 8
"""Values of each tensor that are compared at every call: a write through ``.data`` leaves no other trace."""

_State = tuple[tuple[int, int, tuple[Any, ...]], ...]
_known: weakref.WeakKeyDictionary[Any, dict[str, tuple[_State, str]]] = weakref.WeakKeyDictionary()


def weight_hash(whole: Any) -> str:
    """SHA-256 over name, shape, type and bytes of every tensor of a pipeline or of one network.

    Computed again only when a tensor was replaced or written to since the last call, and never while another thread
    has changed weights for a check.
    """
    with alone(whole):
        return _remembered(
            whole,
            "weights",
            {
                f"{part}.{name}": tensor if tensor.device.type != "meta" else _offloaded(module, name)
                for part, module in _parts(whole)
                for name, tensor in sorted(module.state_dict().items())
            },
        )


def buffer_hash(whole: Any) -> str:
    """As `weight_hash`, of the buffers that no file of weights holds, such as frequencies of positions."""
    with alone(whole):
        return _remembered(
            whole,
            "buffers",
            {
                f"{part}.{place}.{name}": tensor
                for part, network in _parts(whole)
                for place, module in enumerate(network.modules())
                for name in sorted(module._non_persistent_buffers_set)
                if (tensor := module._buffers.get(name)) is not None and tensor.device.type != "meta"
            },
        )


def _parts(whole: Any) -> list[tuple[str, nn.Module]]:
    return [("", whole)] if isinstance(whole, nn.Module) else sorted(modules_of(whole).items())


def _remembered(whole: Any, what: str, tensors: Mapping[str, torch.Tensor]) -> str:
    state = tuple(
        (tensor.data_ptr(), -1 if tensor.is_inference() else tensor._version, _sample(tensor))
        for tensor in tensors.values()
    )
    known = _known.setdefault(whole, {})
    if what in known and known[what][0] == state:
        return known[what][1]
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        plain = tensor.detach().to("cpu").contiguous().flatten()
        digest.update(plain.view(torch.uint8).numpy().data)
    known[what] = (state, digest.hexdigest())
    return digest.hexdigest()


def _sample(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Some values, evenly through the tensor's memory; NaN as text, since it is not equal to itself."""
    count = min(tensor.numel(), SAMPLED)
    if not count or not tensor.is_contiguous():
        return ()
    values = tensor.detach().as_strided((count,), (tensor.numel() // count,)).tolist()
    return tuple(values) if all(map(isfinite, values)) else tuple(map(str, values))


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
