"""Figures of studies: bars with intervals beside a sweep over thresholds, and scatters."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.metrics import Interval
from sfumato.plots.figures import INK, LINES, figure_of, finished, picture_axis

_WIDE = 5.4
_LINE = 28
"""Letters of a title that fit above a picture of an example."""


def threshold_sheet(
    bars: Mapping[str, Interval],
    taus: Sequence[float],
    curves: Mapping[str, NDArray[np.float64]],
    title: str,
    swept: str,
    *,
    mark: float | None = None,
) -> Image.Image:
    """Bars with 95% intervals, and what they become at other thresholds.

    Args:
        bars: By name, drawn in this order from above.
        taus: The thresholds.
        curves: By name a value for each threshold (tau,).
        title: Of the bars' axis, and of the curves' values.
        swept: Of the curves' other axis.
        mark: The threshold of the bars.
    """
    figure = figure_of(2 * _WIDE, max(2.6, 0.3 * len(bars) + 1.0))
    left, right = figure.subplots(1, 2)
    bars_with_intervals(left, bars, title)
    for number, (name, values) in enumerate(curves.items()):
        style = "-" if number < len(LINES) else "--"
        right.plot(taus, values, style, color=LINES[number % len(LINES)], label=name, linewidth=1.5)
    if mark is not None:
        right.axvline(mark, color=INK, linewidth=0.7, linestyle=":")
    right.set_xlabel(swept, fontsize=8)
    right.set_ylabel(title.partition(",")[0], fontsize=8)
    right.tick_params(labelsize=8)
    right.grid(alpha=0.25)
    right.legend(fontsize=7, frameon=False, ncols=2)
    return finished(figure)


def bars_with_intervals(axis: Any, bars: Mapping[str, Interval], title: str) -> None:
    """Draw a bar for each name with its interval; a name without a number has none."""
    places = np.arange(len(bars))[::-1]
    means = np.nan_to_num([one.mean for one in bars.values()])
    whiskers = np.nan_to_num([[one.mean - one.low, one.high - one.mean] for one in bars.values()]).T
    axis.barh(places, means, xerr=np.clip(whiskers, 0, None), color=LINES[1], height=0.7, error_kw={"linewidth": 0.8})
    axis.set_yticks(places, [f"{name} ({one.n})" for name, one in bars.items()], fontsize=8)
    axis.set_xlabel(title, fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(axis="x", alpha=0.25)
    axis.axvline(0, color=INK, linewidth=0.6)


def panels_sheet(panels: Mapping[str, Mapping[str, Interval]], *, alike: bool = False) -> Image.Image:
    """Several panels of bars side by side, by the title of each; where their values are alike, on one scale."""
    most = max(len(bars) for bars in panels.values())
    figure = figure_of(min(_WIDE * len(panels), 2 * _WIDE), max(2.2, 0.32 * most + 0.9))
    axes = figure.subplots(1, len(panels), squeeze=False, sharex=alike)[0]
    for axis, (title, bars) in zip(axes, panels.items(), strict=True):
        bars_with_intervals(axis, bars, title)
    return finished(figure)


def scatter_sheet(panels: Mapping[str, Mapping[str, tuple[float, Interval]]], across: str) -> Image.Image:
    """Panels of named points with intervals, their cost from left to right on a logarithmic axis that begins at 0.

    Args:
        panels: By title of the values the points by name: cost and value.
        across: Of the cost.
    """
    figure = figure_of(_WIDE * len(panels), 3.4)
    for axis, (title, points) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for number, (name, (cost, one)) in enumerate(points.items()):
            whiskers = np.clip([[one.mean - one.low], [one.high - one.mean]], 0, None)
            style = {"color": LINES[number % len(LINES)], "label": name, "ms": 6, "lw": 1.4}
            axis.errorbar(max(cost, 0.5 + 0.08 * number), one.mean, yerr=whiskers, fmt="o", **style)
        axis.set_xscale("symlog", linthresh=10)
        axis.set_xlim(left=0)
        axis.set_xlabel(across, fontsize=8)
        axis.set_ylabel(title, fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25)
        axis.legend(fontsize=7, frameon=False)
    return finished(figure)


def examples_sheet(rows: Sequence[Sequence[tuple[str, NDArray[Any], bool]]]) -> Image.Image:
    """Rows of pictures and maps with a title each.

    Args:
        rows: Of each picture its title, its values ((y, x, 3) uint8 or a map (y, x)), and whether it is a map.
    """
    across = max(len(row) for row in rows)
    figure = figure_of(1.75 * across, 1.95 * len(rows))
    for axes, row in zip(figure.subplots(len(rows), across, squeeze=False), rows, strict=True):
        for axis in axes[len(row) :]:
            axis.set_axis_off()
        for axis, (title, values, is_map) in zip(axes, row, strict=False):
            picture_axis(axis).imshow(values, **({"cmap": "magma"} if is_map else {}))
            axis.set_title(textwrap.fill(title, _LINE), fontsize=7, color=INK)
    return finished(figure)


def stacked(*pictures: Image.Image) -> Image.Image:
    """Pictures one below the other, on white."""
    sheet = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet
