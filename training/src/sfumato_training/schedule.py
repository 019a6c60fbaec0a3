"""How the learning rate moves, which timesteps a batch sees, and what noise makes of it there."""

from __future__ import annotations

import math
from typing import Any

import torch


def falling_rate(peak: float, step: int, steps: int, warmup: int, cooldown: float) -> float:
    """The learning rate of one step: rising, constant, falling linearly over the last share of the steps."""
    start = steps * (1 - cooldown)
    left = max(0.0, (steps - step) / max(1.0, steps - start))
    return peak * min(1.0, (step + 1) / warmup) * min(1.0, 0.02 + 0.98 * left)


def linear_rate(peak: float, step: int, steps: int) -> float:
    """The learning rate of one step: rising over 50 steps, falling linearly to 2% over all of them."""
    return peak * min(1.0, (step + 1) / 50) * max(0.02, 1 - step / steps)


def cosine_rate(peak: float, step: int, steps: int, warmup: int) -> float:
    """The learning rate of one step: rising, falling as a cosine to 2% over all steps."""
    return peak * min(1.0, (step + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step / steps))))


def stratified(count: int, generator: torch.Generator, density: torch.Tensor) -> torch.Tensor:
    """Draw timesteps, one from each of `count` equally likely ranges, so that every batch sees every noise level.

    Args:
        count: How many.
        generator: The source of randomness.
        density: How often each timestep is wanted; sums to 1.
    """
    places = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return torch.searchsorted(density.cumsum(0), places).clamp(max=len(density) - 1)


def shuffled(count: int, timesteps: int, generator: torch.Generator) -> torch.Tensor:
    """Draw timesteps that are all wanted equally often, as `stratified` does, but in any order.

    Args:
        count: How many.
        timesteps: How many there are to choose from.
        generator: The source of randomness.
    """
    even = torch.full((timesteps,), 1 / timesteps)
    return stratified(count, generator, even)[torch.randperm(count, generator=generator)]


def noised(
    clean: torch.Tensor, noise: torch.Tensor, signal: torch.Tensor, timesteps: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy images or latents and their velocities, each (item, channel, y, x).

    Args:
        clean: (item, channel, y, x).
        noise: The same, of variance 1.
        signal: Cumulative product of the alphas, one for each timestep.
        timesteps: (item,).
    """
    kept = signal[timesteps].sqrt()[:, None, None, None]
    lost = (1 - signal[timesteps]).sqrt()[:, None, None, None]
    return kept * clean + lost * noise, kept * noise - lost * clean


def linear_scheduler() -> Any:
    """1,000 steps with betas rising linearly from 0.0001 to 0.02, the velocity predicted, sampled by DDIM."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
