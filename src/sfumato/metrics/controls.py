"""Maps that know nothing of the prompt: what a method has to beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from sfumato.results.upscale import bicubic

Control = Callable[[tuple[int, int], np.random.Generator], NDArray[np.float64]]


def random(size: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float64]:
    """Every pixel drawn by itself, uniform from 0 to 1."""
    return generator.random(size)


def smooth_random(size: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float64]:
    """Blobs of the size of real maps: 4 cells along the shorter side, drawn uniform, upscaled bicubic, above 0."""
    height, width = size
    cell = max(1.0, min(height, width) / 4)
    coarse = generator.random((max(1, round(height / cell)), max(1, round(width / cell))))
    return np.asarray(np.clip(bicubic(coarse, size), 0, None))


def centre(size: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float64]:
    """A Gaussian in the middle, a quarter of each side wide: photographers centre their objects. Draws nothing."""
    height, width = size
    y = (np.arange(height) + 0.5) / height - 0.5
    x = (np.arange(width) + 0.5) / width - 0.5
    return np.asarray(np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * 0.25**2)))


def whole_image(size: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float64]:
    """Everything, everywhere alike. Draws nothing."""
    return np.ones(size)


CONTROLS: Mapping[str, Control] = {
    "random": random,
    "smooth random": smooth_random,
    "centre": centre,
    "whole image": whole_image,
}


def control_map(name: str, size: tuple[int, int], seed: int, item: int) -> NDArray[np.float64]:
    """The map of a control for one item: the same for the same seed and item, whatever else is scored."""
    return CONTROLS[name](size, np.random.default_rng([seed, item]))
