"""What a run consists of and what became of it: its rows, its items and how each ended, in ``items.sqlite``.

Only the process that drives a run writes here. A plan that was not finished is made anew.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sfumato.bounds import shown_path
from sfumato.errors import RunError, StoreError
from sfumato.runs.settings import settings_of
from sfumato.runs.shards import DamagedShard, Outcome, file_digest, shard_number

ITEMS = "items.sqlite"
DATABASE = (ITEMS, f"{ITEMS}-wal", f"{ITEMS}-shm")

_SCHEMA = """
    CREATE TABLE items (
        number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, request TEXT NOT NULL, about TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'open', attempts INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '',
        file TEXT
    );
    CREATE TABLE rows (position INTEGER PRIMARY KEY, line INTEGER, number INTEGER, kept TEXT, reason TEXT);
    CREATE TABLE shards (file TEXT PRIMARY KEY, sha256 TEXT NOT NULL, bytes INTEGER NOT NULL, seconds REAL NOT NULL);
    CREATE INDEX of_state ON items (state);
    CREATE INDEX of_item ON rows (number);
"""
_COLUMNS = "number, key, request, about, attempts, file"
_DAMAGED = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR})
"""What is wrong with a database that holds no run; a disk that is full, for one, is not."""
_ROWS = (
    "SELECT position, line, number, coalesce(state, 'invalid'), coalesce(items.reason, rows.reason), kept "
    "FROM rows LEFT JOIN items USING (number)"
)


@dataclass(frozen=True)
class Planned:
    """An item as the plan holds it.

    Attributes:
        number: Its place among the items.
        key: Digest of everything that its record depends on.
        request: The completed request, as JSON has it; pictures by their file in the folder of the run.
        about: See `sfumato.runs.task.Item`.
        attempts: How often it was measured in vain.
        file: The shard that holds its record.
    """

    number: int
    key: str
    request: Mapping[str, Any]
    about: Mapping[str, Any]
    attempts: int = 0
    file: str | None = None


@dataclass(frozen=True)
class Planning:
    """One row of the input, and what it became.

    Attributes:
        line: In the file, or the place in the plan.
        kept: Columns that belong to the user.
        key: Of its item; nothing where the row is invalid.
        request: The completed request of its item.
        about: See `sfumato.runs.task.Item`.
        reason: Why the row is invalid.
    """

    line: int
    kept: Mapping[str, Any]
    key: str | None = None
    request: Mapping[str, Any] | None = None
    about: Mapping[str, Any] | None = None
    reason: str = ""


@dataclass(frozen=True)
class InputRow:
    """One row of the input, and what became of it.

    Attributes:
        place: Among all rows.
        line: In the file, or the place in the plan.
        item: The number of its item; None where it is invalid.
        state: "ok", "failed", "invalid" or "open".
        reason: Why it has no record.
        kept: Columns that belong to the user.
    """

    place: int
    line: int
    item: int | None
    state: str
    reason: str
    kept: Mapping[str, Any]

    @property
    def plain(self) -> dict[str, Any]:
        """All but the user's columns, by the names that they have in tables."""
        named = {"row": self.place, "line": self.line, "item": self.item, "state": self.state}
        return named | ({"reason": self.reason} if self.state != "ok" else {})


@dataclass(frozen=True)
class Counts:
    """How many rows of the input are in which state; together they are all rows."""

    ok: int = 0
    failed: int = 0
    invalid: int = 0
    open: int = 0

    @property
    def total(self) -> int:
        """All rows of the input."""
        return self.ok + self.failed + self.invalid + self.open


