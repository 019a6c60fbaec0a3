"""An empty chart: axes with units, a title that says how to read it, colours that everybody can tell apart."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from sfumato.plots.figures import LINES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

INK, QUIET, GRID = "#7d776d", "#8a847a", "rgba(128,120,108,.22)"
"""Readable on paper and on a dark page alike."""
LINE = 56
"""Letters of a title's line that a phone has room for."""


def chart(title: str, across: str, up: str, *, height: int = 340, legend: bool = False) -> Figure:
    """An empty chart.

    Args:
        title: What it shows, and how to read it, in one line.
        across: The x axis with its unit.
        up: The y axis with its unit.
        height: In pixels.
        legend: Whether lines are named beside the chart.
    """
    from plotly.graph_objects import Figure

    lines = textwrap.wrap(title, LINE)
    figure = Figure()
    axis: dict[str, Any] = {"gridcolor": GRID, "zerolinecolor": QUIET, "linecolor": GRID, "automargin": True}
    figure.update_layout(
        title={
            "text": "<br>".join(lines),
            "font": {"size": 13},
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 10},
        },
        xaxis=axis | {"title": {"text": across}},
        yaxis=axis | {"title": {"text": up}},
        height=height,
        margin={"l": 8, "r": 8, "t": 24 + 18 * len(lines), "b": 8},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": QUIET, "activecolor": LINES[0]},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": INK},
        colorway=list(LINES),
        showlegend=legend,
        legend={"orientation": "h", "y": -0.25},
        hoverlabel={"font": {"family": "system-ui, sans-serif"}},
    )
    return figure
