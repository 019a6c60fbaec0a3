"""A step whose denoiser is any function: the known answers of the tests of saliency and of the games."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from sfumato.models.model import Branches
from sfumato.saliency.recovering import Recovery

Function = Callable[[torch.Tensor], torch.Tensor]
"""From latents (row, channel, y, x) to clean latents of the same shape."""


class ToyTrace:
    """What a recovery asks of a trace. The denoiser's output is the clean latent, and the picture unless told.

    Args:
        sample: (1, channel, y, x), what the step was given.
        function: The denoiser.
        decode: From clean latents to pictures (row, 3, y, x).
    """

    def __init__(self, sample: torch.Tensor, function: Function, decode: Function) -> None:
        self.sample, self.function = sample, function
        self.branches = Branches(("conditional",))
        self.largest = 0
        channels = sample.shape[1]
        self.model = SimpleNamespace(
            channels=channels,
            clean=lambda output, given, timestep: output,
            decode=decode,
        )

    def call(self, step: int) -> Any:
        return SimpleNamespace(timestep=500.0, sample=self.sample)

    def replay(self, step: int, *, sample: torch.Tensor, gradients: bool = False) -> torch.Tensor:
        self.largest = max(self.largest, len(sample))
        with torch.set_grad_enabled(gradients):
            return self.function(sample)

    replay_guided = replay


def toy(
    function: Function,
    *,
    grid: tuple[int, int] = (8, 12),
    seed: int = 0,
    rows: int = 64,
    sample: torch.Tensor | None = None,
    decode: Function = lambda clean: clean,
) -> Recovery:
    """A recovery of three channels whose latent is normal noise of a seed, or given."""
    if sample is None:
        sample = torch.randn(1, 3, *grid, generator=torch.Generator().manual_seed(seed))
    return Recovery(ToyTrace(sample, function, decode), 0, rows=rows)  # type: ignore[arg-type]