class Manifest:
    """The plan of a run and what became of it, in a folder.

    Args:
        folder: Of the run.
        looking: Nothing is written, not even the files that SQLite keeps beside a database in use; for a short look.

    Raises:
        RunError: The folder holds no run, or one of another version.
    """

    def __init__(self, folder: Path, *, looking: bool = False) -> None:
        self.folder = folder
        self.settings = settings_of(folder)
        self._items = _opened(folder, looking=looking)
        self._counts: Counts | None = None

    def close(self) -> None:
        """Release the database."""
        self._items.close()

    def __enter__(self) -> Manifest:
        """The manifest itself; leaving closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def counts(self) -> Counts:
        """How many rows of the input are in which state; counted once, then kept up to date by what is noted here."""
        if self._counts is None:
            counted = "SELECT coalesce(state, 'invalid'), count(*) FROM rows LEFT JOIN items USING (number) GROUP BY 1"
            self._counts = Counts(**dict(self._all(counted)))
        return self._counts

    def waiting(self, *, failed: bool = False) -> Iterator[Planned]:
        """The items that are to be measured, in order.

        Args:
            failed: Those that failed instead of those that were never tried.
        """
        last, state = -1, "failed" if failed else "open"
        query = f"SELECT {_COLUMNS} FROM items WHERE state = ? AND number > ? ORDER BY number LIMIT 1000"
        while found := self._all(query, (state, last)):
            yield from map(_planned, found)
            last = found[-1][0]

    def note(self, file: str, sha256: str, size: int, seconds: float, outcomes: Iterable[Outcome]) -> None:
        """Keep how the items of a shard ended, in one transaction.

        Args:
            file: Of the shard, below the folder; "" where none could be written.
            sha256: Digest of the file.
            size: Its bytes.
            seconds: What its measurement took.
            outcomes: Without their records.
        """
        ended = list(outcomes)
        if not ended:
            return
        places = (min(one.number for one in ended), max(one.number for one in ended))
        counts = self.counts
        with _written(self.folder), self._items:
            before = self._counted(places)
            if file:
                self._items.execute("INSERT OR REPLACE INTO shards VALUES (?, ?, ?, ?)", (file, sha256, size, seconds))
            self._items.executemany(
                "UPDATE items SET state = ?, attempts = attempts + 1, reason = ?, file = ? "
                "WHERE number = ? AND key = ?",
                [(one.state, one.reason, file or None, one.number, one.key) for one in ended],
            )
            after = self._counted(places)
        changed = {state: after.get(state, 0) - before.get(state, 0) for state in {*before, *after}}
        self._counts = replace(counts, **{state: getattr(counts, state) + by for state, by in changed.items()})

    def take_columns(self, plan: Iterable[Planning]) -> None:
        """Take over the lines, the user's columns and the reasons of another plan of the same items."""
        with _written(self.folder), self._items:
            self._items.executemany(
                "UPDATE rows SET line = ?, kept = ?, reason = ? WHERE position = ?",
                ((one.line, json.dumps(one.kept), one.reason, place) for place, one in enumerate(plan)),
            )

    def adopt(self, part: Manifest) -> None:
        """Take over the records of another run of the same plan where there is none here.

        Raises:
            RunError: Both have measured the same items.
            DamagedShard: A shard of the part is missing.
        """
        (self.folder / "shards").mkdir(exist_ok=True)
        with _written(self.folder), self._items:
            for file, sha256, size, seconds in part._items.execute("SELECT * FROM shards"):
                if (self.folder / file).exists():
                    raise RunError(f"two parts have measured the shard {file}; merge parts that share none")
                try:
                    shutil.copyfile(part.folder / file, self.folder / file)
                except FileNotFoundError as error:
                    raise DamagedShard(
                        f"{shown_path(part.folder)} has lost the shard {file}; resume that part, then merge"
                    ) from error
                self._items.execute("INSERT INTO shards VALUES (?, ?, ?, ?)", (file, sha256, size, seconds))
            ended = part._all("SELECT count(*) FROM items WHERE state != 'open'")[0][0]
            taken = self._items.executemany(
                "UPDATE items SET state = ?, attempts = ?, reason = ?, file = ? "
                "WHERE number = ? AND key = ? AND state = 'open'",
                part._items.execute(
                    "SELECT state, attempts, reason, file, number, key FROM items WHERE state != 'open'"
                ),
            )
            if max(0, taken.rowcount) != ended:
                raise RunError(f"{shown_path(part.folder)} has measured items of another part; merge parts without any")
        self._counts = None

    def reopen_damaged(self, *, thorough: bool = False) -> int:
        """Measure the items again whose shards are missing or of another size; returns how many.

        Args:
            thorough: Also those whose shards have other bytes, which takes as long as to read them.
        """
        found, size = 0, int(self.settings["shard_size"])
        for file, sha256, length in self._all("SELECT file, sha256, bytes FROM shards"):
            path = self.folder / file
            if path.is_file() and path.stat().st_size == length and not (thorough and file_digest(path) != sha256):
                continue
            first = shard_number(file) * size
            path.unlink(missing_ok=True)
            with _written(self.folder), self._items:
                found += self._items.execute(
                    "UPDATE items SET state = 'open', attempts = attempts - 1, reason = '', file = NULL "
                    "WHERE file = ? AND number >= ? AND number < ?",
                    (file, first, first + size),
                ).rowcount
                self._items.execute("DELETE FROM shards WHERE file = ?", (file,))
        self._counts = None
        return found

    def measured(self) -> Iterator[list[Planned]]:
        """The items that have a record, in the order of the plan, those of one shard at a time."""
        size, start = int(self.settings["shard_size"]), 0
        query = f"SELECT {_COLUMNS} FROM items WHERE state = 'ok' AND number >= ? AND number < ? ORDER BY number"
        (last,) = self._all("SELECT coalesce(max(number), -1) FROM items")[0]
        while start <= last:
            if group := [_planned(row) for row in self._all(query, (start, start + size))]:
                yield group
            start += size

    @property
    def measured_items(self) -> int:
        """How many items have a record."""
        return int(self._all("SELECT count(*) FROM items WHERE state = 'ok'")[0][0])

    def unmeasured(self, *, opened: bool = True) -> Iterator[InputRow]:
        """The rows of the input without a record: invalid and failed ones with their reasons, and open ones."""
        states = ("failed", "invalid", "open") if opened else ("failed", "invalid")
        yield from self._rows(states)

    def shards(self) -> list[tuple[str, int, float]]:
        """Name, bytes and seconds of every shard that was written, in order."""
        return [
            (file, size, took)
            for file, size, took in self._all("SELECT file, bytes, seconds FROM shards ORDER BY file")
        ]

    def digest_of(self, file: str) -> str | None:
        """SHA-256 of a shard as it was written."""
        found = self._all("SELECT sha256 FROM shards WHERE file = ?", (file,))
        return str(found[0][0]) if found else None

    def rows(self) -> Iterator[InputRow]:
        """Every row of the input, in order."""
        return self._rows(("ok", "failed", "invalid", "open"))

    def _rows(self, states: tuple[str, ...]) -> Iterator[InputRow]:
        chosen = f"coalesce(state, 'invalid') IN ({', '.join('?' * len(states))})"
        last = -1
        while found := self._all(
            f"{_ROWS} WHERE position > ? AND {chosen} ORDER BY position LIMIT 1000", (last, *states)
        ):
            yield from map(_row, found)
            last = found[-1][0]

    def rows_of(self, item: int) -> list[InputRow]:
        """The rows of the input that became an item."""
        return [_row(one) for one in self._all(f"{_ROWS} WHERE number = ? ORDER BY position", (item,))]

    def _counted(self, places: tuple[int, int]) -> dict[str, int]:
        """How many rows of the items from one number to another are in which state."""
        return dict(
            self._all(
                "SELECT state, count(*) FROM items JOIN rows USING (number) WHERE number BETWEEN ? AND ? GROUP BY 1",
                places,
            )
        )

    def _all(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        try:
            return self._items.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"the {ITEMS} of the run in {shown_path(self.folder)} cannot be read: {error}") from error


