"""What a run leaves beside its records: the finding, the table of all items, their maps and their pictures.

Everything here is made from the folder alone and can be made again without a model. Records are read shard by shard and
rows are written as they come, so the memory that it takes does not grow with the number of items.
"""

from __future__ import annotations

import csv
import json
import shutil
from codecs import getwriter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.errors import StoreError
from sfumato.runs.finding import written_in
from sfumato.runs.manifest import Manifest, Planned
from sfumato.runs.own import MAPS, PICTURES, STAGE, remove_own
from sfumato.runs.shards import DamagedShard, records_of
from sfumato.runs.task import Item, Record, Task
from sfumato.runs.worker import request_from
from sfumato.writing.files import replacing_file

TABLE, FAILED = "items.parquet", "failed.csv"
WRITTEN = (TABLE, MAPS, PICTURES, FAILED, STAGE)
"""What is made from the records beside the finding."""
GIVEN = "given."
"""Before the name of a user's column that is called like one of the run's own."""
MAP = "map"
"""The array of each group of ``arrays.zarr``."""
_CHUNK = 2**20
"""Bytes of a chunk of maps, about."""
_BATCH = 5000
"""Rows of the table that are converted together."""


class StoredRecords:
    """The records of a run in the order of the plan; each pass reads the shards anew.

    Args:
        manifest: Of the run.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._count = manifest.measured_items

    def __iter__(self) -> Iterator[tuple[Item, Record]]:
        """Every item that was measured, with its record."""
        for planned, record in self.with_plan():
            yield Item(request_from(self._manifest.folder, planned.request), planned.about), record

    def __len__(self) -> int:
        """How many items were measured."""
        return self._count

    def with_plan(self) -> Iterator[tuple[Planned, Record]]:
        """Every item as the plan holds it, with its record."""
        for group in self._manifest.measured():
            files: dict[str, dict[int, str]] = {}
            for one in group:
                files.setdefault(one.file or "", {})[one.number] = one.key
            found: dict[int, Record] = {}
            for file, wanted in files.items():
                found |= dict(records_of(self._manifest.folder / file, self._manifest.digest_of(file), wanted))
            yield from ((one, found[one.number]) for one in group)


def conclude(manifest: Manifest, task: Task, options: Any) -> None:
    """Write what the records of a run show into its folder.

    Raises:
        StoreError: A shard is damaged, and its items are measured again when the run is resumed; or something cannot be
            written.
    """
    folder, records = manifest.folder, StoredRecords(manifest)
    try:
        _export(manifest, records)
        _list_failures(manifest)
        found = task.parts.conclude(records, options, about(manifest)) if len(records) else None
    except DamagedShard as error:
        count = manifest.reopen_damaged(thorough=True)
        raise StoreError(
            f"{error}; resume the run to measure the {count:,} items again whose shards are lost"
        ) from error
    for name in set(written_in(folder)).difference(() if found is None else found.written):
        (folder / name).unlink(missing_ok=True)
    if found is not None:
        found.write(folder)


def about(manifest: Manifest) -> dict[str, Any]:
    """What the numbers of a run depend on, for the caption of its table."""
    counts, settings = manifest.counts, manifest.settings
    return {
        "model": settings["model"],
        "rows": counts.total,
        "measured": counts.ok,
        "failed": counts.failed,
        "invalid": counts.invalid,
        "open": counts.open,
        "task_version": settings["task_version"],
    }


def _export(manifest: Manifest, records: StoredRecords) -> None:
    """Write the table, the maps and the pictures in one pass over the records, then put them in their places."""
    folder = manifest.folder
    stage = folder / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    with ExitStack() as stack:
        lines = stack.enter_context((stage / "rows.jsonl").open("w+", encoding="utf-8"))
        given: dict[str, str] = {}
        own: dict[str, str] = {}
        maps = _Maps(stage / MAPS)

        def put(kept: Mapping[str, Any], row: Mapping[str, Any]) -> None:
            for columns, values in ((given, kept), (own, row)):
                for name, value in values.items():
                    columns[name] = _wider(columns.get(name, "null"), _kind(value))
            lines.write(json.dumps([kept, row]) + "\n")

        for planned, record in records.with_plan():
            places = maps.add(record.maps)
            if record.picture is not None:
                (stage / PICTURES).mkdir(exist_ok=True)
                Image.fromarray(record.picture).save(stage / PICTURES / f"{planned.number:07d}.png")
            asked = {"prompt": "", "seed": 0} | dict(planned.request)  # the plan leaves out what is default
            shared = _scalars(asked) | _scalars(record.values)
            for row in manifest.rows_of(planned.number):
                for index, values in enumerate(record.rows or ({},)):
                    at = {name: of[min(index, len(of) - 1)] for name, of in places.items() if of}
                    put(row.kept, row.plain | shared | dict(values) | at)
        for row in manifest.unmeasured():
            put(row.kept, row.plain)
        maps.close()
        lines.seek(0)
        names = _names(given, own)
        columns = {names[name]: kind for name, kind in given.items()} | own
        _write_parquet(
            folder / TABLE,
            columns,
            ({names[name]: value for name, value in kept.items()} | row for kept, row in map(json.loads, lines)),
        )
    for name in (MAPS, PICTURES):
        remove_own(folder, name)
        if (folder / name).exists():  # it holds something of a person's
            for one in (stage / name).iterdir() if (stage / name).exists() else ():
                one.rename(folder / name / one.name)
        elif (stage / name).exists():
            (stage / name).rename(folder / name)
    shutil.rmtree(stage)


def _scalars(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those values that a cell of a table holds."""
    return {name: value for name, value in values.items() if isinstance(value, str | int | float | bool)}


