"""Reference and image side by side, with the maps between them: over time, by head, by layer, for points, patches."""

from __future__ import annotations

import math
from textwrap import fill
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.plots.figures import INK, QUIET, figure_of, finished, picture_axis
from sfumato.plots.overlays import colours, overlay, stretched
from sfumato.results.explanation import Explanation
from sfumato.results.pairs import NODE, looking_at

MARK = "#2f9bd6"
ACROSS, MOST_PATCHES = 8, 4
CELL = 1.45
"""Inches of a map's side, with the gap to the next."""
TOKENS = "tokens, of no place"
NON_CAUSAL = "one token: its attention has no say in the image (non-causal)"


def reference_sheet(explanation: Explanation) -> Image.Image:
    """The maps of both directions, integrated, over groups of steps, by head and by layer: all of each.

    Raises:
        SfumatoError: The explanation holds no maps of a reference.
    """
    data, image, reference = _parts(explanation)
    both = "backward" in data
    axes = [("time", "group", data.sizes["group"])]
    if "forward_head" in data:
        axes.append(("head", "head", data.sizes["head"]))
    axes.append(("layer", "layer", data.sizes["layer"]))
    ways = ("forward", "backward") if both else ("forward",)
    across = max(4, *(math.ceil(count / math.ceil(count / ACROSS)) for _, _, count in axes))  # rows of equal length
    lines = [len(ways) * math.ceil(count / across) for _, _, count in axes]
    runs = [(data, image, "")]
    if "i2am_unguided" in explanation.tree.children:
        other = explanation.tree["i2am_unguided"].to_dataset()
        runs.append((other, other["pixels"].values, ", without guidance"))
    head = len(runs) * (CELL * across / 4 + 0.3)  # four pictures across, and their titles
    heights = [head, *((CELL + 0.15) * count for count in lines)]
    figure = figure_of(CELL * across, sum(heights))
    top, *rest = figure.subfigures(len(heights), 1, height_ratios=heights)
    for cells, (run, made, note) in zip(top.subplots(len(runs), 4, squeeze=False), runs, strict=True):
        back = _on_reference(reference, run["backward"], data) if both else reference
        for axis, picture, title in (
            (cells[0], made, f"generated{note}"),
            (cells[1], _over(made, run["forward"]), "where the reference acted"),
            (cells[2], reference, "reference"),
            (cells[3], back, "" if not both else "what was looked at" if run.attrs["patches"] else TOKENS),
        ):
            picture_axis(axis).imshow(picture)
            axis.set_title(title, fontsize=8, color=INK)
        if run.attrs.get("box"):
            _frame(cells[0], run.attrs["box"])
    notes = [] if data.attrs.get("causal", True) else [NON_CAUSAL]
    notes += [data.attrs["note"]] if data.attrs.get("note") else []
    if notes:
        top.supxlabel(fill("; ".join(notes), 24 * across), fontsize=7, color=QUIET)
    for part, (name, axis_name, count), rows in zip(rest, axes, lines, strict=True):
        grid = part.subplots(rows, across, squeeze=False)
        for row, column in np.ndindex(rows, across):
            axis, way = grid[row][column], ways[row % len(ways)]
            place = row // len(ways) * across + column
            if place >= count:
                axis.set_visible(False)
                continue
            heat = data[f"{way}_{name}"].isel({axis_name: place})
            over = _over(image, heat) if way == "forward" else _on_reference(reference, heat, data)
            picture_axis(axis).imshow(over)
            if way == "forward":
                axis.set_title(_title(name, place, data), fontsize=6, color=QUIET)
    return finished(figure)


def points_sheet(explanation: Explanation) -> Image.Image:
    """A row for each point of the image (what it looked at) and each patch of the reference (who looked at it).

    Raises:
        SfumatoError: The explanation was asked for neither.
    """
    data, image, reference = _parts(explanation)
    rows: list[tuple[Any, Any, tuple[float, float], str]] = []
    if "specific" in data:
        rows += [
            (
                image,
                _on_reference(reference, one, data),
                (float(one["point_x"]), float(one["point_y"])),
                "this looked at",
            )
            for one in (data["specific"].isel(point=place) for place in range(data.sizes["point"]))
        ]
    if "reverse" in data:
        rows += [
            (
                reference,
                _over(image, one),
                (float(one["patch_x"]), float(one["patch_y"])),
                "this patch was looked at by",
            )
            for one in (data["reverse"].isel(patch=place) for place in range(data.sizes["patch"]))
        ]
    if "specific_mask" in data:
        heat = _on_reference(reference, data["specific_mask"], data)
        rows.append((image, heat, (np.nan, np.nan), "the masked part looked at"))
    if not rows:
        raise SfumatoError("this explanation holds no points; make it with at=(x, y) or patches=(x, y)")
    figure = figure_of(4.2, 2.2 * len(rows))
    grid = figure.subplots(len(rows), 2, squeeze=False)
    for (one, other), (picture, heat, (x, y), title) in zip(grid, rows, strict=True):
        picture_axis(one).imshow(picture)
        if np.isfinite(x):
            one.plot(x, y, "+", color="white", markersize=13, markeredgewidth=4)
            one.plot(x, y, "+", color=MARK, markersize=12, markeredgewidth=2)
        one.set_title(title, fontsize=8, color=INK)
        picture_axis(other).imshow(heat)
    return finished(figure)


