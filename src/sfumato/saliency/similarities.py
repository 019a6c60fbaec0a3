"""Where do two recovered latents agree? Maps of the terms of SSIM, of the cosine, and of a network's features.

Source: Wang et al. 2004 (SSIM and its terms luminance, contrast, structure), with the constants of Park et al. 2024:
a Gaussian window of 15 places with sigma 1.5, C3 = 4.5e-4 (so C2 = 2 C3, C1 = 1e-4).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

LOCAL_SSIM = "local_ssim"
"""SSIM under a Gaussian window around each position; neither that of pixels (``ssim``) nor the normalised one."""
OLD_NAME = "ssim"
Local = Literal["structure", "local_ssim", "luminance", "contrast", "cosine"]
WINDOW, SIGMA = 15, 1.5
C1, C2, C3 = 1e-4, 9e-4, 4.5e-4


def similarity_name(name: str) -> str:
    """The name of a similarity or distance; ``ssim`` was the name of the local SSIM and is accepted for one release."""
    if name != OLD_NAME:
        return name
    warnings.warn(f"{OLD_NAME!r} is called {LOCAL_SSIM!r} here; the old name goes", DeprecationWarning, stacklevel=3)
    return LOCAL_SSIM


@dataclass(frozen=True)
class Moments:
    """Means, variances and covariances of two images under a window, each (row, channel, y, x)."""

    mean: torch.Tensor
    other_mean: torch.Tensor
    variance: torch.Tensor
    other_variance: torch.Tensor
    covariance: torch.Tensor


def local_similarity(name: Local, one: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """The similarity of one image (1, channel, y, x) with others (row, channel, y, x) at every place: (row, y, x).

    Means over channels; the cosine is between the vectors of channels at a place. In float32; identical images have 1.
    """
    one, others = one.float(), others.float()
    if name == "cosine":
        return F.cosine_similarity(one, others, dim=1)
    return TERMS[name](_moments(one, others)).mean(1)


def structure(moments: Moments, doubled: float = 1.0) -> torch.Tensor:
    """The structure term of SSIM; the released code of the source doubles the covariance."""
    spread = (moments.variance * moments.other_variance).sqrt()
    return (doubled * moments.covariance + C3) / (spread + C3)


def luminance(moments: Moments) -> torch.Tensor:
    """The luminance term of SSIM."""
    return (2 * moments.mean * moments.other_mean + C1) / (moments.mean**2 + moments.other_mean**2 + C1)


def contrast(moments: Moments) -> torch.Tensor:
    """The contrast term of SSIM."""
    spread = (moments.variance * moments.other_variance).sqrt()
    return (2 * spread + C2) / (moments.variance + moments.other_variance + C2)


def parity(one: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """The structure term as the source's released code computes it: identical images have nearly 2; (row, y, x)."""
    return structure(_moments(one.float(), others.float()), doubled=2.0).mean(1)


TERMS: dict[str, Callable[[Moments], torch.Tensor]] = {
    "structure": structure,
    "luminance": luminance,
    "contrast": contrast,
    "local_ssim": lambda moments: luminance(moments) * contrast(moments) * structure(moments),
}


def _moments(one: torch.Tensor, others: torch.Tensor) -> Moments:
    mean, other_mean = blurred(one, WINDOW, SIGMA), blurred(others, WINDOW, SIGMA)
    return Moments(
        mean,
        other_mean,
        (blurred(one**2, WINDOW, SIGMA) - mean**2).clamp(min=0),
        (blurred(others**2, WINDOW, SIGMA) - other_mean**2).clamp(min=0),
        blurred(one * others, WINDOW, SIGMA) - mean * other_mean,
    )


def blurred(images: torch.Tensor, window: int, sigma: float) -> torch.Tensor:
    """Gaussian means (row, channel, y, x) of the same size; edges are repeated."""
    places = torch.arange(window, device=images.device, dtype=images.dtype) - (window - 1) / 2
    weights = torch.exp(-(places**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    channels, half = images.shape[1], window // 2
    rows = weights.view(1, 1, window, 1).expand(channels, 1, window, 1)
    columns = weights.view(1, 1, 1, window).expand(channels, 1, 1, window)
    padded = F.pad(images, (half, half, half, half), mode="replicate")
    return F.conv2d(F.conv2d(padded, rows, groups=channels), columns, groups=channels)
