"""What the tab Runs shows: the list of runs, one run with its finding, and the rows of its table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from sfumato.app.pieces.cells import MOST_COLUMNS, cell, laid, table, without_paths
from sfumato.app.server.runs import FIGURE, FINDING, Listed, own_file
from sfumato.app.server.workshop import shown_name
from sfumato.errors import SfumatoError, Unreadable
from sfumato.inputs.image import decoded
from sfumato.reading import open_bytes, read_bytes, read_json
from sfumato.report.markup import picture_uri
from sfumato.runs.concluding import TABLE
from sfumato.runs.manifest import Manifest
from sfumato.runs.task import find_task

MOST_ROWS = 100
MOST_SEARCHED = 1_000_000
MOST_TEXT = 200
"""Characters of what rows are filtered by."""
MOST_FIGURE, MOST_SIDE = 16 * 2**20, 1600
MOST_FINDING = 8 * 2**20
WAITING = "it is written when the run has ended, or by sfumato run table"
NOTHING: dict[str, Any] = {}
NO_ROWS: dict[str, Any] = {}
_OF_RUN = ("task_version", "device", "batch", "shard_size")


def line_of(run: Listed) -> dict[str, Any]:
    """A run in the list."""
    return {
        "id": run.id,
        "name": cell(run.name),
        "task": cell(run.settings.get("task")),
        "model": _model(run),
        "when": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.when)),
        "running": run.driven,
        "counts": _counts(run),
        "concluded": run.concluded,
        "wrong": cell(run.wrong) if run.wrong else "",
    }


def page_of(run: Listed, *, known: str = "") -> dict[str, Any]:
    """A run with all that is shown of it.

    Args:
        run: Which.
        known: Its state of conclusions that the page has already, whose finding and figure are not sent again.
    """
    value: dict[str, Any] = line_of(run)
    if run.wrong:
        return value
    value |= {"about": _task(run), "settings": _settings(run), "failures": _failures(run)}
    if known == run.concluded:
        return value | {"same": True}
    return value | {"finding": _finding(run), "figure": _figure(run)}


def rows_of(run: Listed, text: str = "") -> dict[str, Any]:
    """The first rows of a run's table, of those that hold a text in any column if one is given."""
    text = text[:MOST_TEXT]
    value: dict[str, Any] = {"id": run.id, "text": text}
    path = own_file(run.path, TABLE)
    if run.wrong or path is None:
        return value | {"said": "" if run.wrong else f"There is no table yet; {WAITING}."}
    try:
        names, rows, total, searched = _searched(path, text)
    except Exception as error:  # as many kinds as there are ways to damage a file
        return value | {"said": f"The table cannot be read: {cell(str(error).partition('.')[0])}"}
    return value | {"table": laid(names, rows), "said": _said(len(rows), total, searched, text)}


def _said(shown: int, total: int, searched: int, text: str) -> str:
    if not text:
        return f"The first {shown:,} of {total:,} rows." if shown < total else f"{total:,} rows."
    most = f", among the first {searched:,}" if searched < total and shown < MOST_ROWS else ""
    if shown == MOST_ROWS:
        return f"The first {shown:,} rows with this text."
    return f"{shown:,} of {total:,} rows have this text{most}."


def _searched(path: Path, text: str) -> tuple[list[str], list[list[Any]], int, int]:
    """Columns, rows that hold a text, how many rows there are, and how many were searched."""
    from pyarrow.parquet import ParquetFile

    rows: list[list[Any]] = []
    searched = 0
    with open_bytes(path) as opened:
        file = ParquetFile(opened, buffer_size=2**20, pre_buffer=False)
        names = file.schema_arrow.names[:MOST_COLUMNS]
        for batch in file.iter_batches(batch_size=2000 if text else MOST_ROWS):
            searched += batch.num_rows
            found = _with_text(batch, text) if text else batch.slice(0, MOST_ROWS).to_pylist()
            rows += [[row.get(name) for name in names] for row in islice(found, MOST_ROWS - len(rows))]
            if len(rows) == MOST_ROWS or searched >= MOST_SEARCHED:
                break
        return names, rows, file.metadata.num_rows, searched


