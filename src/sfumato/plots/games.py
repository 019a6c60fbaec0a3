"""Curves of the deletion and insertion games."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.metrics import bootstrap
from sfumato.plots.figures import INK, LINES, figure_of, finished

Curves = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
CONTROL = "#9a9aa0"
MOST_INTERVALS = 12
"""Points of a curve at which an interval is drawn."""


def games_sheet(games: Mapping[tuple[str, str], Curves]) -> Image.Image:
    """A panel for each game and measure: mean curves over images and steps, with 95% intervals; controls are dashed.

    Args:
        games: By game and measure, and by map, the shares (point,) and the curves (curve, point).
    """
    names = list(dict.fromkeys(game for game, _ in games))
    across = max(sum(game == name for game, _ in games) for name in names)
    figure = figure_of(4.3 * across, 3.4 * len(names) + 0.3)
    grid = figure.subplots(len(names), across, squeeze=False)
    for row, name in enumerate(names):
        own = [(measure, curves) for (game, measure), curves in games.items() if game == name]
        for axis in grid[row][len(own) :]:
            axis.set_visible(False)
        for axis, (measure, curves) in zip(grid[row], own, strict=False):
            higher = (name == "deletion") != (measure == "score")
            for number, (label, (shares, values)) in enumerate(curves.items()):
                control = label in ("random", "centre")
                colour = CONTROL if control else LINES[number % len(LINES)]
                style = {"random": "--", "centre": ":"}.get(label, "-")
                axis.plot(shares, values.mean(0), style, color=colour, linewidth=1.4, label=label)
                if len(values) > 1:
                    places = np.unique(np.linspace(0, len(shares) - 1, MOST_INTERVALS).round().astype(int))
                    found = [bootstrap(values[:, place], resamples=400) for place in places]
                    axis.fill_between(
                        shares[places],
                        [one.low for one in found],
                        [one.high for one in found],
                        color=colour,
                        alpha=0.15,
                        linewidth=0,
                    )
            what = "CLIP score with the prompt" if measure == "score" else f"distance ({measure})"
            axis.set_title(f"{name}: {what}, {'higher' if higher else 'lower'} is better", fontsize=8, color=INK)
            axis.set_xlabel(f"share of places {'taken away' if name == 'deletion' else 'given back'}", fontsize=7)
            axis.tick_params(labelsize=7)
            axis.grid(alpha=0.25)
    grid[0][0].legend(fontsize=6.5, frameon=False)
    return finished(figure)
