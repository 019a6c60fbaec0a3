"""What a run consists of: its settings in ``manifest.json``, its items and how each ended in ``items.sqlite``.

Only the process that drives a run writes here. The settings are written last, when the whole plan stands in the
database: a folder without them holds a plan that was not finished, and is planned anew.
"""

from __future__ import annotations

import json
import platform
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sfumato.bounds import shown, shown_path
from sfumato.errors import RunError, StoreError, Unreadable
from sfumato.reading import read_json
from sfumato.runs.shards import Outcome
from sfumato.writing.files import write_text

FORMAT, VERSION = "sfumato-run", 1
SETTINGS, ITEMS = "manifest.json", "items.sqlite"
LIBRARIES = ("sfumato", "torch", "diffusers", "transformers", "numpy")

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
        """How many rows of the input are in which state."""
        found = dict(
            self._items.execute(
                "SELECT coalesce(items.state, 'invalid'), count(*) FROM rows LEFT JOIN items USING (number) GROUP BY 1"
            )
        )
        return Counts(**{state: found.get(state, 0) for state in ("ok", "failed", "invalid", "open")})

    def waiting(self, *, failed: bool = False) -> Iterator[Planned]:
        """The items that are to be measured, in order.

        Args:
            failed: Those that failed instead of those that were never tried.
        """
        last, state = -1, "failed" if failed else "open"
        while found := self._items.execute(
            f"SELECT {_COLUMNS} FROM items WHERE state = ? AND number > ? ORDER BY number LIMIT 1000", (state, last)
        ).fetchall():
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
        with self._items:
            if file:
                self._items.execute("INSERT OR REPLACE INTO shards VALUES (?, ?, ?, ?)", (file, sha256, size, seconds))
            self._items.executemany(
                "UPDATE items SET state = ?, attempts = attempts + 1, reason = ?, file = ? "
                "WHERE number = ? AND key = ?",
                [(one.state, one.reason, file or None, one.number, one.key) for one in outcomes],
            )

    def adopt(self, part: Manifest) -> None:
        """Take over the records of another run of the same plan where there is none here.

        Raises:
            RunError: Both have measured items under one name of a shard.
        """
        shards = part.shards()
        (self.folder / "shards").mkdir(exist_ok=True)
        with self._items:
            for file, (sha256, size, seconds) in shards.items():
                if (self.folder / file).exists():
                    raise RunError(f"two parts have measured the shard {file}; merge parts that share none")
                shutil.copy2(part.folder / file, self.folder / file)
                self._items.execute("INSERT INTO shards VALUES (?, ?, ?, ?)", (file, sha256, size, seconds))
            self._items.executemany(
                "UPDATE items SET state = ?, attempts = ?, reason = ?, file = ? WHERE number = ? AND key = ?",
                part._items.execute(
                    "SELECT state, attempts, reason, file, number, key FROM items WHERE state != 'open'"
                ),
            )

    def measured(self) -> Iterator[list[Planned]]:
        """The items that have a record, in the order of the plan, those of one shard at a time."""
        size, start = int(self.settings["shard_size"]), 0
        (last,) = self._items.execute("SELECT coalesce(max(number), -1) FROM items").fetchone()
        while start <= last:
            found = self._items.execute(
                f"SELECT {_COLUMNS} FROM items WHERE state = 'ok' AND number >= ? AND number < ? ORDER BY number",
                (start, start + size),
            )
            if group := [_planned(row) for row in found]:
                yield group
            start += size

    @property
    def measured_items(self) -> int:
        """How many items have a record."""
        (found,) = self._items.execute("SELECT count(*) FROM items WHERE state = 'ok'").fetchone()
        return int(found)

    def unmeasured(self, *, opened: bool = True) -> Iterator[dict[str, Any]]:
        """The rows of the input without a record: invalid and failed ones with their reasons, and open ones."""
        states = "('failed', 'invalid', 'open')" if opened else "('failed', 'invalid')"
        yield from self._rows(f"WHERE coalesce(state, 'invalid') IN {states}")

    def shards(self) -> dict[str, tuple[str, int, float]]:
        """Digest, bytes and seconds of every shard by its file."""
        return {file: (digest, size, took) for file, digest, size, took in self._items.execute("SELECT * FROM shards")}

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row of the input in order: the user's columns, ``row``, ``line``, ``item``, ``state``, ``reason``."""
        return self._rows("")

    def _rows(self, where: str) -> Iterator[dict[str, Any]]:
        for position, line, number, kept, state, reason in self._items.execute(
            "SELECT position, line, number, kept, coalesce(state, 'invalid'), coalesce(items.reason, rows.reason) "
            f"FROM rows LEFT JOIN items USING (number) {where} ORDER BY position"
        ):
            yield json.loads(kept) | {"row": position, "line": line, "item": number, "state": state, "reason": reason}

    def rows_of(self, numbers: Iterable[int]) -> dict[int, list[dict[str, Any]]]:
        """The rows of the input by the item that they became: ``row``, ``line`` and the user's columns."""
        found: dict[int, list[dict[str, Any]]] = {}
        for number in numbers:
            for position, line, kept in self._items.execute(
                "SELECT position, line, kept FROM rows WHERE number = ? ORDER BY position", (number,)
            ):
                found.setdefault(number, []).append(json.loads(kept) | {"row": position, "line": line})
        return found


