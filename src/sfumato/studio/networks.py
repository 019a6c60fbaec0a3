"""The networks that read images of the embedded models: built for their stored weights, and filled with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from sfumato.errors import ModelError

Network = TypeVar("Network", bound=nn.Module)


def trained_network(
    path: Path, build: Callable[[Mapping[str, torch.Tensor]], Network], what: str, training: str
) -> Network:
    """A trained network in evaluation mode, in single precision.

    Args:
        path: Its weights (safetensors).
        build: Makes the network that these weights fit.
        what: How the message calls it.
        training: The command that trains it.

    Raises:
        ModelError: There is none, or it cannot be read.
    """
    from safetensors.torch import load_file

    try:
        weights = load_file(str(path))
        network = build(weights)
        network.load_state_dict({name: value.float() for name, value in weights.items()})
    except Exception as error:
        line = " ".join(str(error).split())[:200]
        raise ModelError(f"{what} cannot be read from {path} ({line}); train it with `{training}`") from error
    return network.eval().requires_grad_(False)
