"""Channel ablation: set chosen channels of a module's output to a value during chosen steps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch

from sfumato.errors import OptionError
from sfumato.run import Run


@dataclass(frozen=True)
class AblateChannels:
    """Hold some channels of one module's output at a constant.

    Of a down block of a U-Net this is the output that goes on downwards; its skip connections stay as they are.

    Args:
        module: Path of a module inside the denoiser whose output is a feature map (row, channel, y, x).
        channels: Which channels.
        value: What they become.
        steps: At which steps, or None for all.
    """

    module: str
    channels: tuple[int, ...]
    value: float = 0.0
    steps: Collection[int] | None = None

    def install(self, run: Run) -> None:
        """Register the change for one run.

        Raises:
            OptionError: The denoiser has no such module or channel (the latter when the run meets it).
        """
        if not self.channels or min(self.channels) < 0:
            raise OptionError(f"channels is {self.channels}; expected channel numbers from 0")
        try:
            module = run.model.denoiser.get_submodule(self.module)
        except AttributeError:
            known = [name for name, _ in run.model.denoiser.named_children()]
            raise OptionError(
                f"the denoiser has no module {self.module!r}; it begins with one of: {', '.join(known)}"
            ) from None
        run.hooks.after(module, lambda module, args, kwargs, output: self._changed(run, output))

    def _changed(self, run: Run, output: Any) -> Any:
        if self.steps is not None and run.clock.step not in self.steps:
            return output
        features = output[0] if isinstance(output, tuple) else output
        if not isinstance(features, torch.Tensor) or features.ndim != 4:
            shape = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
            raise OptionError(
                f"the output of {self.module} is {shape}; only feature maps (row, channel, y, x) have channels"
            )
        if max(self.channels) >= features.shape[1]:
            raise OptionError(
                f"{self.module} has {features.shape[1]} channels; there is no channel {max(self.channels)}"
            )
        keep = torch.ones(features.shape[1], dtype=torch.bool, device=features.device)
        keep[list(self.channels)] = False
        changed = torch.where(keep[:, None, None], features, torch.full_like(features, self.value))
        return (changed, *output[1:]) if isinstance(output, tuple) else changed