def create(folder: Path, plan: Iterable[Planning]) -> None:
    """Write the plan of a run into a folder; the run begins with its settings (`write_settings`).

    Args:
        folder: An existing folder without settings.
        plan: Every row of the input in order; rows of equal key share one item.

    Raises:
        StoreError: It cannot be written.
    """
    for left in (ITEMS, f"{ITEMS}-wal", f"{ITEMS}-shm"):
        (folder / left).unlink(missing_ok=True)
    try:
        with closing(_connected(folder)) as items:
            items.executescript(_SCHEMA)
            with items:
                for position, one in enumerate(plan):
                    _insert(items, position, one)
            items.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise StoreError(f"cannot write the plan of the run into {shown_path(folder)}: {error}") from error


def copy_plan(source: Path, target: Path) -> None:
    """Copy the plan of a run into another folder, without what became of its items."""
    with closing(_connected(source)) as one, closing(_connected(target)) as other:
        one.backup(other)
        with other:
            other.execute("UPDATE items SET state = 'open', attempts = 0, reason = '', file = NULL")
            other.execute("DELETE FROM shards")


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write ``manifest.json``."""
    content = {"format": FORMAT, "version": VERSION} | dict(settings)
    write_text(folder / SETTINGS, json.dumps(content, indent=1) + "\n")


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings of a run.

    Raises:
        RunError: The folder holds no run, or one of another version.
    """
    try:
        found = read_json(folder / SETTINGS)
    except Unreadable as error:
        raise RunError(
            f"{shown_path(folder)} holds no run ({SETTINGS}: {error.reason}); give the folder that "
            "`sfumato run NAME --out` named"
        ) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise RunError(f"{shown_path(folder)} holds no run: its {SETTINGS} is of another program")
    if found.get("version") != VERSION:
        raise RunError(
            f"the run in {shown_path(folder)} is of version {shown(found.get('version'))}; this Sfumato reads {VERSION}"
        )
    return found


def library_versions() -> dict[str, str]:
    """The versions that numbers depend on."""
    return {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()}


def _planned(row: tuple[Any, ...]) -> Planned:
    number, key, request, about, attempts, file = row
    return Planned(number, key, json.loads(request), json.loads(about), attempts, file)


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
        items.execute("SELECT count(*) FROM shards").fetchone()
    except sqlite3.Error as error:
        raise RunError(f"the {ITEMS} of the run in {shown_path(folder)} cannot be read: {error}") from error
    return items


def _connected(folder: Path) -> sqlite3.Connection:
    items = sqlite3.connect(folder / ITEMS, timeout=60)
    items.execute("PRAGMA journal_mode = WAL")
    items.execute("PRAGMA synchronous = FULL")
    return items


def _looking(folder: Path) -> sqlite3.Connection:
    """The database, to be read alone; a log that is empty or not there tells that nothing is in use."""
    log = folder / f"{ITEMS}-wal"
    how = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
    return sqlite3.connect(f"{(folder / ITEMS).absolute().as_uri()}?{how}", uri=True, timeout=2)
