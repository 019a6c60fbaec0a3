"""Two profiles side by side: the samples of both, and the curves of how alike they are."""

from __future__ import annotations

import numpy as np
from PIL import Image

from sfumato.metrics.divergence import Divergence
from sfumato.plots.figures import INK, LINES, figure_of, finished, picture_axis
from sfumato.results.explanation import Explanation


def divergence_sheet(one: Explanation, other: Explanation, found: Divergence) -> Image.Image:
    """Rows of the samples of both over the common steps, normalised SSIM and attention distance below (5.14, 5.15)."""
    times = found.steps["timestep"].values
    figure = figure_of(max(8.0, 1.02 * len(times)), 5.0)
    upper, lower = figure.subfigures(2, 1, height_ratios=[2.2, 2.8])
    axes = upper.subplots(2, len(times), squeeze=False)
    for row, (profile, title) in enumerate(((one, "first"), (other, "second"))):
        data = profile.tree["samples"].to_dataset()
        known = data["step"].values.tolist()
        for axis, step, time in zip(axes[row], found.steps["step"].values, times, strict=True):
            picture_axis(axis).imshow(data["picture"].values[known.index(step)])
            if row:
                axis.set_xlabel(f"t = {time:.0f}", fontsize=7)
        axes[row, 0].set_ylabel(title, fontsize=8, color=INK)
    panels = [("normalised_ssim", "normalised SSIM of the samples")]
    panels += [("attention", "distance of the attention maps")] if "attention" in found.steps else []
    panels += [("layers", "distance of the layers")] if "layers" in found.steps else []
    for axis, (name, title) in zip(lower.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        values = np.atleast_2d(found.steps[name].values)
        for number, line in enumerate(values):
            axis.plot(times, line, color=LINES[number % len(LINES)])
        axis.set_title(title, fontsize=8, color=INK)
        axis.invert_xaxis()
        axis.set_xlabel("timestep", fontsize=7)
        axis.grid(alpha=0.25)
    return finished(figure)
