"""Segments by what the prompt moves: saliency of the guidance at several steps, clustered with colour and place.

The guidance g(x) = e(x, prompt) - e(x, "") is what the prompt adds to the denoiser's output. Its squared length,
summed over the image, is differentiated by the noisy latent x: large where a change of the latent changes what the
prompt does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster.vq import kmeans2
from skimage.color import rgb2lab

from sfumato.generation.trace import Trace
from sfumato.results.upscale import bicubic
from sfumato.segments.segment import Segment

Kind = Literal["gradient", "smoothgrad", "integrated"]
KINDS: tuple[Kind, ...] = ("gradient", "smoothgrad", "integrated")
SAMPLES = 8
NOISE = 0.1
"""Of SmoothGrad, as a share of the latent's standard deviation (Smilkov et al. 2017, arXiv 1706.03825)."""

Score = Callable[[torch.Tensor], torch.Tensor]


def saliency(trace: Trace, step: int, kind: Kind = "gradient", *, seed: int = 0) -> NDArray[np.float64]:
    """How much each place of the latent moves what the prompt adds, at one step.

    Args:
        trace: Recorded, of one image.
        step: Which step.
        kind: "gradient" |dg/dx|; "smoothgrad", its mean over noisy copies; "integrated" gradients from the mean latent
            (Sundararajan et al. 2017, arXiv 1703.01365).
        seed: Of SmoothGrad's noise.

    Returns:
        (y, x) on the latent grid, 0 or more.
    """
    call = trace.call(step)
    rows = trace.branches.rows("conditional", len(trace.images))
    sample = call.sample[rows].detach()
    empty, pooled = trace.model.encode([""]), trace.model.pooled([""])

    def score(x: torch.Tensor) -> torch.Tensor:
        prompted = trace.replay(step, sample=x, gradients=True)
        plain = trace.replay(step, sample=x, condition=empty, pooled=pooled, gradients=True)
        return (prompted - plain).float().square().sum()

    if kind == "gradient":
        found = _gradient(score, sample)
    elif kind == "smoothgrad":
        generator = torch.Generator().manual_seed(seed)
        spread = NOISE * float(sample.std())
        noisy = [sample + spread * torch.randn(sample.shape, generator=generator).to(sample) for _ in range(SAMPLES)]
        found = torch.stack([_gradient(score, x).abs() for x in noisy]).mean(0)
    else:
        base = sample.mean((-2, -1), keepdim=True).expand_as(sample)
        path = [base + (part + 0.5) / SAMPLES * (sample - base) for part in range(SAMPLES)]
        found = torch.stack([_gradient(score, x) for x in path]).mean(0) * (sample - base)
    return np.asarray(found.abs().sum((0, 1)).double().cpu().numpy())


def boosted(pixels: NDArray[np.uint8], maps: Sequence[NDArray[np.float64]]) -> NDArray[np.uint8]:
    """The image with what matters in colour and the rest dimmed: (y, x, channel)."""
    weight = combined(maps, (pixels.shape[0], pixels.shape[1]))[..., None]
    grey = pixels.mean(-1, keepdims=True)
    mixed = weight * pixels + (1 - weight) * (0.35 * grey + 20)
    found: NDArray[np.uint8] = np.round(np.clip(mixed, 0, 255)).astype(np.uint8)
    return found


def combined(maps: Sequence[NDArray[np.float64]], size: tuple[int, int]) -> NDArray[np.float64]:
    """The mean of maps over steps, each from 0 to 1, at the image's size: (y, x)."""
    scaled = [bicubic((m - m.min()) / ((m.max() - m.min()) or 1.0), size) for m in maps]
    mean = np.mean(scaled, axis=0)
    return np.asarray(np.clip(mean / (mean.max() or 1.0), 0, 1))


def clusters(
    pixels: NDArray[np.uint8], maps: Sequence[NDArray[np.float64]], count: int = 6, *, seed: int = 0
) -> list[Segment]:
    """K-means over saliency, colour and place, so that objects of equal saliency come apart; then connected parts.

    Args:
        pixels: (y, x, channel).
        maps: Saliency (y, x) at each step, on any grid.
        count: Clusters.
        seed: Of the start.

    Returns:
        Segments with their mean saliency as quality.
    """
    height, width = pixels.shape[:2]
    heat = combined(maps, (height, width))
    lab = rgb2lab(pixels) / 50
    y, x = np.mgrid[:height, :width]
    place = np.stack([y / height, x / width], -1)
    features = np.concatenate([3 * heat[..., None], lab, 1.5 * place], -1).reshape(height * width, -1)
    labels = kmeans2(features, count, minit="++", rng=np.random.default_rng(seed))[1].reshape(height, width)
    found = []
    for label in np.unique(labels):
        parts, several = ndimage.label(labels == label)
        for part in range(1, several + 1):
            mask = parts == part
            if mask.mean() >= 0.003:
                found.append(Segment(mask, float(heat[mask].mean())))
    return found


def _gradient(score: Score, x: torch.Tensor) -> torch.Tensor:
    inputs = x.detach().clone().requires_grad_(True)
    (found,) = torch.autograd.grad(score(inputs), inputs)
    return found
