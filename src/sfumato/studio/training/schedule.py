"""How the learning rate moves, and which timesteps a batch sees."""

from __future__ import annotations

import torch


def falling_rate(peak: float, step: int, steps: int, warmup: int, cooldown: float) -> float:
    """The learning rate of one step: rising, constant, falling linearly over the last share of the steps."""
    start = steps * (1 - cooldown)
    left = max(0.0, (steps - step) / max(1.0, steps - start))
    return peak * min(1.0, (step + 1) / warmup) * min(1.0, 0.02 + 0.98 * left)


def stratified(count: int, generator: torch.Generator, density: torch.Tensor) -> torch.Tensor:
    """Draw timesteps, one from each of `count` equally likely ranges, so that every batch sees every noise level.

    Args:
        count: How many.
        generator: The source of randomness.
        density: How often each timestep is wanted; sums to 1.
    """
    places = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return torch.searchsorted(density.cumsum(0), places).clamp(max=len(density) - 1)
