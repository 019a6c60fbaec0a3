"""Ablation: set channels of a module's output, or heads of an attention, to a constant, their mean, or a share."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from sfumato.errors import OptionError
from sfumato.generation.context import GenerationContext

How = Literal["value", "mean", "scale"]


@dataclass(frozen=True)
class _Ablation:
    """What changes and how, at which steps and of which images.

    Args:
        module: Path of a module inside the denoiser.
        numbers: Which of its channels or heads, from 0.
        value: What they become, or by what they are multiplied.
        how: "value" sets them to it; "mean" to their own mean over places; "scale" multiplies them by it.
        steps: At which steps, or None for all.
        items: Of which images of the batch, or None for all.
    """

    module: str
    numbers: tuple[int, ...]
    value: float = 0.0
    how: How = "value"
    steps: Collection[int] | None = None
    items: Collection[int] | None = None

    def _checked_module(self, run: GenerationContext, one: str) -> nn.Module:
        """The module, where the numbers can be those of channels or heads."""
        if not self.numbers or min(self.numbers) < 0:
            raise OptionError(f"{one}s is {self.numbers}; expected {one} numbers from 0")
        try:
            return run.model.denoiser.get_submodule(self.module)
        except AttributeError:
            known = [name for name, _ in run.model.denoiser.named_children()]
            raise OptionError(
                f"the denoiser has no module {self.module!r}; it begins with one of: {', '.join(known)}"
            ) from None

    def _now(self, run: GenerationContext) -> bool:
        return self.steps is None or run.clock.step in self.steps

    def _ablated(
        self, run: GenerationContext, features: torch.Tensor, axis: int, channels: tuple[int, ...]
    ) -> torch.Tensor:
        """The features (row, ...) with some channels changed in the rows of the chosen images."""
        shape = [1] * features.ndim
        shape[axis] = features.shape[axis]
        chosen = torch.zeros(features.shape[axis], dtype=torch.bool, device=features.device)
        chosen[list(channels)] = True
        places = [place for place in range(1, features.ndim) if place != axis]
        new = {
            "value": lambda: torch.full_like(features, self.value),
            "mean": lambda: features.mean(places, keepdim=True).expand_as(features),
            "scale": lambda: features * self.value,
        }[self.how]()
        rows = self._rows(run, features).reshape([-1] + [1] * (features.ndim - 1))
        return torch.where(chosen.reshape(shape) & rows, new, features)

    def _rows(self, run: GenerationContext, features: torch.Tensor) -> torch.Tensor:
        """Which rows of the batch belong to the chosen images."""
        rows = torch.arange(features.shape[0], device=features.device) % run.items
        if self.items is None:
            return torch.ones_like(rows, dtype=torch.bool)
        return torch.isin(rows, torch.tensor(sorted(self.items), device=features.device))


class AblateChannels(_Ablation):
    """Change some channels of one module's output.

    The output is a feature map (row, channel, y, x) or a sequence (row, position, channel). Of a down block of a U-Net
    it is the one that goes on downwards; its skip connections stay as they are.
    """

    def install(self, run: GenerationContext) -> None:
        """Register the change for one run.

        Raises:
            OptionError: The denoiser has no such module or channel (the latter when the run meets it).
        """
        module = self._checked_module(run, "channel")
        run.hooks.after(module, lambda module, args, kwargs, output: self._changed(run, output))

    def _changed(self, run: GenerationContext, output: Any) -> Any:
        if not self._now(run):
            return output
        features = output[0] if isinstance(output, tuple) else output
        if not isinstance(features, torch.Tensor) or features.ndim not in (3, 4):
            shape = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
            raise OptionError(
                f"the output of {self.module} is {shape}; only feature maps (row, channel, y, x) and sequences "
                "(row, position, channel) have channels"
            )
        axis = 1 if features.ndim == 4 else 2
        count = features.shape[axis]
        if max(self.numbers) >= count:
            raise OptionError(f"{self.module} has {count} channels; there is no channel {max(self.numbers)}")
        changed = self._ablated(run, features, axis, self.numbers)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed


class AblateHeads(_Ablation):
    """Change what some heads of an attention, a module with ``heads`` and ``to_out``, hand to its output projection."""

    def install(self, run: GenerationContext) -> None:
        """Register the change for one run.

        Raises:
            OptionError: The module is no attention, or has no such head.
        """
        parts = self._checked_module(run, "head").modules()
        attention = next((part for part in parts if _is_attention(part)), None)
        if attention is None:
            raise OptionError(f"{self.module} is no attention with heads; choose one (`sfumato layers MODEL`)")
        count: int = int(getattr(attention, "heads"))  # noqa: B009  # not an attribute that modules declare
        if max(self.numbers) >= count:
            raise OptionError(f"{self.module} has {count} heads; there is no head {max(self.numbers)}")
        projection: Any = attention.to_out
        run.hooks.before(projection[0], lambda module, args, kwargs: self._changed(run, count, args, kwargs))

    def _changed(self, run: GenerationContext, count: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._now(run):
            return None
        features = args[0]
        axis = 1 if features.ndim == 4 else features.ndim - 1
        width = features.shape[axis] // count
        channels = tuple(head * width + i for head in self.numbers for i in range(width))
        return (self._ablated(run, features, axis, channels), *args[1:]), kwargs


def _is_attention(module: nn.Module) -> bool:
    return isinstance(getattr(module, "heads", None), int) and hasattr(module, "to_out")
