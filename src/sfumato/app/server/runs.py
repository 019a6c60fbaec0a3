"""The runs of the folder that was given when the page was opened; visitors name them by id, and only look.

Nothing is written into the folder of a run, so one that another process works on is not disturbed. What one visitor
asked for a moment ago is told to the next, so that many who watch a run read it once.
"""

from __future__ import annotations

import hashlib
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.app.server.folders import DEEPEST, id_of, newest, subfolders, with_id
from sfumato.errors import SfumatoError, Unreadable
from sfumato.reading import read_json
from sfumato.runs.concluding import TABLE
from sfumato.runs.manifest import ITEMS, Counts, Manifest
from sfumato.runs.opened import is_driven
from sfumato.runs.own import LOCK
from sfumato.runs.settings import FORMAT, SETTINGS, settings_of

FRESH = 1.0
"""Seconds for which a list is told to everybody."""
FINDING, FIGURE = "finding.json", "figure.png"
MOST_SETTINGS = 2**20
"""Bytes of the settings of a run."""
_CONCLUDED = (FINDING, FIGURE, TABLE)
_CHANGING = (SETTINGS, ITEMS, f"{ITEMS}-wal", *_CONCLUDED)

Mark = tuple[tuple[int, int], ...]
"""Time of the last change and size of some files; equal marks are those of equal files."""


@dataclass(frozen=True)
class Listed:
    """A run of the folder.

    Attributes:
        id: A digest of its place in the folder.
        name: Its place in the folder, for people.
        path: Where it lies.
        when: Seconds since 1970 when something of it was written.
        settings: What it is a run of; nothing where it is damaged or of another version.
        counts: Its rows by state; None where they cannot be read.
        driven: Whether a process works on it.
        wrong: Why it cannot be shown.
    """

    id: str
    name: str
    path: Path
    when: float
    settings: dict[str, Any]
    counts: Counts | None
    driven: bool
    wrong: str = ""

    @property
    def concluded(self) -> str:
        """What changes when finding, figure or table are written anew."""
        return hashlib.sha256(repr(_mark(self.path, _CONCLUDED)).encode()).hexdigest()[:16]


class Runs:
    """The runs below a folder.

    Args:
        folder: Where they are looked for; links are not followed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._listed: Sequence[Listed] = ()
        self._until = 0.0
        self._known: dict[Path, tuple[Mark, Listed]] = {}

    def listed(self) -> Sequence[Listed]:
        """All runs, the last changed first, at most 200."""
        with self._lock:
            if time.monotonic() >= self._until:
                found = [self._look(path) for path in _places(self._folder, DEEPEST)]
                self._listed = newest(found)
                self._known = {path: self._known[path] for path in {one.path for one in found}}
                self._until = time.monotonic() + FRESH
            return self._listed

    def find(self, id: str) -> Listed:  # noqa: A002
        """A run by its id.

        Raises:
            Gone: It is not there.
        """
        return with_id(self.listed(), id, "run")

    def _look(self, path: Path) -> Listed:
        mark = _mark(path, (*_CHANGING, LOCK))
        driven = is_driven(path)
        known = self._known.get(path)
        if known is None or known[0] != mark or known[1].driven != driven or known[1].wrong:
            self._known[path] = mark, _read(self._folder, path, driven)
        return self._known[path][1]


def holds_run(folder: Path) -> bool:
    """Whether a folder is that of a run, be it damaged or of another version."""
    path = own_file(folder, SETTINGS)
    if path is None:
        return False
    try:
        found = read_json(path, MOST_SETTINGS)
    except Unreadable:
        return own_file(folder, ITEMS) is not None
    return isinstance(found, dict) and found.get("format") == FORMAT


def own_file(folder: Path, name: str) -> Path | None:
    """A regular file of a folder, no link; None where there is none."""
    path = folder / name
    try:
        return path if stat.S_ISREG(path.lstat().st_mode) else None
    except OSError:
        return None


def _read(folder: Path, path: Path, driven: bool) -> Listed:
    place = path.relative_to(folder).as_posix()
    when = max((time for time, _ in _mark(path, _CHANGING)), default=0) / 1e9
    settings: dict[str, Any] = {}
    counts, wrong = None, ""
    try:
        settings = settings_of(path)
        if own_file(path, ITEMS) is None:
            raise SfumatoError(f"the run has lost its {ITEMS}; begin it anew with --restart")
        with Manifest(path, looking=True) as manifest:
            counts = manifest.counts
    except SfumatoError as error:
        wrong = str(error)
    except Exception as error:  # as many kinds as there are ways to damage a database
        wrong = f"the {ITEMS} of the run cannot be read: {error}"
    return Listed(id_of(place), folder.name if place == "." else place, path, when, settings, counts, driven, wrong)


def _mark(path: Path, names: Sequence[str]) -> Mark:
    found = []
    for name in names:
        try:
            state = (path / name).lstat()
        except OSError:
            continue
        found.append((state.st_mtime_ns, state.st_size))
    return tuple(found)


def _places(folder: Path, deep: int) -> Iterator[Path]:
    """The folders of runs, the given one among them; what lies within one is not looked at."""
    if holds_run(folder):
        yield folder
        return
    for one in subfolders(folder) if deep else ():
        yield from _places(one, deep - 1)
