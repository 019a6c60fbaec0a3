"""What is in a folder, and which of it Sfumato wrote: a record in the folder decides."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sfumato.errors import StoreError

MARKER = ".sfumato.json"
FILES_OF_THE_DESKTOP = {".DS_Store", "Thumbs.db", "desktop.ini"}
_FORMAT, _VERSION = "sfumato-output", 2

Snapshot = dict[str, list[int]]
"""Size, time of change and inode of everything in a folder; times alone can be equal within one tick of the clock."""


def write_record(folder: Path) -> None:
    """List every file of a folder with its size and digest, in a file of the same folder."""
    files = {name: _mark(folder / name, state) for name, state in _entries(folder)}
    content = {"format": _FORMAT, "version": _VERSION, "files": files}
    (folder / MARKER).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def check_record(folder: Path, named: str) -> None:
    """See that a folder is empty, or holds nothing but what its record lists, as it was written.

    Args:
        folder: An absolute path.
        named: The path as the user wrote it, for messages.

    Raises:
        StoreError: It holds something else.
    """
    found = dict(_entries(folder))
    if not found:
        return
    marker = found.pop(MARKER, None)
    written = _read(folder / MARKER) if marker is not None and stat.S_ISREG(marker.st_mode) else None
    if written is None:
        raise StoreError(
            f"{named} is not empty and no earlier result of Sfumato (it has no readable {MARKER}); "
            "name a new or empty folder"
        )
    refuse_foreign(named, sorted(found.keys() - written.keys()))
    changed = [name for name, state in sorted(found.items()) if _mark(folder / name, state) != written[name]]
    refuse_foreign(named, changed, "that were changed since Sfumato wrote them")


def refuse_foreign(named: str, names: list[str], what: str = "that Sfumato did not write") -> None:
    """Raise a `StoreError` that lists some files, if there are any."""
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise StoreError(
            f"{named} also holds files {what} ({', '.join(names[:3])}{more}); move them away or name a new folder"
        )


def snapshot(folder: Path) -> Snapshot:
    """What a folder holds now; it stays the same when the folder is renamed."""
    return {name: [state.st_size, state.st_mtime_ns, state.st_ino] for name, state in _entries(folder)}


def entries(folder: Path) -> list[str]:
    """Everything below a folder but folders that hold something, by its path; an empty folder ends in a slash."""
    return [name for name, _ in _entries(folder)]


def irregular(folder: Path) -> str | None:
    """The first thing below a folder that is neither a file nor a folder, such as a link."""
    return next((name for name, state in _entries(folder) if stat.S_IFMT(state.st_mode) not in _PLAIN), None)


_PLAIN = {stat.S_IFREG, stat.S_IFDIR}


def _entries(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Files, links and empty folders below, with what the system says of them; no link is followed."""
    for path, folders, files in os.walk(folder, onerror=_raised):
        linked = [name for name in folders if os.path.islink(os.path.join(path, name))]
        folders.sort()
        base = Path(path).relative_to(folder)
        for name in sorted([*files, *linked]):
            state = os.lstat(os.path.join(path, name))
            if not (name in FILES_OF_THE_DESKTOP and stat.S_ISREG(state.st_mode)):
                yield (base / name).as_posix(), state
        if not folders and not files and Path(path) != folder:
            yield f"{base.as_posix()}/", os.lstat(path)


def _raised(error: OSError) -> None:
    raise error


def _read(marker: Path) -> dict[str, Any] | None:
    """The files that a record lists; None without a readable one."""
    try:
        found: Any = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or (found.get("format"), found.get("version")) != (_FORMAT, _VERSION):
        return None
    files = found.get("files")
    return files if isinstance(files, dict) else None


def _mark(path: Path, state: os.stat_result) -> list[Any] | None:
    """Size and digest of a file; those of an empty folder are 0 and nothing, and a link has none."""
    if stat.S_ISDIR(state.st_mode):
        return [0, ""]
    if not stat.S_ISREG(state.st_mode):
        return None
    with path.open("rb") as file:
        return [state.st_size, hashlib.file_digest(file, "sha256").hexdigest()]
