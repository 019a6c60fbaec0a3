"""Interactive charts of the process: how fast a sample changes, how far layers move, where a part was drawn from."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from sfumato.app.charts.chart import INK, chart
from sfumato.metrics.divergence import Divergence
from sfumato.plots.figures import LINES
from sfumato.plots.process import short_name
from sfumato.plots.volumes import MOST_POINTS
from sfumato.results.explanation import Explanation

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TIME = "timestep t (from noise to image)"
LINE_LETTERS = 46
"""Letters of a title's line, so that it fits a phone."""
STYLES = ("solid", "dash", "dot", "dashdot")


def over_time(title: str, up: str, **more: Any) -> Figure:
    """An empty chart over the timesteps of a run, which fall from left to right."""
    figure = _titled(title, TIME, up, **more)
    figure.update_xaxes(autorange="reversed", zeroline=False)
    if more.get("legend"):
        figure.update_layout(legend={"orientation": "h", "y": -0.32, "x": 0, "font": {"size": 11}})
    return figure


def trajectory_chart(explanation: Explanation) -> Figure | None:
    """Normalised SSIM of every sample with the one before (the source's figure 5.3); None where it was not kept."""
    if "trajectory" not in explanation.tree.children:
        return None
    data = explanation.tree["trajectory"].to_dataset()
    figure = over_time(
        "How much each step changes the sample: low is much, 1 is nothing", "normalised SSIM with the step before"
    )
    figure.add_scatter(
        x=data["timestep"].values.tolist(),
        y=data["normalised_ssim"].values.tolist(),
        mode="lines+markers",
        marker={"size": 4},
        line={"color": LINES[0]},
        hovertemplate="t = %{x:.0f}: normalised SSIM %{y:.3f}<extra></extra>",
    )
    return figure


def distance_chart(explanation: Explanation) -> Figure | None:
    """How far each layer's output moved since the step kept before; None where no layers were kept."""
    if "activations" not in explanation.tree.children:
        return None
    nodes = explanation.tree["activations"].children
    figure = over_time(
        "How far each layer's output moved since the step kept before: a peak is where that layer changed its mind",
        "distance (the layer's own units)",
        legend=True,
        height=340 + 12 * len(nodes),
    )
    for number, (name, node) in enumerate(nodes.items()):
        data = node.to_dataset()
        _line(figure, number, name, data["timestep"].values, data["distance"].values)
    return figure


def alike_chart(found: Divergence) -> Figure:
    """Normalised SSIM between the samples of two profiles, step by step."""
    figure = over_time(
        "How alike the two samples are at each step: 1 is the same picture",
        "normalised SSIM between the two (1 at most)",
    )
    figure.add_scatter(
        x=found.steps["timestep"].values.tolist(),
        y=found.steps["normalised_ssim"].values.tolist(),
        mode="lines+markers",
        line={"color": LINES[0]},
        hovertemplate="t = %{x:.0f}: normalised SSIM %{y:.3f}<extra></extra>",
    )
    if found.parts_at is not None:
        figure.add_vline(x=found.parts_at, line={"color": INK, "dash": "dot"}, annotation_text="they part")
    return figure


def apart_chart(found: Divergence) -> Figure | None:
    """How far layers and attention of two profiles are apart, each divided by its own largest distance."""
    names = found.steps["layer"].values.tolist() if "layers" in found.steps else []
    lines = [(name, found.steps["layers"].sel(layer=name).values) for name in names]
    if "attention" in found.steps:
        lines.append(("attention map", found.steps["attention"].values))
    if not lines:
        return None
    figure = over_time(
        "Which layers differ, and when: each line is divided by its own largest distance",
        "distance (share of the largest)",
        legend=True,
        height=340 + 12 * len(lines),
    )
    for number, (name, values) in enumerate(lines):
        most = float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
        _line(figure, number, name, found.steps["timestep"].values, values / (most or 1.0))
    return figure


def switch_chart(explanation: Explanation) -> Figure:
    """How alike the outcome of each switch is to either condition alone (the source's figure 5.17)."""
    data = explanation.tree["switch"].to_dataset()
    figure = over_time(
        "When the switch still matters: where the first line reaches 1, it came too late to change the image",
        "normalised SSIM of the outcome (1 at most)",
        legend=True,
    )
    lines = (("normalised_ssim_to_first", "to the first alone"), ("normalised_ssim_to_second", "to the second alone"))
    for number, (name, label) in enumerate(lines):
        _line(figure, number, label, data["timestep"].values, data[name].values)
    return figure


