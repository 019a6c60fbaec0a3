"""How much of a picture's structure two images share, and how far two feature maps are apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfumato.errors import OptionError

WINDOW = 7


def normalised_ssim(one: ArrayLike, other: ArrayLike) -> float:
    """Normalised SSIM: structural similarity of two images or latents, each at unit standard deviation first.

    It is neither the SSIM of pixels in their own range (``similarity="ssim"``) nor the local SSIM under Gaussian
    windows (``sfumato.saliency.similarities``). Wang et al. 2004, as the thesis on the diffusion profile uses it
    (equation 4.1.8): a window of 7 x 7 pixels, the mean over windows and channels; the dynamic range is the larger one
    of the two normalised images.

    Args:
        one: (channel, y, x), any finite values.
        other: Of the same shape.

    Returns:
        At most 1, which images have that differ only by a positive factor, or are both constant.

    Raises:
        OptionError: The shapes differ.
    """
    from skimage.metrics import structural_similarity

    first, second = (_unit(np.asarray(values, np.float64)) for values in (one, other))
    if first.shape != second.shape:
        raise OptionError(f"normalised SSIM compares images of one size; got {first.shape} and {second.shape}")
    spread = max(np.ptp(first), np.ptp(second))
    if not spread:
        return 1.0
    side = min(WINDOW, *(size - (size + 1) % 2 for size in first.shape[-2:]))
    if side < 3:
        raise OptionError(f"normalised SSIM needs images of 3 x 3 pixels at least; got {first.shape}")
    return float(structural_similarity(first, second, win_size=side, channel_axis=0, data_range=spread))


def frobenius(one: ArrayLike, other: ArrayLike) -> float:
    """Euclidean distance of two arrays of one shape over all their values (equation 4.1.10: "LayerDist").

    Raises:
        OptionError: The shapes differ.
    """
    first, second = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if first.shape != second.shape:
        raise OptionError(f"a distance needs arrays of one shape; got {first.shape} and {second.shape}")
    return float(np.sqrt(np.square(first - second).sum()))


def maximum_channel(features: ArrayLike, mask: ArrayLike | None = None) -> int:
    """The channel with the largest sum (equation 4.1.4).

    Args:
        features: (channel, y, x).
        mask: (y, x) weights on the same grid, such as ``resized`` gives; without it, every place counts.
    """
    values = np.asarray(features, np.float64)
    weighed = values if mask is None else values * np.asarray(mask, np.float64)
    return int(weighed.sum(axis=(1, 2)).argmax())


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = values.std()
    return values / spread if spread > 0 else values
