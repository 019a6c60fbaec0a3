"""Text and numbers that are read from the disk, as a script sets them in a table: bounded, visible, without paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sfumato.metrics.registry import with_headings
from sfumato.report.markup import number, visible
from sfumato.results.interval import Interval

MOST = 300
"""Characters of a text in a cell."""
MOST_COLUMNS = 40
_QUOTED = re.compile(r"""(["'])(?:~|\.{1,2}|[A-Za-z]:)?[/\\][^"'\n]*[/\\]([^"'/\\\n]+)[/\\]?\1""")
_BARE = re.compile(
    r"(?<![\w./\\~-])(?!(?<=:)//)(?:~[\w.-]*|\.{1,2}|[A-Za-z]:)?[/\\](?:[^\s/\\\"'<>|]+[/\\])+([^\s/\\\"'<>|]*)|file://\S+"
)


def without_paths(text: str) -> str:
    """A text in which the last part stands for each path of this machine.

    Example:
        >>> without_paths("the picture '/home/ann/my cats/cat.png' is missing; see /var/log/run.txt, and/or https://a.b/c")
        "the picture 'cat.png' is missing; see run.txt, and/or https://a.b/c"
    """
    return _BARE.sub(lambda found: found[1] or "...", _QUOTED.sub(r"\1\2\1", text))


def cell(value: Any, most: int = MOST) -> str:
    """A value as people read it, on one line."""
    if value is None:
        return "–"
    if isinstance(value, Interval):
        return value.brief
    if isinstance(value, Mapping) and {"value", "low", "high", "n"} <= set(value):
        return Interval.from_dict(value).brief
    if isinstance(value, Mapping):
        value = ", ".join(f"{name}: {cell(one)}" for name, one in value.items())
    elif isinstance(value, list | tuple):
        value = ", ".join(map(cell, value))
    elif not isinstance(value, str):
        return number(value) if isinstance(value, bool | int | float) else cell(str(value), most)
    text = without_paths(" ".join(value[: 10 * most].split()))
    return visible(text if len(text) <= most else text[: most - 1] + "…")


def table(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows as a script draws them: the heads of the columns, which hold numbers, and the cells.

    Metrics, as the heads or in a column of measures, have their unit and an arrow towards better values.
    """
    heads, found = with_headings(list(rows))
    names = list(heads)[:MOST_COLUMNS]
    value = laid(names, [[row.get(name) for name in names] for row in found])
    return value | {"head": [cell(heads[name]) for name in names]}


def laid(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """The same of rows that are lists, in the order of the columns."""
    return {
        "head": [cell(name) for name in names],
        "right": [all(_is_number(row[place]) for row in rows) for place in range(len(names))],
        "rows": [[cell(value) for value in row] for row in rows],
    }


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float | Interval | Mapping)
