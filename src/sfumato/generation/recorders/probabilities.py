"""Attention probabilities inside the graph: what derivatives can be taken by.

While the mode is active, every call of ``scaled_dot_product_attention`` is computed by an explicit softmax, so that the
result depends on the probabilities that are kept. The numbers agree with those of the kernel up to rounding; use it for
derivatives, never while an image is made.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from sfumato.errors import BudgetExceeded
from sfumato.generation.recorders.tapping import ARGUMENTS


class ExplicitAttention(TorchFunctionMode):
    """Keeps the probabilities of all attention calls.

    Args:
        budget: Bytes of probabilities that may be kept.

    Attributes:
        kept: (row, head, query, key) of each call, in order.

    Raises:
        BudgetExceeded: During the run, before the memory is taken.
    """

    def __init__(self, budget: float) -> None:
        super().__init__()
        self.kept: list[torch.Tensor] = []
        self._budget = budget

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace the kernel; let all else pass."""
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        given = dict(zip(ARGUMENTS, args, strict=False)) | (kwargs or {})
        query, key, value = given["query"], given["key"], given["value"]
        held = sum(one.numel() * one.element_size() for one in self.kept)
        needed = held + query.shape[:-1].numel() * key.shape[-2] * query.element_size()
        if needed > self._budget:
            raise BudgetExceeded(
                f"the attention probabilities of one step need more than {needed / 1e6:.0f} MB; the budget is "
                f"{self._budget / 1e6:.0f} MB; make a smaller image, or raise the budget"
            )
        scores = torch.matmul(query, key.transpose(-1, -2)) * (given.get("scale") or 1 / math.sqrt(query.shape[-1]))
        mask = given.get("attn_mask")
        if given.get("is_causal"):
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
        probabilities = scores.softmax(-1)
        if not probabilities.requires_grad:
            probabilities.requires_grad_(True)
        self.kept.append(probabilities)
        return torch.matmul(probabilities, value)
