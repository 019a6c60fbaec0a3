"""Interactive charts of explanations, in Plotly: axes with units, colours that colour-blind people can tell apart."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from sfumato.plots.figures import LINES
from sfumato.results.explanation import Explanation
from sfumato.results.importance import NODE, importance_methods, importance_rows

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


def importance_bars(explanation: Explanation) -> Figure | None:
    """What each word is worth, with its 95% interval; None where the explanation does not say."""
    known = importance_methods(explanation)
    if not known:
        return None
    rows = importance_rows(explanation, known[0])
    about = explanation.tree[f"{known[0]}/{NODE}"].attrs
    unit = f"worth, in units of: {about['value']}" if "value" in about else "worth"
    figure = chart(
        f"What each word adds, by {known[0]}, and its share of all: longer is more; thin lines are 95% intervals",
        unit,
        "",
        height=110 + 34 * len(rows),
    )
    errors = [None if row["high"] is None else row["high"] - row["phi"] for row in rows]
    shares = ["" if row["share"] is None else f" · {row['share']:.0%}" for row in rows]
    labels = [
        f"{number}. {row['player']}{share}" for number, (row, share) in enumerate(zip(rows, shares, strict=True), 1)
    ]
    figure.add_bar(
        x=[row["phi"] for row in rows],
        y=labels,
        orientation="h",
        marker={"color": [LINES[0] if row["phi"] >= 0 else LINES[1] for row in rows]},
        error_x={"array": [error or 0 for error in errors], "color": INK, "thickness": 1.2, "width": 3},
        hovertemplate="%{y}<br>%{x:.4g}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure
