"""What a painted garment looks like: the rendering that comes nearest says which pattern, colour and mark it has."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sfumato.studio.garments import Pair, variants, worn_as

THINGS = ("pattern", "base", "logo")


def read_garment(pair: Pair, image: npt.NDArray[np.uint8]) -> dict[str, str]:
    """The "pattern", "base" colour and "logo" of a garment in an image (y, x, channel).

    Each is taken from the nearest of the pictures in which that thing alone differs, by mean squared difference over
    the garment: the place is known, so only what is on it is read.
    """
    inside = pair.worn
    seen = image[inside].astype(np.float64)
    found = {}
    for thing, garments in variants(pair.garment).items():
        far = {
            name: float(np.square(worn_as(one, pair.placing, pair.scene)[inside] - seen).mean())
            for name, one in garments.items()
        }
        found[thing] = min(far, key=far.__getitem__)
    return found


def measured_garment(pair: Pair, image: npt.NDArray[np.uint8]) -> dict[str, float]:
    """How well an image shows the pair's target.

    Returns:
        "pattern", "base" and "logo" (1 where the reader finds the right one, else 0), "psnr inside" and "psnr outside"
        the mask in decibel, against the target, and "colour error", the mean absolute difference over the garment, as
        a share of the range.
    """
    garment, found = pair.garment, read_garment(pair, image)
    apart = image.astype(np.float64) - pair.target
    return {
        "pattern": float(found["pattern"] == garment.pattern),
        "base": float(found["base"] == garment.base),
        "logo": float(found["logo"] == garment.logos[0].kind),
        "psnr inside": _psnr(apart[pair.mask]),
        "psnr outside": _psnr(apart[~pair.mask]),
        "colour error": float(np.abs(apart[pair.worn]).mean() / 255),
    }


def _psnr(apart: npt.NDArray[np.float64]) -> float:
    return 10 * math.log10(255.0**2 / max(float(np.square(apart).mean()), 1e-6))