def create(folder: Path, plan: Iterable[Planning]) -> None:
    """Write the plan of a run into a folder; the run begins with its settings (`write_settings`).

    Args:
        folder: An existing folder without settings.
        plan: Every row of the input in order; rows of equal key share one item.

    Raises:
        StoreError: It cannot be written.
    """
    for name in DATABASE:
        (folder / name).unlink(missing_ok=True)
    with _written(folder), closing(_connected(folder)) as items:
        items.executescript(_SCHEMA)
        with items:
            for position, one in enumerate(plan):
                _insert(items, position, one)
        items.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def copy_plan(source: Path, target: Path) -> None:
    """Copy the plan of a run into another folder, without what became of its items."""
    with _written(target), closing(_connected(source)) as one, closing(_connected(target)) as other:
        one.backup(other)
        with other:
            other.execute("UPDATE items SET state = 'open', attempts = 0, reason = '', file = NULL")
            other.execute("DELETE FROM shards")


def _planned(row: tuple[Any, ...]) -> Planned:
    number, key, request, about, attempts, file = row
    return Planned(number, key, json.loads(request), json.loads(about), attempts, file)


def _row(row: tuple[Any, ...]) -> InputRow:
    position, line, number, state, reason, kept = row
    return InputRow(position, line, number, state, reason, json.loads(kept))


def _insert(items: sqlite3.Connection, position: int, one: Planning) -> None:
    number = None
    if one.key is not None:
        found = items.execute("SELECT number FROM items WHERE key = ?", (one.key,)).fetchone()
        if found is None:
            (number,) = items.execute("SELECT coalesce(max(number) + 1, 0) FROM items").fetchone()
            items.execute(
                "INSERT INTO items (number, key, request, about) VALUES (?, ?, ?, ?)",
                (number, one.key, json.dumps(one.request), json.dumps(one.about)),
            )
        else:
            (number,) = found
    items.execute(
        "INSERT INTO rows VALUES (?, ?, ?, ?, ?)", (position, one.line, number, json.dumps(one.kept), one.reason)
    )


def _opened(folder: Path, *, looking: bool = False) -> sqlite3.Connection:
    if not (folder / ITEMS).is_file():
        raise RunError(f"the run in {shown_path(folder)} has lost its {ITEMS}; begin it anew with --restart")
    try:
        items = _looking(folder) if looking else _connected(folder)
        try:
            for table in ("items", "rows", "shards"):
                items.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()
        except sqlite3.Error:
            items.close()
            raise
    except sqlite3.Error as error:
        said = f"the {ITEMS} of the run in {shown_path(folder)} cannot be read"
        if getattr(error, "sqlite_errorcode", None) in _DAMAGED:
            raise RunError(f"{said} ({error}); begin it anew with --restart") from error
        raise StoreError(f"{said}: {error}") from error
    return items


def _connected(folder: Path) -> sqlite3.Connection:
    items = sqlite3.connect(folder / ITEMS, timeout=60)
    try:
        items.execute("PRAGMA journal_mode = WAL")
        items.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        items.close()
        raise
    return items


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Turn what SQLite has against a change into one line."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"cannot write {ITEMS} of the run in {shown_path(folder)}: {error}") from error


def _looking(folder: Path) -> sqlite3.Connection:
    """The database, to be read alone; a log that is empty or not there tells that nothing is in use."""
    log = folder / f"{ITEMS}-wal"
    how = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
    return sqlite3.connect(f"{(folder / ITEMS).absolute().as_uri()}?{how}", uri=True, timeout=2)
