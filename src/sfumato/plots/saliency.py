"""Saliency of steps: what each step recovers, every map on it, and which words led when."""

from __future__ import annotations

import numpy as np
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.plots.figures import INK, LINES, QUIET, figure_of, finished, picture_axis
from sfumato.plots.overlays import overlay
from sfumato.results.explanation import Explanation

SHOWN = 6
"""Most steps that have a column; they are taken evenly."""


def saliency_sheet(explanation: Explanation) -> Image.Image:
    """A column for each step: what it recovers, and below every map on it.

    Raises:
        SfumatoError: The explanation holds no saliency.
    """
    if "saliency" not in explanation.tree.children:
        raise SfumatoError("this explanation holds no saliency of steps; make it with method='df_rise' or 'df_cam'")
    nodes = {name: node.to_dataset() for name, node in explanation.tree["saliency"].children.items()}
    steps = sorted({step for data in nodes.values() for step in data["step"].values.tolist()})
    steps = [steps[round(place)] for place in np.linspace(0, len(steps) - 1, min(SHOWN, len(steps)))]
    figure = figure_of(1.75 * len(steps) + 0.5, 1.85 * (len(nodes) + 1))
    grid = figure.subplots(len(nodes) + 1, len(steps), squeeze=False)
    for row, (name, data) in enumerate(nodes.items(), 1):
        for column, step in enumerate(steps):
            axis = picture_axis(grid[row][column])
            if step in data["step"].values:
                one = data.sel(step=step)
                picture = one["picture"].values
                picture_axis(grid[0][column]).imshow(picture)
                grid[0][column].set_title(f"step {step}, t = {float(one['timestep']):.0f}", fontsize=7, color=QUIET)
                axis.imshow(np.asarray(overlay(picture, one["map"].values)))
            if not column:
                axis.set_ylabel(name.replace("_", " "), fontsize=8, color=INK)
    grid[0][0].set_ylabel("recovered", fontsize=8, color=INK)
    return finished(figure)


def relevance_sheet(explanation: Explanation) -> Image.Image:
    """The relevance of every word over the steps, and where it lies at the first, middle and last of them.

    Raises:
        SfumatoError: The explanation holds no relevance.
    """
    if "relevance" not in explanation.tree.children:
        raise SfumatoError("this explanation holds no relevance; make it with method='relevance'")
    data = explanation.tree["relevance"].to_dataset()
    words = [
        word if occurrence == 1 else f"{word}#{occurrence}"
        for word, occurrence in zip(data["word"].values.tolist(), data["occurrence"].values.tolist(), strict=True)
    ]
    shown = sorted({0, data.sizes["step"] // 2, data.sizes["step"] - 1})
    figure = figure_of(max(7.0, 1.05 * len(words) + 0.6), 2.9 + 1.1 * len(shown))
    curves, maps = figure.subfigures(2, 1, height_ratios=[2.9, 1.1 * len(shown)])
    axis = curves.subplots()
    for number, word in enumerate(words):
        style = "-" if number < len(LINES) else "--"
        axis.plot(
            data["timestep"].values,
            data["score"].values[:, number],
            style,
            marker="." if data.sizes["step"] < 12 else None,
            color=LINES[number % len(LINES)],
            label=word,
        )
    axis.set_title("relevance of each word", fontsize=8, color=INK)
    axis.set_xlabel("timestep", fontsize=7)
    axis.invert_xaxis()
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.25)
    axis.legend(fontsize=6.5, frameon=False, ncols=2)
    image = np.asarray(explanation.image)
    grid = maps.subplots(len(shown), len(words), squeeze=False)
    for row, place in enumerate(shown):
        for column, word in enumerate(words):
            one = picture_axis(grid[row][column])
            one.imshow(np.asarray(overlay(image, data["map"].values[place, column])))
            if not row:
                one.set_title(word, fontsize=7, color=INK)
        grid[row][0].set_ylabel(f"t = {data['timestep'].values[place]:.0f}", fontsize=7, color=QUIET)
    return finished(figure)