def _with_text(batch: Any, text: str) -> Iterator[Mapping[str, Any]]:
    """The rows of a batch in which a text stands, in large or small letters, as they are shown."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keep = pa.array([False] * batch.num_rows)
    texts = [
        name for name, kind in zip(batch.schema.names, batch.schema.types, strict=True) if pa.types.is_string(kind)
    ]
    for name in texts:
        holds = pc.match_substring(batch.column(name), text, ignore_case=True)
        keep = pc.or_(keep, pc.fill_null(holds, False))
    for row in batch.filter(keep).to_pylist():
        if any(_stands_in(row[name], text) for name in texts):  # and not in a path, which would be found by guessing
            yield row


def _stands_in(value: str | None, text: str) -> bool:
    return value is not None and text.lower() in without_paths(value).lower()


def _counts(run: Listed) -> dict[str, int] | None:
    if run.counts is None:
        return None
    return {state: getattr(run.counts, state) for state in ("ok", "failed", "invalid", "open", "total")}


def _model(run: Listed) -> str:
    given = run.settings.get("model")
    return cell(shown_name(given)) if isinstance(given, str) and given else "–"


def _task(run: Listed) -> dict[str, Any]:
    """Question and claim of the task, from the registry."""
    try:
        found = find_task(run.settings.get("task", ""))
    except SfumatoError:
        return {"question": "", "note": "This task is not installed here, so its question is not known."}
    claim = found.claim
    return {
        "question": cell(found.question),
        "claim": cell(claim.text, 1000) if claim else "",
        "paper": cell(claim.paper) if claim else "",
    }


def _settings(run: Listed) -> list[list[str]]:
    """Names and values, those of the task first."""
    options, versions = run.settings.get("options"), run.settings.get("versions")
    found: dict[str, Any] = dict(options) if isinstance(options, Mapping) else {}
    found |= {name.replace("_", " "): run.settings.get(name) for name in _OF_RUN}
    if isinstance(versions, Mapping):
        found["versions"] = ", ".join(f"{name} {value}" for name, value in versions.items())
    return [
        [cell(name), cell(value) if value not in ("", [], {}) else "–"] for name, value in islice(found.items(), 100)
    ]


def _failures(run: Listed) -> dict[str, Any]:
    """The first rows without a result, with their reasons."""
    assert run.counts is not None
    total = run.counts.failed + run.counts.invalid
    if not total:
        return {"total": 0}
    try:
        with Manifest(run.path, looking=True) as manifest:
            rows = list(islice(manifest.unmeasured(opened=False), MOST_ROWS))
    except Exception:  # it was removed or begun anew meanwhile
        return {"total": total}
    found = [{"row": one.place, "line": one.line, "state": one.state, "reason": one.reason} for one in rows]
    return {"total": total, "table": table(found)}


def _finding(run: Listed) -> dict[str, Any]:
    path = own_file(run.path, FINDING)
    if path is None:
        return {"note": f"There is no finding yet; {WAITING}."}
    try:
        found = read_json(path, MOST_FINDING)
        return {
            "sentence": cell(found["sentence"], 2000),
            "verdict": cell(found["verdict"]) if found["verdict"] is not None else "",
            "table": table(islice(_mappings(found["rows"]), MOST_ROWS)),
            "more": max(0, len(found["rows"]) - MOST_ROWS),
        }
    except Unreadable as error:
        return {"note": f"The finding cannot be read: {cell(error.reason)}"}
    except Exception:  # of another shape
        return {"note": "The finding cannot be read: it is of another shape"}


def _mappings(rows: Any) -> Iterator[Mapping[str, Any]]:
    for row in rows:
        yield dict(row.items())


def _figure(run: Listed) -> str:
    path = own_file(run.path, FIGURE)
    if path is None:
        return ""
    try:
        picture = decoded(read_bytes(path, MOST_FIGURE), "the figure")
    except SfumatoError:
        return ""
    picture.thumbnail((MOST_SIDE, MOST_SIDE))
    return picture_uri(picture, 88)
