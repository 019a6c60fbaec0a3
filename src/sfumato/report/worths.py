"""An importance as a table: a bar for each player, with interval and share."""

from __future__ import annotations

from typing import Any

from sfumato.report.markup import isolated, number, percent, table
from sfumato.results.importance import rows_of
from sfumato.results.meaning import Declared


def worth_table(found: Declared) -> str:
    """HTML of an importance of one image."""
    rows = rows_of(found)
    ends = [value for row in rows for value in (row["phi"], row["low"], row["high"]) if value is not None]
    low, high = min(0.0, *ends), max(0.0, *ends)
    head = ("word", "", '<span class="right">worth</span>', "95% interval", '<span class="right">share</span>')
    return table(head, [_line(row, low, high) for row in rows], "worths")


def _line(row: dict[str, Any], low: float, high: float) -> str:
    span = (high - low) or 1.0

    def at(value: float) -> float:
        return 100 * (value - low) / span

    start, end = sorted((at(0), at(row["phi"])))
    whisker = ""
    if row["low"] is not None and row["high"] > row["low"]:
        whisker = f'<i style="left:{at(row["low"]):.2f}%;width:{at(row["high"]) - at(row["low"]):.2f}%"></i>'
    kind = "against" if row["phi"] < 0 else "for"
    bar = (
        f'<span class="worth"><b class="{kind}" style="left:{start:.2f}%;width:{end - start:.2f}%"></b>{whisker}</span>'
    )
    interval = "–" if row["low"] is None else f"{number(row['low'], 3)} to {number(row['high'], 3)}"
    return (
        f'<tr><th scope="row">{isolated(row["player"])}</th><td class="wide">{bar}</td>'
        f'<td class="n">{number(row["phi"], 3)}</td><td>{interval}</td><td class="n">{percent(row["share"])}</td></tr>'
    )