def causal_sheet(explanation: Explanation) -> Image.Image:
    """What covering a patch changes beside which places looked at it, for the patches that change most.

    Raises:
        SfumatoError: Nothing was covered.
    """
    if "causal" not in explanation.tree.children:
        raise SfumatoError("this explanation holds no causal maps; make it with causal=true")
    causal = explanation.tree["causal"].to_dataset()
    _, image, reference = _parts(explanation)
    change = causal["change"].values
    total = np.nan_to_num(change.mean((2, 3)))
    order = np.argsort(-total, axis=None)[:MOST_PATCHES]
    pairs = [node.to_dataset() for node in explanation.tree[NODE].children.values()]
    figure = figure_of(1.9 * len(order) + 1.9, 5.9)
    grid = figure.subplots(3, len(order) + 1, squeeze=False)
    picture_axis(grid[0][0]).imshow(_over(reference, total))
    grid[0][0].set_title("effect of each patch", fontsize=8, color=INK)
    for axis in (grid[1][0], grid[2][0]):
        picture_axis(axis).imshow(image)
    height, width = reference.shape[0] / total.shape[0], reference.shape[1] / total.shape[1]
    for column, token in enumerate(order.tolist(), 1):
        row, place = divmod(token, total.shape[1])
        picture_axis(grid[0][column]).imshow(reference)
        _frame(grid[0][column], [place * width, row * height, (place + 1) * width, (row + 1) * height])
        picture_axis(grid[1][column]).imshow(_over(image, change[row, place]))
        heat = looking_at(pairs, token, (change.shape[2], change.shape[3]))
        picture_axis(grid[2][column]).imshow(_over(image, heat))
        agreement = float(causal["agreement"].values[row, place])
        grid[2][column].set_xlabel(f"rank agreement {agreement:.2f}", fontsize=7, color=QUIET)
    grid[1][0].set_ylabel("changes when covered", fontsize=8, color=INK)
    grid[2][0].set_ylabel("looked at it", fontsize=8, color=INK)
    return finished(figure)


def _parts(explanation: Explanation) -> tuple[xr.Dataset, NDArray[np.uint8], NDArray[np.uint8]]:
    if "i2am" not in explanation.tree.children:
        raise SfumatoError("this explanation holds no maps of a reference; make it with method='i2am'")
    reference = explanation.tree["reference"].to_dataset()["pixels"].values
    return explanation.tree["i2am"].to_dataset(), np.asarray(explanation.image), reference


def _over(picture: NDArray[np.uint8], heat: Any) -> NDArray[np.uint8]:
    return np.asarray(overlay(picture, np.asarray(heat)))


def _on_reference(reference: NDArray[np.uint8], heat: Any, data: xr.Dataset) -> NDArray[np.uint8]:
    """A map on the reference; tokens that are no patches of it stand beside each other as plain bars."""
    if data.attrs["patches"]:
        return _over(reference, heat)
    values = stretched(heat)
    bars = colours()[np.round(255 * values).astype(np.intp)]
    down, across = (max(1, side // count) for side, count in zip(reference.shape[:2], values.shape, strict=True))
    return np.asarray(bars.repeat(down, 0).repeat(across, 1))


def _frame(axis: Any, box: Any) -> None:
    from matplotlib.patches import Rectangle

    left, upper, right, lower = box
    place = (left - 0.5, upper - 0.5)
    axis.add_patch(Rectangle(place, right - left, lower - upper, fill=False, edgecolor=MARK, linewidth=1.5))


def _title(name: str, place: int, data: xr.Dataset) -> str:
    if name == "time":
        return f"steps, part {place + 1} of {data.sizes['group']}"
    if name == "head":
        return f"head {place}"
    return _layer(str(data["layer"].values[place]))


def _layer(path: str) -> str:
    """A module's path on two lines: "up_blocks.2" and "attentions.1", with the block where there are several."""
    block, _, inner = path.rpartition(".attn")[0].partition(".attentions.")
    place, _, number = inner.partition(".transformer_blocks.")
    return f"{block}\nattentions.{place}" + (f", block {number}" if number not in ("", "0") else "") if inner else path
