"""Sheets of arrays by their role, whatever method made them: maps on the image, and curves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from PIL import Image

from sfumato.plots.figures import INK, LINES, QUIET, figure_of, finished, picture_axis
from sfumato.plots.overlays import overlay
from sfumato.results.explanation import Explanation
from sfumato.results.meaning import GRID, IMAGE, STEP, Declared, axis_of, heat_of

MOST_STEPS, MOST_LABELS = 6, 12
"""Columns, taken evenly, and rows of a sheet of maps."""
TIME = "timestep"


def sheet_of(explanation: Explanation, one: Declared) -> Image.Image:
    """The sheet of a map or a curve of an explanation of one image."""
    return map_sheet(explanation, one) if one.array.attrs["role"] == "map" else curve_sheet(one)


def map_sheet(explanation: Explanation, one: Declared) -> Image.Image:
    """A row for each label and a column for each step of a map, on the image.

    Args:
        explanation: Of one image.
        one: The map, of any other dimensions.
    """
    heat = heat_of(one.array).isel({IMAGE: 0}, missing_dims="ignore")
    steps = heat.sizes.get(STEP, 1)
    columns = [round(place) for place in np.linspace(0, steps - 1, min(MOST_STEPS, steps))]
    rows = list(_by_label(heat, *GRID))[:MOST_LABELS]
    figure = figure_of(max(3.2, 1.75 * len(columns) + 0.5), 1.85 * len(rows) + 0.3)
    figure.suptitle(_titled(one), fontsize=8, color=INK, parse_math=False)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for axes, (label, maps) in zip(grid, rows, strict=True):
        for axis, place in zip(axes, columns, strict=True):
            shown = maps.isel({STEP: place}, missing_dims="ignore")
            picture_axis(axis).imshow(np.asarray(overlay(explanation.image, shown.transpose(*GRID).values)))
            if STEP in maps.dims and axes is grid[0]:
                axis.set_title(f"step {shown[STEP].item()}", fontsize=7, color=QUIET)
        axes[0].set_ylabel(label, fontsize=8, color=INK, parse_math=False)
    return finished(figure)


def curve_sheet(one: Declared) -> Image.Image:
    """A line for each label of a curve."""
    curves = one.array.isel({IMAGE: 0}, missing_dims="ignore")
    along = axis_of(curves)
    over = TIME if TIME in curves.coords and curves[TIME].dims == (along,) else along
    figure = figure_of(7.0, 3.4)
    axis = figure.subplots()
    for number, (label, values) in enumerate(_by_label(curves, along)):
        style = "-" if number < len(LINES) else "--"
        axis.plot(curves[over].values, values.values, style, color=LINES[number % len(LINES)], label=label)
    axis.set_title(_titled(one), fontsize=8, color=INK, parse_math=False)
    axis.set_xlabel(over.replace("_", " "), fontsize=7)
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.25)
    if bounds := curves.attrs.get("bounds"):
        axis.set_ylim(*bounds)
    if over == TIME:
        axis.invert_xaxis()
    if curves.ndim > 1:
        axis.legend(fontsize=6.5, frameon=False, ncols=2)
    return finished(figure)


def _titled(one: Declared) -> str:
    return one.title.replace("_", " ") + (f": {one.unit}" if one.unit else "")


def _by_label(array: xr.DataArray, *kept: str) -> Iterator[tuple[str, xr.DataArray]]:
    """What stands for each label of the other dimensions, but for steps; "" where there is one alone."""
    dims = [str(dim) for dim in array.dims if dim not in (STEP, *kept)]
    for place in np.ndindex(*(array.sizes[dim] for dim in dims)):
        at: dict[str, Any] = dict(zip(dims, place, strict=True))
        yield ", ".join(str(array[dim].values[n]) for dim, n in at.items()), array.isel(at)
