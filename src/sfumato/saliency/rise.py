"""DF-RISE: mask the latent at random, and weigh each mask by how much of the step's result it keeps.

Source: Park et al. 2024, "Explaining generative diffusion models via visual analysis for interpretable decision-making
process". With masks of single places and a local similarity, as there, the map says where the result is stable when
places nearby are missing; with smooth masks and one score for the whole (RISE, Petsiuk et al. 2018), which places the
result depends on. The sum over masks is divided by how much they kept of a place, not by what they were expected to
keep: the expectation is the same, and the noise of the masks themselves is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato.saliency.occlusion import Masks
from sfumato.saliency.recovering import Recovery

LEAST = 64
"""Masks before the error is judged."""

Compare = Callable[[torch.Tensor], torch.Tensor]
"""From masked latents (row, channel, y, x) to similarities (row, y, x)."""


@dataclass(frozen=True)
class Rise:
    """A map and how sure it is.

    Attributes:
        map: (y, x) mean similarity, weighed by how much each mask keeps of a place.
        error: (y, x) standard error of the map.
        masks: How many were drawn.
        score: Mean similarity over masks and places.
    """

    map: NDArray[np.float32]
    error: NDArray[np.float32]
    masks: int
    score: float

    @property
    def relative_error(self) -> float:
        """Mean standard error as a share of the map's range; infinite for a map without range."""
        return _relative(self.map, self.error)


def rise(
    recovery: Recovery,
    masks: Masks,
    compare: Compare,
    count: int,
    *,
    local: bool = True,
    until: float | None = None,
    told: Callable[[int], None] = lambda done: None,
) -> Rise:
    """Estimate a map.

    Args:
        recovery: The step.
        masks: Where masks come from.
        compare: Similarity of what masked latents give with what the latent gives.
        count: Most masks.
        local: Weigh each place by its own similarity (the source); else by the mean over places, less the mean over
            masks.
        until: Stop once the relative error is at most this.
        told: Told how many masks are done.
    """
    sums = torch.zeros(6, *recovery.grid, dtype=torch.float64)
    total, squares, done = 0.0, 0.0, 0
    while done < count:
        some = masks.draw(min(recovery.rows, count - done))
        similarity = compare(recovery.masked(some)).double().cpu()
        score = similarity if local else similarity.mean((-2, -1), keepdim=True)
        mask = some.double()
        weighed = mask * score
        parts = (mask, weighed, mask**2, mask * weighed, weighed**2, weighed * score)
        sums += torch.stack([part.sum(0) for part in parts])
        means = similarity.mean((-2, -1))
        total, squares = total + float(means.sum()), squares + float((means**2).sum())
        done += len(some)
        told(done)
        centre = None if local else (total, squares, done)
        if until is not None and LEAST <= done < count and _relative(*_estimate(sums, centre)) <= until:
            break
    value, error = _estimate(sums, centre)
    return Rise(value.astype(np.float32), error.astype(np.float32), done, total / done)


def _estimate(
    sums: torch.Tensor, centre: tuple[float, float, int] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean score weighed by the masks, and its standard error; 0 where no mask kept anything.

    Args:
        sums: Over masks, of what the estimate needs.
        centre: Sum, sum of squares and number of the scores whose plain mean is taken away; the two means go up and
            down together, so the error of their difference is smaller than that of one.
    """
    mask, weighed, squared, crossed, scored, mixed = sums.numpy()
    kept = np.where(mask > 0, mask, 1)
    mean = weighed / kept
    spread = (scored - 2 * mean * crossed + mean**2 * squared) / kept**2
    if centre is None:
        return mean, np.sqrt(np.maximum(spread, 0))
    total, squares, count = centre
    spread += (squares - total**2 / count) / count**2 - 2 * (mixed - mean * weighed) / (kept * count)
    return mean - total / count, np.where(mask > 0, np.sqrt(np.maximum(spread, 0)), 0)


def _relative(value: NDArray[np.floating], error: NDArray[np.floating]) -> float:
    spread = float(np.ptp(value))
    return float(error.mean()) / spread if spread > 0 else float("inf")
