"""Figures of tasks over seeds: curves with bands over seeds, rows of maps, and bars with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.metrics import bootstrap
from sfumato.plots.figures import INK, LINES, figure_of, finished, picture_axis

Panel = tuple[NDArray[np.float64], Mapping[str, NDArray[np.float64]]]


def curves_sheet(panels: Mapping[str, Panel]) -> Image.Image:
    """One panel each: the mean over seeds, the middle 80% as a band, and every seed as a thin line.

    Args:
        panels: By title the timesteps (step,) and the curves by name, each (seed, step).
    """
    figure = figure_of(6.2 * len(panels), 3.6)
    for axis, (title, (times, curves)) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for number, (name, rows) in enumerate(curves.items()):
            colour = LINES[number % len(LINES)]
            axis.plot(times, rows.T, color=colour, linewidth=0.4, alpha=0.25)
            axis.plot(times, rows.mean(0), color=colour, linewidth=1.8, label=name or f"mean of {len(rows)} seeds")
            low, high = np.percentile(rows, [10, 90], axis=0)
            axis.fill_between(times, low, high, color=colour, alpha=0.15, linewidth=0)
        axis.set_title(title, fontsize=9, color=INK)
        axis.set_xlabel("timestep", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.invert_xaxis()
        axis.grid(alpha=0.25)
        axis.legend(fontsize=8, frameon=False)
    return finished(figure)


def maps_sheet(
    rows: Sequence[tuple[NDArray[np.uint8], Sequence[NDArray[np.float64]]]],
    titles: Sequence[str],
    mask: NDArray[np.bool_] | None,
    *,
    one_scale: bool = False,
) -> Image.Image:
    """One row for each seed: its image, then maps of it.

    Args:
        rows: The image (y, x, channel) and the maps (y, x) of each seed.
        titles: Of the maps.
        mask: Drawn as an outline on the image.
        one_scale: All maps of a row have one scale; by default each has its own.
    """
    figure = figure_of(1.9 * (len(titles) + 1), 1.95 * len(rows) + 0.2)
    for line, (axes, (image, maps)) in enumerate(
        zip(figure.subplots(len(rows), len(titles) + 1, squeeze=False), rows, strict=True)
    ):
        picture_axis(axes[0]).imshow(image)
        if mask is not None:
            axes[0].contour(mask, levels=[0.5], colors="white", linewidths=0.8)
        for axis, values, title in zip(axes[1:], maps, titles, strict=True):
            scale = {"vmin": 0.0, "vmax": max(float(one.max()) for one in maps) ** 0.5} if one_scale else {}
            picture_axis(axis).imshow(np.sqrt(values), cmap="magma", **scale)
            if not line:
                axis.set_title(title, fontsize=8, color=INK)
    return finished(figure)


def bars_sheet(names: Sequence[str], values: NDArray[np.float64], title: str) -> Image.Image:
    """A bar for each name with its mean over seeds and 95% interval.

    Args:
        names: What was measured.
        values: (seed, name).
        title: Of the axis.
    """
    intervals = [bootstrap(values[:, place]) for place in range(len(names))]
    means = np.array([one.mean for one in intervals])
    whiskers = np.array([[one.mean - one.low, one.high - one.mean] for one in intervals]).T
    figure = figure_of(7.0, 0.26 * len(names) + 0.9)
    axis = figure.subplots()
    places = np.arange(len(names))[::-1]
    axis.barh(places, means, xerr=np.clip(whiskers, 0, None), color=LINES[1], height=0.7, error_kw={"linewidth": 0.8})
    axis.set_yticks(places, names, fontsize=7)
    axis.set_xlabel(title, fontsize=8)
    axis.grid(axis="x", alpha=0.25)
    return finished(figure)
