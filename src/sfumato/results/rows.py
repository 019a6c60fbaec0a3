"""Rows of a table as CSV: an interval is four numbers, under the names that it has in JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from sfumato.writing.json_text import json_value


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, the names of the columns first; a column that only some rows have is empty in the others.

    A mapping or an interval takes a column for each of its parts, named by the path that the part has in the JSON.

    Example:
        >>> from sfumato.results.interval import Interval
        >>> print(as_csv([{"map": "daam", "AP": Interval(0.5, 0.4, 0.6, 10)}]), end="")
        map,AP.value,AP.low,AP.high,AP.n
        daam,0.5,0.4,0.6,10
    """
    flat = [_flat(json_value(row)) for row in rows]
    file = io.StringIO()
    known = dict.fromkeys(column for row in flat for column in row)
    # where other rows have an interval, a cell without one is empty in each of its columns
    columns = [name for name in known if not any(other.startswith(f"{name}.") for other in known)]
    flat = [{name: cell for name, cell in row.items() if name in columns or cell is not None} for row in flat]
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return file.getvalue()


def _flat(row: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, cell in row.items():
        path = f"{above}{name}"
        flat |= _flat(cell, f"{path}.") if isinstance(cell, Mapping) else {path: cell}
    return flat
