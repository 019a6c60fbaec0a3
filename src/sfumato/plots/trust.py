"""Pictures of how far an explanation can be trusted: its numbers, images without a word, maps of random weights."""

from __future__ import annotations

import textwrap

import numpy as np
import xarray as xr
from PIL import Image

from sfumato.plots.figures import INK, LINES, QUIET, figure_of, finished, picture_axis
from sfumato.plots.lettering import families, lettered
from sfumato.plots.overlays import overlay
from sfumato.results.explanation import Explanation

VERDICTS = {"passed": LINES[2], "failed": LINES[0], "inconclusive": QUIET}
_LINE = 44


def trust_sheet(explanation: Explanation) -> Image.Image:
    """Every number of the checks of an explanation."""
    return checks_sheet(explanation.tree["trust"].to_dataset())


def checks_sheet(node: xr.Dataset) -> Image.Image:
    """Every number as a point with its 95% interval, and below it that of its control.

    Args:
        node: As the checks write it into the node "trust".
    """
    count = node.sizes["number"]
    figure = figure_of(8.0, 0.62 * count + 0.7)
    axis = figure.subplots()
    labels = []
    for place in range(count):
        one = node.isel(number=place)
        colour = VERDICTS[str(one["verdict"].values)]
        for name, shift, tint in (("value", 0.14, colour), ("control", -0.14, QUIET)):
            mean, low, high = one[name].values.tolist()
            whiskers = np.clip([[mean - low], [high - mean]], 0, None)
            height = count - 1 - place + shift
            axis.errorbar(mean, height, xerr=whiskers, fmt="o" if name == "value" else "s", ms=4, color=tint, lw=1.2)
        asked, number, against, verdict = (one[name].values for name in ("check", "what", "against", "verdict"))
        labels.append(f"{asked}, {verdict}: {number}\nagainst {against}")
    axis.set_yticks(range(count - 1, -1, -1), labels, fontsize=8)
    axis.set_ylim(-0.6, count - 0.4)
    axis.axvline(0, color=INK, linewidth=0.6)
    axis.set_xlabel("dots: the explanation; squares: its control; 95% intervals", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(axis="x", alpha=0.25)
    return finished(figure)


def removal_sheet(explanation: Explanation) -> Image.Image:
    """For every word: its map on the image, the image without the word, and where the two images differ."""
    node = explanation.tree["removal"].to_dataset()
    picture = np.asarray(explanation.image)
    words = node["word"].values.tolist()
    figure = figure_of(1.3 * len(words) + 0.6, 4.5)
    most = float(node["change"].max()) or 1.0
    grid = figure.subplots(3, len(words), squeeze=False)
    for column, word in enumerate(words):
        one = node.isel(word=column)
        heat = one["map"].rename(map_y="y", map_x="x").values
        for axis, values, scale in (
            (grid[0][column], np.asarray(overlay(picture, heat)), {}),
            (grid[1][column], one["pixels"].values, {}),
            (grid[2][column], one["change"].values, {"cmap": "magma", "vmin": 0, "vmax": most}),
        ):
            picture_axis(axis).imshow(values, **scale)
        title = lettered(word, _LINE)
        grid[0][column].set_title(title, fontsize=8, color=INK, family=list(families()), parse_math=False)
        agreement, others = float(one["agreement"]), float(one["agreement_of_others"])
        beside = f" ({others:.2f})" if np.isfinite(others) else ""
        told = f"{agreement:.2f}{beside}" if np.isfinite(agreement) else "not counted"
        grid[2][column].set_xlabel(told, fontsize=7, color=QUIET)
    for row, name in enumerate(("map", "without it", "change")):
        grid[row][0].set_ylabel(name, fontsize=8, color=INK)
    told = "rank agreement of map and change (that of the other words' maps)"
    figure.supxlabel(textwrap.fill(told, 20 * len(words) + 8), fontsize=7, color=QUIET)
    return finished(figure)


def randomisation_sheet(explanation: Explanation) -> Image.Image:
    """The likeness of every map to its own as ever more weights are random, and the images that come out."""
    node = explanation.tree["randomisation"].to_dataset()
    stages, blocks = node["stage"].values.tolist(), node.attrs["blocks"]
    figure = figure_of(max(7.0, 1.25 * len(stages)), 4.6)
    above, below = figure.subfigures(2, 1, height_ratios=[3, 1.4])
    axis = above.subplots()
    for number, name in enumerate(node["map"].values.tolist()):
        style = "-" if number < len(LINES) else "--"
        values = node["likeness"].isel(map=number).values
        shown = f" {lettered(name, _LINE)}"  # a label that begins with _ would be left out
        axis.plot(stages, values, style, color=LINES[number % len(LINES)], linewidth=1.2, label=shown)
    mean = node["likeness"].mean("map").values
    axis.plot(stages, mean, color=INK, linewidth=2.2, label=" mean")
    axis.axhline(0, color=INK, linewidth=0.6)
    axis.set_xlabel(f"blocks of the denoiser with random weights, from the output (of {blocks})", fontsize=8)
    axis.set_ylabel("rank correlation with the map", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25)
    if node.sizes["map"] <= 2 * len(LINES):
        for text in axis.legend(fontsize=7, frameon=False, ncols=2).get_texts():
            text.set(family=list(families()), parse_math=False)
    for place, axis in enumerate(below.subplots(1, len(stages), squeeze=False)[0]):
        picture_axis(axis).imshow(node["pixels"].values[place])
        axis.set_title(str(stages[place]), fontsize=7, color=QUIET)
    return finished(figure)
