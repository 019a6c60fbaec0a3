"""Rows of a table as JSON and as CSV: an interval is four numbers in both, under the same names."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sfumato.results.interval import Interval


def plain_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows as JSON holds them: an interval is a mapping (``Interval.to_dict``), a number that is not finite None."""
    return [{str(column): _plain(cell) for column, cell in row.items()} for row in rows]


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, the names of the columns first; a column that only some rows have is empty in the others.

    A mapping or an interval takes a column for each of its parts, named by the path that the part has in the JSON.

    Example:
        >>> print(as_csv([{"map": "daam", "AP": Interval(0.5, 0.4, 0.6, 10)}]), end="")
        map,AP.value,AP.low,AP.high,AP.n
        daam,0.5,0.4,0.6,10
    """
    flat = [_flat(row) for row in plain_rows(rows)]
    file = io.StringIO()
    known = dict.fromkeys(column for row in flat for column in row)
    # where other rows have an interval, a cell without one is empty in each of its columns
    columns = [name for name in known if not any(other.startswith(f"{name}.") for other in known)]
    flat = [{name: cell for name, cell in row.items() if name in columns or cell is not None} for row in flat]
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return file.getvalue()


def _plain(cell: Any) -> Any:
    match cell:
        case Interval():
            return cell.to_dict()
        case float():
            return cell if math.isfinite(cell) else None
        case Mapping():
            return {str(name): _plain(part) for name, part in cell.items()}
        case list() | tuple():
            return [_plain(part) for part in cell]
        case _:
            return cell


def _flat(row: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, cell in row.items():
        path = f"{above}{name}"
        flat |= _flat(cell, f"{path}.") if isinstance(cell, Mapping) else {path: cell}
    return flat
