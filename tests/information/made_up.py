"""A stand-in for a trace whose density over log-SNR is any function, without noise: the sum over levels is known."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato.information.estimating import Contexts, Sampled, sample
from sfumato.information.levels import Levels
from sfumato.models.model import Branches

Density = Callable[[float], float]
CONTEXTS = Contexts(("without", "with"), ((0, 1),))


def levels(count: int = 200, reach: float = 8.0) -> Levels:
    """Levels that lie closer to one another where there is little noise; their timesteps are their numbers."""
    snr = reach - 2 * reach * (np.arange(count) / (count - 1)) ** 1.5
    edges = np.concatenate([snr[:1], (snr[1:] + snr[:-1]) / 2, snr[-1:]])
    return Levels(np.arange(count, dtype=np.float64), snr, -np.diff(edges))


class MadeUp:
    """What an estimate asks of a trace; the two predictions differ so that their density is that of the function.

    Args:
        density: Of log-SNR.
        known: The levels.
    """

    def __init__(self, density: Density, known: Levels) -> None:
        self.density, self.known = density, known
        self.images = [None]
        self.branches = Branches(("conditional",))
        self.calls = [self.call(0)]
        self.model = SimpleNamespace(
            channels=1,
            encode=lambda texts: torch.tensor([float(text == "with") for text in texts]),
            pooled=lambda texts: {},
            levels=lambda timestep: (torch.tensor(0.8).double(), torch.tensor(0.6).double()),
            clean=lambda output, given, timestep: (given - 0.6 * output) / 0.8,
        )

    def call(self, step: int) -> Any:
        return SimpleNamespace(step=0, timestep=0.0, sample=torch.zeros(1, 1, 1, 1))

    def replay(
        self, step: int, *, branch: str, sample: torch.Tensor, condition: torch.Tensor, pooled: Any, timestep: float
    ) -> torch.Tensor:
        found = self.density(float(self.known.log_snr[int(timestep)]))
        return condition.reshape(-1, 1, 1, 1) * float(np.sqrt(2 * found))


def estimated(density: Density, known: Levels, **options: Any) -> Sampled:
    """The estimate of a made-up density."""
    return sample(MadeUp(density, known), torch.zeros(1, 1, 1, 1), CONTEXTS, known, **options)  # type: ignore[arg-type]


def total(density: Density, known: Levels) -> float:
    """What it estimates: the sum over all levels."""
    return float(sum(density(at) * width for at, width in zip(known.log_snr.tolist(), known.width, strict=True)))


def bump(middle: float, spread: float = 1.0) -> Density:
    """A density with one maximum, whose integral is 1."""
    return lambda at: float(np.exp(-(((at - middle) / spread) ** 2) / 2) / spread / np.sqrt(2 * np.pi))


def repeated(density: Density, known: Levels, times: int, **options: Any) -> NDArray[np.float64]:
    """Estimates of so many seeds."""
    return np.array([float(estimated(density, known, seed=seed, **options).totals[0]) for seed in range(times)])
