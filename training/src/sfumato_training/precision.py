"""In which precision a training multiplies: bfloat16 where the hardware has instructions for it, else float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the hardware of a device has instructions for products in bfloat16.

    A CPU without them (no AVX-512 BF16, no AMX) emulates each product: a matrix product takes 50 times as long as in
    float32, a convolution 10 times.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return True
    return any(bool(found) for name, found in torch.cpu.get_capabilities().items() if "bf16" in name)


def mixed_precision(device: torch.device | str) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 for the forward pass of a training step, where that is faster than float32.

    Steps of a training are therefore equal bit for bit on machines of one kind, not between kinds.

    Args:
        device: Where the networks are.
    """
    device = torch.device(device)
    return torch.autocast(device.type, torch.bfloat16) if multiplies_bfloat16(device) else nullcontext()
