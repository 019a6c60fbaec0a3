"""What became of the image when something in the process was changed: ablations, sweeps, switches."""

from __future__ import annotations

import numpy as np
import xarray as xr
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.plots.figures import INK, LINES, QUIET, figure_of, finished, picture_axis
from sfumato.results.explanation import Explanation

MOST = 24


def ablation_sheet(explanation: Explanation) -> Image.Image:
    """The image, the image with the ablation, and where they differ.

    Raises:
        SfumatoError: The explanation holds no ablation.
    """
    data = _node(explanation, "ablation")
    figure = figure_of(7.2, 2.7)
    axes = [picture_axis(axis) for axis in figure.subplots(1, 3)]
    axes[0].imshow(np.asarray(explanation.image))
    axes[1].imshow(data["picture"].values)
    axes[2].imshow(data["moved"].values, cmap="magma", vmin=0, vmax=1)
    share = float(data["changed"].values.mean())
    titles = (
        "as it was",
        f"ablated: normalised SSIM {float(data['normalised_ssim']):.3f}",
        f"change: {share:.0%} of the pixels",
    )
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=8, color=INK)
    return finished(figure)


def sweep_sheet(explanation: Explanation) -> Image.Image:
    """The images of a sweep or a ranking, each with its layer, channel and normalised SSIM (tables 5.1 and 5.2).

    Raises:
        SfumatoError: The explanation holds no sweep.
    """
    data = _node(explanation, "sweep")
    count = min(MOST, data.sizes["run"])
    across = min(8, count + 1)
    down = -(-(count + 1) // across)
    figure = figure_of(1.5 * across, 1.95 * down)
    axes = [picture_axis(axis) for axis in figure.subplots(down, across, squeeze=False).ravel()]
    axes[0].imshow(np.asarray(explanation.image))
    axes[0].set_title("as it was", fontsize=7, color=INK)
    for number, axis in enumerate(axes[1:]):
        if number >= count:
            axis.set_visible(False)
            continue
        one = data.isel(run=number)
        axis.imshow(one["picture"].values)
        name = f"{str(one['layer'].values)[-24:]}:{int(one['channel_number'])}"
        axis.set_title(f"{name}\nnormalised SSIM {float(one['normalised_ssim']):.3f}", fontsize=6, color=INK)
    return finished(figure)


def switch_sheet(explanation: Explanation, image: int = 0) -> Image.Image:
    """The outcomes of switching at every step, and their normalised SSIM to either condition alone (figure 5.17).

    Raises:
        SfumatoError: The explanation holds no switch.
    """
    data = _node(explanation, "switch")
    several = "image" in data.dims
    one = data.isel(image=image) if several else data
    count = one.sizes["switch"]
    figure = figure_of(max(7.5, 1.05 * (count + 2)), 4.4)
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.35, 2.9])
    pictures = [one["first"].values, *one["picture"].values, one["second"].values]
    times = one["timestep"].values
    titles = ["first alone", *(f"t = {time:.0f}" for time in times), "second alone"]
    for axis, picture, title in zip(upper.subplots(1, count + 2), pictures, titles, strict=True):
        picture_axis(axis).imshow(picture)
        axis.set_title(title, fontsize=7, color=INK)
    axis = lower.subplots()
    for name, colour, label in (
        ("normalised_ssim_to_first", LINES[0], "first"),
        ("normalised_ssim_to_second", LINES[1], "second"),
    ):
        values = data[name].values.reshape(-1, count)
        axis.plot(
            times, values.mean(0), "o-", color=colour, markersize=3, label=f"normalised SSIM to the {label} alone"
        )
        if several:
            low, high = np.percentile(values, [10, 90], axis=0)
            axis.fill_between(times, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.invert_xaxis()
    axis.set_xlabel("timestep of the switch", fontsize=8, color=QUIET)
    axis.grid(alpha=0.25)
    axis.legend(fontsize=7, frameon=False)
    return finished(figure)


def _node(explanation: Explanation, name: str) -> xr.Dataset:
    if name not in explanation.tree.children:
        raise SfumatoError(f"this explanation holds no {name}; its nodes are: {', '.join(explanation.tree.children)}")
    return explanation.tree[name].to_dataset()