def _names(given: Iterable[str], own: Collection[str]) -> dict[str, str]:
    """What the user's columns are called in a table that has columns of its own."""
    names: dict[str, str] = {}
    for name in given:
        free = name
        while free in own or free in names.values():
            free = GIVEN + free
        names[name] = free
    return names


def _list_failures(manifest: Manifest) -> None:
    """Write the rows that failed or are invalid, each with its reason."""
    path, own = manifest.folder / FAILED, None
    given: dict[str, None] = {}
    for row in manifest.unmeasured(opened=False):
        own = list(row.plain)
        given |= dict.fromkeys(row.kept)
    if own is None:
        path.unlink(missing_ok=True)
        return
    names = _names(given, own)
    with replacing_file(path) as opened:
        writer = csv.DictWriter(getwriter("utf-8")(opened), [*names.values(), *own], lineterminator="\n")
        writer.writeheader()
        for row in manifest.unmeasured(opened=False):
            writer.writerow({names[name]: value for name, value in row.kept.items()} | row.plain)


class _Maps:
    """Arrays over all rows, one for each name, type and size of a map, written chunk by chunk as Zarr."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._group: Any = None
        self._waiting: dict[str, list[NDArray[Any]]] = {}
        self._taken: dict[str, int] = {}
        self._written: dict[str, int] = {}

    def add(self, maps: Mapping[str, NDArray[Any]]) -> dict[str, range]:
        """Take the maps of an item; returns the places of its rows, or the one of all, for each name and size."""
        places: dict[str, range] = {}
        for name, value in maps.items():
            path = f"{name}/{'x'.join(map(str, value.shape[1:])) or 'values'}"
            self._waiting.setdefault(path, []).append(value)
            start = self._taken.get(path, 0)
            places[path] = range(start, start + len(value))
            self._taken[path] = start + len(value)
            self._write(path, self._rows(value))
        return places

    def close(self) -> None:
        """Write what waits."""
        for path in self._waiting:
            self._write(path, 1)

    @staticmethod
    def _rows(value: NDArray[Any]) -> int:
        return max(1, _CHUNK // max(1, value[:1].nbytes))

    def _write(self, path: str, least: int) -> None:
        waiting, start = self._waiting[path], self._written.get(path, 0)
        if self._taken[path] - start < least:
            return
        import zarr

        values = np.concatenate(waiting)
        if self._group is None:
            self._group = zarr.open_group(str(self._path), mode="w", zarr_format=3)
        if start == 0:
            names = ["row", *("y", "x")] if values.ndim == 3 else ["row", *(f"axis_{i}" for i in range(1, values.ndim))]
            self._group.create_array(
                f"{path}/{MAP}",
                shape=(0, *values.shape[1:]),
                chunks=(self._rows(values), *values.shape[1:]),
                dtype=values.dtype,
                dimension_names=names,
            )
        array = self._group[f"{path}/{MAP}"]
        array.resize((start + len(values), *values.shape[1:]))
        array[start:] = values
        self._written[path] = start + len(values)
        waiting.clear()


_ORDER = ("null", "bool", "int", "float", "text")


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int():
            return "int" if -(2**63) <= value < 2**63 else "text"
        case float():
            return "float"
        case _:
            return "text"


def _wider(one: str, other: str) -> str:
    """The narrowest kind of column that holds two kinds of cells."""
    if "null" in (one, other) or one == other:
        return max(one, other, key=_ORDER.index)
    return "float" if {one, other} == {"int", "float"} else "text"


def _write_parquet(path: Path, columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"null": pa.string(), "bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "text": pa.string()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    waiting: list[dict[str, Any]] = []
    with replacing_file(path) as opened, pq.ParquetWriter(opened, schema) as writer:

        def write() -> None:
            writer.write_table(pa.Table.from_pylist(waiting, schema))
            waiting.clear()

        for row in rows:
            waiting.append({name: _cell(row.get(name), kind) for name, kind in columns.items()})
            if len(waiting) == _BATCH:
                write()
        write()


def _cell(value: Any, kind: str) -> Any:
    if value is None or kind != "text":
        return float(value) if kind == "float" and value is not None else value
    return value if isinstance(value, str) else json.dumps(value)
