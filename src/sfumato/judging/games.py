"""Deletion and insertion: take away, or give back, the places of a step's latent by rank, and see what is recovered.

Source: Petsiuk et al. 2018 (RISE) for the games on a score; Park et al. 2024 for the games on a distance, whose
released code takes the FID of two single images, which means nothing. Here: 1 - local SSIM, the distance of CLIP's
patch features, and 1 - the cosine in CLIP, each divided by the distance when everything is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from sfumato.errors import OptionError
from sfumato.saliency.recovering import Recovery
from sfumato.saliency.similarities import LOCAL_SSIM, blurred, local_similarity, similarity_name
from sfumato.similarity.clip import Clip

Game = Literal["deletion", "insertion"]
GAMES: tuple[Game, ...] = ("deletion", "insertion")
POINTS = 64
BLUR, BLUR_SIGMA = 11, 5.0
EARLY = 0.1
"""The initial slope is taken over this share of the places."""

Measure = Callable[[torch.Tensor], torch.Tensor]
"""From pictures (picture, 3, y, x), -1 to 1, to numbers (picture,)."""


@dataclass(frozen=True)
class Judge:
    """What pictures are measured by.

    Attributes:
        distances: By name, how far pictures are from the step's own picture.
        score: How well pictures go with the prompt; None where there is none.
    """

    distances: Mapping[str, Measure]
    score: Measure | None


@dataclass(frozen=True)
class Curve:
    """One game on one map.

    Attributes:
        game: Which.
        measure: A distance by name, or "score".
        shares: (point,) of the places taken away, or given back, from 0 to 1.
        values: (point,) of the measure; a distance is a share of the distance when everything is gone.
    """

    game: Game
    measure: str
    shares: NDArray[np.float64]
    values: NDArray[np.float64]

    @property
    def higher_is_better(self) -> bool:
        """A good map makes the distance rise early in deletion; a score moves the other way."""
        return (self.game == "deletion") != (self.measure == "score")

    @property
    def auc(self) -> float:
        """Area under the curve, by the trapezoid rule."""
        return float(np.trapezoid(self.values, self.shares))

    @property
    def slope(self) -> float:
        """How fast the curve moves over the first tenth of the places, for each whole."""
        start, early = np.interp([0.0, EARLY], self.shares, self.values)
        return float((early - start) / EARLY)


def judge_of(
    recovery: Recovery, prompt: str, clip: Clip | None, distances: Sequence[str] = ("local_ssim", "features")
) -> Judge:
    """Measures against the picture that the step recovers.

    Args:
        recovery: The step.
        prompt: What the score compares with; "" for no score.
        clip: A CLIP; without one, or where it reads no text, there is no score.
        distances: Some of `DISTANCES`.

    Raises:
        OptionError: A distance is unknown, or needs a CLIP.
    """
    distances = [similarity_name(name) for name in distances]
    check_distances(distances)
    own = recovery.pictures(recovery.clean)
    if clip is None:
        if needs := [name for name in distances if name != LOCAL_SSIM]:
            raise OptionError(f"the distance {needs[0]!r} needs a CLIP; take {LOCAL_SSIM}, or give one")
        return Judge({name: _local_ssim(own) for name in distances}, None)
    text = clip.texts([prompt]) if prompt and clip.towers.texts is not None else None
    score = None if text is None else (lambda pictures: (_directions(clip, pictures) @ text.T)[:, 0])
    return Judge({name: DISTANCES[name](own, clip) for name in distances}, score)


def check_distances(given: Sequence[str]) -> None:
    """Refuse a distance that is unknown.

    Raises:
        OptionError: The message lists those that are known.
    """
    if wrong := [name for name in given if name not in DISTANCES]:
        raise OptionError(f"there is no distance {wrong[0]!r}; choose from: {', '.join(DISTANCES)}")


def perturbation_curves(
    recovery: Recovery, saliency: NDArray[np.floating], game: Game, judge: Judge, points: int = POINTS
) -> list[Curve]:
    """Play one game on one map.

    Args:
        recovery: The step.
        saliency: (y, x) on the grid of the latent, larger where a place matters more.
        game: "deletion" sets places to zero, the most salient first; "insertion" starts from a blurred latent and
            restores them.
        judge: What the recovered pictures are measured by.
        points: In how many parts of equal size.

    Returns:
        A curve for every measure.

    Raises:
        OptionError: The map has another size, is the same everywhere, or holds NaN; there are too many points.
    """
    order = saliency_order(saliency, recovery.grid)
    count = order.size
    if not 1 <= points <= count:
        raise OptionError(f"points is {points}; this latent has {count} places, so take 1 to {count}")
    ends = np.round(np.linspace(0, count, points + 1)).astype(int)
    gone = torch.from_numpy(order.reshape(1, -1) < ends[:, None]).reshape(-1, *recovery.grid).float()
    if game == "deletion":
        samples = recovery.masked(1 - gone)
    else:
        substrate = blurred(recovery.sample.float(), BLUR, BLUR_SIGMA).to(recovery.sample)
        samples = recovery.masked(gone, substrate[:, : recovery.clean.shape[1]])
    pictures = recovery.pictures(recovery.recovered(samples))
    shares = ends / count
    found = []
    for name, measure in judge.distances.items():
        values = measure(pictures).double().cpu().numpy()
        whole = values[-1 if game == "deletion" else 0]
        found.append(Curve(game, name, shares, values / whole if whole > 0 else np.zeros_like(values)))
    if judge.score is not None:
        found.append(Curve(game, "score", shares, judge.score(pictures).double().cpu().numpy()))
    return found


def saliency_order(saliency: NDArray[np.floating], grid: tuple[int, int]) -> NDArray[np.int64]:
    """The rank of every place (place,), 0 for the most salient; ties are broken at random, always alike.

    Raises:
        OptionError: The map has another size, is the same everywhere, or holds NaN or infinite values.
    """
    values = np.asarray(saliency, np.float64)
    if values.shape != grid:
        raise OptionError(f"the map is {values.shape}; the latent is {grid[0]} x {grid[1]}: resample it")
    if not np.isfinite(values).all():
        raise OptionError("the map holds NaN or infinite values, which have no order")
    if not np.ptp(values):
        raise OptionError("the map is the same everywhere, so it says nothing about which places matter")
    ties = np.random.default_rng(0).permutation(values.size)
    order = np.lexsort((ties, -values.ravel()))
    found = np.empty(values.size, np.int64)
    found[order] = np.arange(values.size)
    return found


def _local_ssim(own: torch.Tensor, clip: Clip | None = None) -> Measure:
    return lambda pictures: 1 - local_similarity("local_ssim", own / 2 + 0.5, pictures / 2 + 0.5).mean((-2, -1))


def _features(own: torch.Tensor, clip: Clip) -> Measure:
    features = clip.patches(own)
    return lambda pictures: (
        1
        - torch.cat(
            [F.cosine_similarity(features, clip.patches(some), dim=-1).mean((-2, -1)) for some in pictures.split(_ROWS)]
        )
    )


def _clip(own: torch.Tensor, clip: Clip) -> Measure:
    direction = clip.directions(own)
    return lambda pictures: 1 - (_directions(clip, pictures) @ direction.T)[:, 0]


_ROWS = 32


def _directions(clip: Clip, pictures: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([clip.directions(some) for some in pictures.split(_ROWS)])


DISTANCES: dict[str, Callable[[torch.Tensor, Clip], Measure]] = {
    "local_ssim": _local_ssim,
    "features": _features,
    "clip": _clip,
}
"""How far pictures are from one: 1 - local SSIM, 1 - cosine of patch features, 1 - cosine of CLIP's directions."""
