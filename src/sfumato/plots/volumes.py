"""Gradient volumes: which places of one sample made a part of the next (the source's figure 5.8)."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.plots.figures import INK, figure_of, finished, picture_axis
from sfumato.results.explanation import Explanation

MOST_POINTS = 6000


def volume_sheet(explanation: Explanation) -> Image.Image:
    """For every step the volume as points (place in the image; number of the masked pixel upwards), and the sum below.

    Only values above the volume's mean are shown, the strongest 6,000 of them.

    Raises:
        SfumatoError: The explanation holds no gradient volume.
    """
    if "gradient_volume" not in explanation.tree.children:
        raise SfumatoError("this explanation holds no gradient volume; make it with method='gradient_volume'")
    data = explanation.tree["gradient_volume"].to_dataset()
    count, whole = data.sizes["step"], "volume" in data
    order = np.argsort(-data["timestep"].values)
    figure = figure_of(2.9 * count, (2.9 if whole else 0) + 2.5)
    rows = 2 if whole else 1
    image = np.asarray(explanation.image)
    for column, place in enumerate(order):
        one = data.isel(step=place)
        if whole:
            axis = figure.add_subplot(rows, count, column + 1, projection="3d")
            _points(axis, one)
        axis = picture_axis(figure.add_subplot(rows, count, (rows - 1) * count + column + 1))
        axis.imshow(image, extent=(0, 1, 1, 0), alpha=0.35)
        found = np.abs(one["region"].values)
        axis.imshow(found**0.5, cmap="magma", alpha=0.75, extent=(0, 1, 1, 0))
        mask = np.kron(one["mask"].values, np.ones((8, 8)))
        axis.contour(mask, levels=[0.5], colors="white", linewidths=0.8, extent=(0, 1, 0, 1))
        axis.set_title(spread_in_words(one), fontsize=7, color=INK)
    return finished(figure)


def spread_in_words(one: xr.Dataset) -> str:
    """The timestep of a step, and from how much of the image a pixel of the mask draws, where that was measured."""
    time = f"t = {float(one['timestep']):.0f}"
    if "effective_area" not in one:
        return time
    return f"{time}: each pixel from {100 * float(one['effective_area']):.2g}% of the image"


def _points(axis: Any, one: xr.Dataset) -> None:
    volume = one["volume"].values  # (pixel, y, x)
    above = np.argwhere(volume > volume.mean())
    values = volume[tuple(above.T)]
    strongest = np.argsort(-values)[:MOST_POINTS]
    pixel, y, x = above[strongest].T
    draw = axis.scatter
    draw(
        x,
        y,
        pixel,
        c=np.log10(values[strongest] + 1e-12),
        s=max(1.2, 300 / volume.shape[2] ** 1.3),
        cmap="magma",
        linewidths=0,
    )
    axis.set(xlim=(0, volume.shape[2]), ylim=(volume.shape[1], 0), zlim=(0, len(volume)))
    axis.set_xlabel("x", fontsize=6)
    axis.set_ylabel("y", fontsize=6)
    axis.set_zlabel("pixel of the mask", fontsize=6)
    axis.tick_params(labelsize=5)
