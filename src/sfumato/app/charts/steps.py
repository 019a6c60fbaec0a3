"""Charts of steps, in Plotly: which words led when, and the curves of the games."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sfumato.app.charts.chart import chart
from sfumato.judging.judge import Verdict
from sfumato.plots.figures import LINES
from sfumato.results.explanation import Explanation

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

CONTROL = "#8a847a"
MARKS = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star", "triangle-down")
DASHES = ("solid", "dot", "dash", "dashdot")

MOST_BOTH = 3
"""Words whose lines are drawn at first where two runs are compared: those that led most in the first; a click in the
legend shows the others."""


def relevance_chart(explanations: Sequence[Explanation], titles: Sequence[str], at: Sequence[int]) -> Figure | None:
    """The relevance of every word over the timesteps; None where nobody asked for it.

    Args:
        explanations: One, or two that are compared; the lines of the second are dotted.
        titles: Of each.
        at: Steps that are shown elsewhere; they are marked.
    """
    found = [
        (title, one.tree["relevance"].to_dataset())
        for title, one in zip(titles, explanations, strict=True)
        if "relevance" in one.tree.children
    ]
    if not found:
        return None
    unit = str(found[0][1].attrs.get("unit", "relevance")).partition(",")[0]
    figure = chart("", "timestep, from noise to image", f"{unit} (sum over places)", legend=True)
    first = found[0][1]["score"].values.mean(0)
    shown = set(first.argsort()[::-1][:MOST_BOTH].tolist()) if len(found) > 1 else set(range(len(first)))
    for number, (title, data) in enumerate(found):
        times = data["timestep"].values.tolist()
        for place, word in enumerate(data["word"].values.tolist()):
            occurrence = int(data["occurrence"].values[place])
            name = word if occurrence == 1 else f"{word} #{occurrence}"
            figure.add_scatter(
                x=times,
                y=data["score"].values[:, place].tolist(),
                mode="lines+markers",
                name=name if len(found) == 1 else f"{name}, {title}",
                visible=True if place in shown else "legendonly",
                line={"color": LINES[place % len(LINES)], "dash": DASHES[number], "width": 2},
                marker={"symbol": MARKS[place % len(MARKS)], "size": 6},
                hovertemplate=f"{name}: %{{y:.3g}} at t = %{{x:.0f}}<extra></extra>",
            )
        if not number:
            for step, time in zip(data["step"].values.tolist(), times, strict=True):
                if step in at:
                    figure.add_vline(x=time, line={"color": CONTROL, "width": 1, "dash": "dot"})
    figure.update_xaxes(autorange="reversed")
    figure.update_layout(margin={"t": 12}, legend={"y": -0.22}, height=360 + 12 * len(figure.data))
    return figure


def game_charts(verdict: Verdict, label: str, measure: str) -> dict[str, Figure]:
    """The curves of each game, by name.

    Args:
        verdict: Of one map and the controls.
        label: How the map is called.
        measure: What the images are compared by, in words.
    """
    figures: dict[str, Any] = {}
    for game, name in verdict.pairs():
        done = "taken away" if game == "deletion" else "given back"
        figure = chart(
            f"{game.capitalize()}: {'higher' if game == 'deletion' else 'lower'} is better",
            f"places {done}, % of all",
            "distance (1: all is gone)",
            height=330,
            legend=True,
        )
        for number, (own, played) in enumerate(verdict.chosen(game, name).items()):
            curve = played[0].curve
            figure.add_scatter(
                x=(100 * curve.shares).tolist(),
                y=curve.values.tolist(),
                mode="lines+markers",
                name=f"{label if not number else own} (area {curve.auc:.2f})",
                line={
                    "color": CONTROL if number else LINES[0],
                    "dash": {"random": "dash", "centre": "dot"}.get(own, "solid"),
                    "width": 2 if number else 3,
                },
                marker={"symbol": MARKS[number], "size": 6},
                hovertemplate=f"%{{x:.0f}}% {done}: %{{y:.2f}}<extra>{own if number else label}</extra>",
            )
        figure.update_yaxes(rangemode="tozero")
        figures[game] = figure
    return figures
