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
class AblateChannels:
    """Change some channels of one module's output.

    Of a down block of a U-Net this is the output that goes on downwards; its skip connections stay as they are.

    Args:
        module: Path of a module inside the denoiser whose output is a feature map (row, channel, y, x) or a sequence
            (row, position, channel).
        channels: Which channels.
        value: What they become, or by what they are multiplied.
        how: "value" sets them to it; "mean" to their own mean over places; "scale" multiplies them by it.
        steps: At which steps, or None for all.
        items: Of which images of the batch, or None for all.
    """

    module: str
    channels: tuple[int, ...]
    value: float = 0.0
    how: How = "value"
    steps: Collection[int] | None = None
    items: Collection[int] | None = None

    def install(self, run: GenerationContext) -> None:
        """Register the change for one run.

        Raises:
            OptionError: The denoiser has no such module or channel (the latter when the run meets it).
        """
        _check(self.channels, "channels", "channel")
        module = _module(run, self.module)
        run.hooks.after(module, lambda module, args, kwargs, output: self._changed(run, output))

    def _changed(self, run: GenerationContext, output: Any) -> Any:
        if self.steps is not None and run.clock.step not in self.steps:
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
        if max(self.channels) >= count:
            raise OptionError(f"{self.module} has {count} channels; there is no channel {max(self.channels)}")
        changed = _ablated(features, axis, self.channels, self.how, self.value, _rows(run, self.items, features))
        return (changed, *output[1:]) if isinstance(output, tuple) else changed


@dataclass(frozen=True)
class AblateHeads:
    """Change what some heads of an attention hand to its output projection.

    Args:
        module: Path of an attention module with ``heads`` and ``to_out``.
        heads: Which heads.
        value: As in ``AblateChannels``.
        how: As in ``AblateChannels``; "mean" is over places.
        steps: At which steps, or None for all.
        items: Of which images of the batch, or None for all.
    """

    module: str
    heads: tuple[int, ...]
    value: float = 0.0
    how: How = "value"
    steps: Collection[int] | None = None
    items: Collection[int] | None = None

    def install(self, run: GenerationContext) -> None:
        """Register the change for one run.

        Raises:
            OptionError: The module is no attention, or has no such head.
        """
        _check(self.heads, "heads", "head")
        attention = next((part for part in _module(run, self.module).modules() if _is_attention(part)), None)
        if attention is None:
            raise OptionError(f"{self.module} is no attention with heads; choose one (`sfumato layers MODEL`)")
        count: int = int(getattr(attention, "heads"))  # noqa: B009  # not an attribute that modules declare
        if max(self.heads) >= count:
            raise OptionError(f"{self.module} has {count} heads; there is no head {max(self.heads)}")
        projection: Any = attention.to_out
        run.hooks.before(projection[0], lambda module, args, kwargs: self._changed(run, count, args, kwargs))

    def _changed(self, run: GenerationContext, count: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.steps is not None and run.clock.step not in self.steps:
            return None
        features = args[0]
        axis = 1 if features.ndim == 4 else features.ndim - 1
        width = features.shape[axis] // count
        channels = tuple(head * width + i for head in self.heads for i in range(width))
        changed = _ablated(features, axis, channels, self.how, self.value, _rows(run, self.items, features))
        return (changed, *args[1:]), kwargs


def _ablated(
    features: torch.Tensor, axis: int, channels: tuple[int, ...], how: How, value: float, rows: torch.Tensor
) -> torch.Tensor:
    """The features with some channels of some rows changed."""
    shape = [1] * features.ndim
    shape[axis] = features.shape[axis]
    chosen = torch.zeros(features.shape[axis], dtype=torch.bool, device=features.device)
    chosen[list(channels)] = True
    places = [place for place in range(1, features.ndim) if place != axis]
    new = {
        "value": lambda: torch.full_like(features, value),
        "mean": lambda: features.mean(places, keepdim=True).expand_as(features),
        "scale": lambda: features * value,
    }[how]()
    return torch.where(chosen.reshape(shape) & rows.reshape([-1] + [1] * (features.ndim - 1)), new, features)


def _rows(run: GenerationContext, items: Collection[int] | None, features: torch.Tensor) -> torch.Tensor:
    """Which rows of the batch belong to the chosen images."""
    rows = torch.arange(features.shape[0], device=features.device) % run.items
    if items is None:
        return torch.ones_like(rows, dtype=torch.bool)
    return torch.isin(rows, torch.tensor(sorted(items), device=features.device))


def _check(numbers: tuple[int, ...], name: str, one: str) -> None:
    if not numbers or min(numbers) < 0:
        raise OptionError(f"{name} is {numbers}; expected {one} numbers from 0")


def _module(run: GenerationContext, path: str) -> nn.Module:
    try:
        return run.model.denoiser.get_submodule(path)
    except AttributeError:
        known = [name for name, _ in run.model.denoiser.named_children()]
        raise OptionError(f"the denoiser has no module {path!r}; it begins with one of: {', '.join(known)}") from None


def _is_attention(module: nn.Module) -> bool:
    return isinstance(getattr(module, "heads", None), int) and hasattr(module, "to_out")
