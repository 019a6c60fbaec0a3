"""What the operating system has against a file or a folder, in one line; parents that are made and taken back."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from sfumato.errors import StoreError

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another place",
    errno.EDQUOT: "your disk quota is used up; free some space or choose another place",
    errno.EFBIG: "a file would grow beyond the size that is allowed here (see `ulimit -f`)",
    errno.EMFILE: "too many files are open; allow more (see `ulimit -n`)",
    errno.ENFILE: "too many files are open on this machine; close some programs",
    errno.EACCES: "permission denied; choose a folder that you may write to",
    errno.EPERM: "permission denied; choose a folder that you may write to",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.EIO: "the disk reports an input/output error",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ENOTDIR: "a part of the path is a file; choose another place",
}


def cannot_write(named: str, error: OSError | ValueError) -> StoreError:
    """The error to raise instead: one line that says what to do."""
    number = error.errno if isinstance(error, OSError) else None
    reason = _REASONS.get(number or 0) or getattr(error, "strerror", None) or str(error) or type(error).__name__
    return StoreError(f"cannot write {named}: {reason}")


def is_about(error: OSError | ValueError, place: Path) -> bool:
    """Whether an error came from writing at a place (or below), not from other work done meanwhile."""
    if isinstance(error, ValueError):
        return False
    if error.filename is None:
        return error.errno in _REASONS
    path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""
    return path == str(place.parent) or Path(path).is_relative_to(place)


def make_parents(folder: Path) -> list[Path]:
    """Make a folder and its parents; returns those that were missing, outermost first."""
    missing: list[Path] = []
    while not folder.exists():
        missing.insert(0, folder)
        folder = folder.parent
    made: list[Path] = []
    try:
        for path in missing:
            path.mkdir(exist_ok=True)
            made.append(path)
    except OSError:
        remove_empty(made)
        raise
    return made


def remove_empty(folders: list[Path]) -> None:
    """Take back what `make_parents` made, unless something else is in there by now."""
    for folder in reversed(folders):
        try:
            folder.rmdir()
        except OSError:
            return