def volume_chart(explanation: Explanation, place: int) -> Figure | None:
    """The gradient volume of one step as points in space; None where only its sum was made.

    Each point is a place of the sample (across and deep) from which one pixel of the part (upwards) drew more than the
    volume's mean; the strongest 6,000 of them.

    Args:
        explanation: Of the method ``gradient_volume``.
        place: Which of its steps.
    """
    data = explanation.tree["gradient_volume"].to_dataset()
    if "volume" not in data:
        return None
    one = data.isel(step=place)
    volume = one["volume"].values  # (pixel, y, x)
    above = np.argwhere(volume > volume.mean())
    values = volume[tuple(above.T)]
    order = np.argsort(-values)[:MOST_POINTS]
    pixel, y, x = above[order].T
    strength = np.log10(values[order] + 1e-12)
    low, high = np.percentile(strength, [2, 98]) if len(strength) else (0.0, 1.0)
    time = f"t = {float(one['timestep']):.0f}"
    title = f"{time}: each point is a place from which one pixel of the part (upwards) drew; drag to turn"
    figure = chart("", "", "", height=580)
    figure.add_scatter3d(
        x=x.tolist(),
        y=y.tolist(),
        z=pixel.tolist(),
        mode="markers",
        marker={
            "size": 2.6 if len(order) > 600 else 5,
            "color": np.round(strength, 3).tolist(),
            "colorscale": "Viridis",
            "cmin": float(low),
            "cmax": float(high),
            "opacity": 0.85,
            "colorbar": {
                "title": {"text": "log10 of the derivative", "side": "top"},
                "orientation": "h",
                "thickness": 10,
                "len": 0.7,
                "y": 0,
                "yanchor": "bottom",
            },
        },
        hovertemplate="from x %{x}, y %{y}<br>to pixel %{z} of the part<extra></extra>",
    )
    depth, height, width = volume.shape
    ticks = {"dtick": max(1, depth // 5)}
    axis = {"gridcolor": "#b9b1a4", "zerolinecolor": "#b9b1a4", "backgroundcolor": "rgba(0,0,0,0)", "color": INK}
    figure.update_scenes(
        xaxis=axis | {"title": {"text": "x (cells)"}, "range": [0, width]},
        yaxis=axis | {"title": {"text": "y (cells)"}, "range": [height, 0]},
        zaxis=axis | {"title": {"text": "pixel of the part (number)"}, "range": [0, depth]} | ticks,
        aspectmode="cube",
        camera={"eye": {"x": 1.75, "y": 1.75, "z": 1.15}, "center": {"x": 0, "y": 0, "z": -0.12}},
        domain={"y": [0.14, 0.92]},
    )
    wrapped = "<br>".join(textwrap.wrap(title, LINE_LETTERS))
    where: dict[str, Any] = {"x": 0, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "top"}
    figure.add_annotation(text=wrapped, showarrow=False, align="left", font={"size": 13}, **where)
    figure.update_layout(title=None)  # with one, Gradio leaves a wide margin around the scene
    return figure


def _titled(title: str, across: str, up: str, **more: Any) -> Figure:
    """An empty chart whose title has as many lines as it needs, from the chart's left edge."""
    figure = chart("", across, up, **more)
    lines = textwrap.wrap(title, LINE_LETTERS)
    place = {"x": 0, "xref": "container", "y": 1 - 14 / figure.layout.height, "yref": "container", "pad": {"l": 6}}
    figure.update_layout(
        title={"text": "<br>".join(lines), "font": {"size": 13}, "yanchor": "top"} | place,
        margin={"t": 30 + 18 * len(lines)},
    )
    figure.update_xaxes(title_font_size=12)
    figure.update_yaxes(title_font_size=12)
    return figure


def _line(figure: Figure, number: int, name: str, times: Any, values: Any) -> None:
    figure.add_scatter(
        x=np.asarray(times).tolist(),
        y=[None if not np.isfinite(one) else float(one) for one in values],
        name=short_name(name),
        mode="lines+markers",
        marker={"size": 5},
        line={"color": LINES[number % len(LINES)], "dash": STYLES[number % len(STYLES)]},
        hovertemplate="t = %{x:.0f}: %{y:.4g}<extra>" + short_name(name) + "</extra>",
    )
