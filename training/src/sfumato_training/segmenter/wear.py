"""Wear and tear, so that a segmenter trained on drawn scenes also reads generated ones, which are soft and stained."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from sfumato.studio.layout import MARGIN

BLUR, NOISE = 1.0, 12.0
"""What `worn` does to the scenes that are measured: standard deviations of blur in pixels and of noise in levels."""

_SHIFT = int(MARGIN)
"""Objects keep this distance to the edge, so a shift that goes round cuts none of them."""

_BLURS = (0.5, 1.6)
_NOISE = 0.15
_STAINS = 0.15
_STAIN = 16
_TINT = 0.1


def augmented(
    pixels: torch.Tensor, classes: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mirror and shift pictures with their class maps, and wear the pictures.

    Half are mirrored (every shape is its own mirror image) and half are blurred; each has a change of contrast, a tint
    of its colours, stains as wide as an eighth of the picture, and noise, all of a strength of its own.

    Args:
        pixels: (item, channel, y, x) from -1 to 1.
        classes: (item, y, x).
        generator: The source of randomness, on the CPU.

    Returns:
        The same shapes.
    """
    count, channels, height, width = pixels.shape
    draws = torch.rand(count, 6, generator=generator)
    across, down = torch.randint(-_SHIFT, _SHIFT + 1, (2,), generator=generator).tolist()
    pixels = torch.roll(pixels, (down, across), dims=(2, 3))
    classes = torch.roll(classes, (down, across), dims=(1, 2))
    mirrored = draws[:, 0] < 0.5
    pixels[mirrored], classes[mirrored] = pixels[mirrored].flip(-1), classes[mirrored].flip(-1)
    low, high = _BLURS
    soft = blurred(pixels, low + (high - low) * draws[:, 1])
    pixels = torch.where(draws[:, 2, None, None, None] < 0.5, soft, pixels)
    pixels = pixels * (0.75 + 0.4 * draws[:, 3, None, None, None])
    pixels = pixels + _TINT * torch.randn((count, channels, 1, 1), generator=generator)
    stains = torch.randn((count, channels, height // _STAIN, width // _STAIN), generator=generator)
    stains = F.interpolate(stains, size=(height, width), mode="bilinear", align_corners=False)
    pixels = pixels + _STAINS * draws[:, 4, None, None, None] * stains
    pixels = pixels + _NOISE * draws[:, 5, None, None, None] * torch.randn(pixels.shape, generator=generator)
    return pixels.clamp(-1, 1), classes


def blurred(pixels: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Blur each picture by a Gaussian of its own width.

    Args:
        pixels: (item, channel, y, x).
        sigmas: (item,), standard deviations in pixels.
    """
    count, channels = pixels.shape[:2]
    reach = math.ceil(3 * float(sigmas.max()))
    away = torch.arange(-reach, reach + 1, dtype=pixels.dtype)
    kernels = torch.exp(-0.5 * (away / sigmas[:, None]) ** 2)
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None, None]  # (plane, 1, 1, x)
    planes = F.pad(pixels.flatten(0, 1)[None], (reach,) * 4, mode="replicate")
    planes = F.conv2d(planes, kernels, groups=count * channels)
    planes = F.conv2d(planes, kernels.transpose(2, 3), groups=count * channels)
    return planes.view(pixels.shape)


def worn(images: npt.NDArray[np.uint8], seed: int = 0) -> npt.NDArray[np.uint8]:
    """Blur pictures and add noise, as strongly as `BLUR` and `NOISE` say.

    Args:
        images: (image, y, x, channel).
        seed: Of the noise.

    Returns:
        The same shape.
    """
    pixels = blurred(torch.from_numpy(images).permute(0, 3, 1, 2).float(), torch.full((len(images),), BLUR))
    pixels = pixels + NOISE * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
    return np.ascontiguousarray(pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy())
