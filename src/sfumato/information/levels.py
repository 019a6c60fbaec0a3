"""Noise levels by log-SNR: those that a model was trained on, and which of them to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import OptionError
from sfumato.models.model import Model
from sfumato.models.noise import is_flow

LIMIT = 12.0
"""Log-SNRs beyond this to either side are left out: there is only noise, or none, and nothing to tell."""
GOLDEN = (math.sqrt(5) - 1) / 2
"""Turns by this part of a circle never leave a wide gap."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Levels:
    """Noise levels with the measure that each stands for, from little noise to much.

    Attributes:
        timesteps: Of the scheduler (level,).
        log_snr: Logarithm of signal variance over noise variance (level,), falling.
        width: The part of the log-SNR axis that belongs to each (level,).
    """

    timesteps: Floats
    log_snr: Floats
    width: Floats


def trained_levels(model: Model) -> Levels:
    """Every timestep that the model was trained on, within `LIMIT`."""
    return levels_at(model, range(_trained(model)))


def levels_at(model: Model, timesteps: Sequence[float]) -> Levels:
    """Some timesteps, each with the part of the log-SNR axis that is nearer to it than to any other.

    Args:
        model: The model.
        timesteps: In any order; those beyond `LIMIT` are left out.

    A single one stands for one unit of log-SNR.

    Raises:
        OptionError: The model was not trained on one of them, or none is left.
    """
    last = _trained(model) - (0 if is_flow(model.pipeline.scheduler) else 1)
    known = []
    for timestep in sorted(set(map(float, timesteps))):
        if not 0 <= timestep <= last:
            raise OptionError(f"there is no timestep {timestep:g}; this model was trained on 0 to {last}")
        signal, noise = (float(level) for level in model.levels(timestep))
        if signal > 0 and noise > 0 and abs(snr := 2 * math.log(signal / noise)) <= LIMIT:
            known.append((timestep, snr))
    if not known:
        raise OptionError(f"no timestep of these has a log-SNR within {LIMIT:g}; give some between 1 and 999")
    times, snr = np.array(known, np.float64).T
    edges = np.concatenate([snr[:1], (snr[1:] + snr[:-1]) / 2, snr[-1:]])
    return Levels(times, snr, -np.diff(edges) if len(snr) > 1 else np.ones(1))


def _trained(model: Model) -> int:
    """How many timesteps the model was trained on."""
    return int(model.pipeline.scheduler.config.get("num_train_timesteps", 1000))


def fitted_chances(levels: Levels, places: NDArray[np.int64], values: Floats) -> Floats:
    """Chances of the levels by a logistic density over log-SNR, with mean and spread of what was found.

    Args:
        levels: All levels.
        places: Those that were looked at (draw,).
        values: The integrand there, times the measure that each stands for, up to a factor (draw,).

    Returns:
        (level,), summing to 1; a tenth is spread evenly, so that no level has none.
    """
    weights = np.clip(values, 0, None)
    even: Floats = levels.width / levels.width.sum()
    if not weights.sum() > 0:
        return even
    snr = levels.log_snr[places]
    mean = float(np.average(snr, weights=weights))
    spread = max(0.5, float(np.sqrt(np.average((snr - mean) ** 2, weights=weights))))
    scaled = (levels.log_snr - mean) / (spread * math.sqrt(3) / math.pi)
    density = levels.width / np.cosh(scaled / 2) ** 2
    return np.asarray(0.9 * density / density.sum() + 0.1 * even)


def drawn_levels(chances: Floats, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """So many levels, spread evenly over the chances (systematic sampling), and so is every beginning: (draw,)."""
    ends = np.cumsum(chances) / chances.sum()
    points = (np.arange(count) + generator.random()) / count
    found = np.minimum(np.searchsorted(ends, points, side="right"), len(chances) - 1)
    turns = np.argsort(np.argsort(np.arange(count) * GOLDEN % 1))
    return np.asarray(found[(turns + generator.integers(count)) % count])
