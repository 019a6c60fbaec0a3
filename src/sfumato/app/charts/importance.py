"""What each word is worth, as bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfumato.app.charts.chart import INK, chart
from sfumato.plots.figures import LINES
from sfumato.results.explanation import Explanation
from sfumato.results.importance import importances, rows_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def importance_bars(explanation: Explanation) -> Figure | None:
    """What each word is worth, with its 95% interval; None where the explanation does not say."""
    known = importances(explanation.tree)
    if not known:
        return None
    method, one = next(iter(known.items()))
    rows = rows_of(one)
    value = one.node.attrs.get("value", one.unit)
    unit = f"worth, in units of: {value}" if value else "worth"
    figure = chart(
        f"What each word adds, by {method}, and its share of all: longer is more; thin lines are 95% intervals",
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
