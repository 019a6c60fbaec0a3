"""The generative process at a glance: samples, clean estimates, attention, layers and how fast all of them change."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.plots.figures import INK, LINES, QUIET, figure_of, finished, picture_axis
from sfumato.results.explanation import Explanation

TYPICAL = 200
"""Timestep at which layers are shown, as in the source's figure 5.5."""

_BRIEF = {"_blocks": "", "_block": "", "attentions.": "att", "transformer.": "t", "resnets.": "res"}
_ROWS = {"samples": "sample", "clean": "clean estimate", "attention_map": "attention"}


def process_sheet(explanation: Explanation) -> Image.Image:
    """Rows of samples, clean estimates and attention maps over the steps, with the curves of their change below.

    The source's figures 5.3, 5.6 and 5.7 on one sheet.

    Raises:
        SfumatoError: The explanation is no profile.
    """
    tree = explanation.tree
    rows = [name for name in _ROWS if name in tree.children]
    curves = [draw for draw in (_trajectory, _distances) if draw(explanation, None)]
    if not rows and not curves:
        raise SfumatoError("this explanation holds no samples, attention or trajectory; make it with method='profile'")
    columns = max((tree[name].sizes["step"] for name in rows), default=10)
    figure = figure_of(max(8.0, 1.02 * columns + 1.4), 1.12 * len(rows) + (2.7 if curves else 0) + 0.3)
    parts = (
        figure.subfigures(2, 1, height_ratios=[1.12 * len(rows) + 0.2, 2.7]) if curves and rows else [figure, figure]
    )
    if rows:
        axes = parts[0].subplots(len(rows), columns, squeeze=False)
        for row, name in enumerate(rows):
            _strip(axes[row], tree[name].to_dataset(), _ROWS[name], last=row == len(rows) - 1)
    if curves:
        for axis, draw in zip(parts[-1].subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
            draw(explanation, axis)
    return finished(figure)


def layers_sheet(explanation: Explanation, timestep: float = TYPICAL, kind: str = "activations") -> Image.Image:
    """The maximum channel of every kept layer at the step nearest to a timestep (the source's figures 5.5 and 5.9).

    Args:
        explanation: A profile.
        timestep: Which step.
        kind: "activations", "gradients" or "gradient_maps" (of ``gradient_volume``).

    Raises:
        SfumatoError: The explanation holds none.
    """
    if kind not in explanation.tree.children:
        raise SfumatoError(f"this explanation holds no {kind}")
    nodes = {name: node.to_dataset() for name, node in explanation.tree[kind].children.items()}
    across = min(5, len(nodes))
    down = -(-len(nodes) // across)
    figure = figure_of(2.0 * across, 2.35 * down)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis, (name, data) in zip(axes, nodes.items(), strict=False):
        one = data.isel(step=int(np.abs(data["timestep"].values - timestep).argmin()))
        within = "max_channel_in_mask" in one
        channel = int(one["max_channel_in_mask" if within else "max_channel"])
        picture_axis(axis).imshow(one["map"].isel(channel=channel).values, cmap="magma")
        mark = "\nin the mask" if within else ""
        axis.set_title(f"{short_name(name)}\nchannel {channel}, t = {float(one['timestep']):.0f}{mark}", fontsize=7)
    for axis in axes[len(nodes) :]:
        axis.set_visible(False)
    return finished(figure)


def _strip(axes: Any, data: xr.Dataset, title: str, *, last: bool) -> None:
    """One row of pictures, the step's timestep below the last row."""
    for place, axis in enumerate(axes):
        if place >= data.sizes["step"]:
            axis.set_visible(False)
            continue
        one = data.isel(step=place)
        shown = one["picture"] if "picture" in one else one["map"]
        picture_axis(axis).imshow(shown.values, cmap=None if "picture" in one else "magma")
        if last:
            axis.set_xlabel(f"t = {float(one['timestep']):.0f}", fontsize=7, color=QUIET)
    axes[0].set_ylabel(title, fontsize=8, color=INK)


def _trajectory(explanation: Explanation, axis: Any) -> bool:
    """Normalised SSIM of every sample with the one before."""
    if "trajectory" not in explanation.tree.children:
        return False
    if axis is not None:
        data = explanation.tree["trajectory"].to_dataset()
        axis.plot(data["timestep"].values, data["normalised_ssim"].values, color=LINES[0])
        _over_time(axis, "normalised SSIM of a sample with the one before")
    return True


def _distances(explanation: Explanation, axis: Any) -> bool:
    """How far each layer's activations moved since the step kept before."""
    if "activations" not in explanation.tree.children:
        return False
    if axis is not None:
        for number, (name, node) in enumerate(explanation.tree["activations"].children.items()):
            data = node.to_dataset()
            colour = LINES[number % len(LINES)]
            style = "-" if number < len(LINES) else "--"
            axis.plot(data["timestep"].values, data["distance"].values, style, color=colour, label=short_name(name))
        _over_time(axis, "distance of activations to the step kept before")
        axis.legend(fontsize=5.5, frameon=False, ncols=2)
    return True


def _over_time(axis: Any, title: str) -> None:
    axis.set_title(title, fontsize=8, color=INK)
    axis.set_xlabel("timestep", fontsize=7)
    axis.invert_xaxis()
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.25)


def short_name(name: str, longest: int = 30) -> str:
    """A layer's name as a figure has room for it: the words of diffusers' block names left out."""
    for long, brief in _BRIEF.items():
        name = name.replace(long, brief)
    return name if len(name) <= longest else "…" + name[1 - longest :]
