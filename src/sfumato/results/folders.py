"""Folders that appear whole or not at all, whatever kills the writer.

A folder is written under a hidden name beside its place, every file is synced to disk, and one rename puts it there.
Replacing an earlier folder swaps the two names in one system call where the platform has one (Linux); elsewhere the
old one is moved aside first, and the next reader or writer puts it back if the writer died between the two renames.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any

from sfumato.errors import StoreError

MARKER = ".sfumato.json"
_STAGE = ".sfumato-"
FILES_OF_THE_DESKTOP = {".DS_Store", "Thumbs.db", "desktop.ini"}
_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another place",
    errno.EDQUOT: "your disk quota is used up; free some space or choose another place",
    errno.EFBIG: "a file would grow beyond the size that is allowed here (see `ulimit -f`)",
    errno.EACCES: "permission denied; choose a folder that you may write to",
    errno.EPERM: "permission denied; choose a folder that you may write to",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.EIO: "the disk reports an input/output error",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ENOTDIR: "a part of the path is a file; choose another place",
}
_live: set[str] = set()  # stages that this process is writing


@contextmanager
def write_folder(target: str | PathLike[str]) -> Iterator[Path]:
    """Write a folder of results as one: it appears under its name when all went well, and not at all otherwise.

    An empty folder or an earlier result of Sfumato is replaced, in one step; anything else is refused before the
    work starts, and so are folders that hold files of other origin beside the results.

    Args:
        target: The folder to make; missing parents are made too.

    Yields:
        A folder to write into.

    Raises:
        StoreError: One line that says why the folder cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     with write_folder(f"{place}/out") as folder:
        ...         _ = (folder / "summary.json").write_text("{}")
        ...     sorted(p.name for p in Path(place, "out").iterdir())
        ['.sfumato.json', 'summary.json']
    """
    place = resolved(target)
    _refuse_foreign(place, os.fspath(target))
    with replacing(place, os.fspath(target)) as stage:
        yield stage
        listing = json.dumps({"format": "sfumato-output", "version": 1, "files": _listing(stage)}, indent=1)
        (stage / MARKER).write_text(listing + "\n", encoding="utf-8")


@contextmanager
def replacing(target: Path, named: str | None = None) -> Iterator[Path]:
    """Yield a hidden folder on the same file system that becomes ``target`` if the block ends well.

    Does not ask what ``target`` holds: the caller has decided that it may go.

    Args:
        target: An absolute path.
        named: The path as the user wrote it, for messages.

    Raises:
        StoreError: A folder or file cannot be written. Errors of the block that are not about writing pass through.
    """
    named = named or str(target)
    made: list[Path] = []
    stage = target.parent / f"{_STAGE}{os.getpid()}-{_host()}-{secrets.token_hex(4)}"
    _live.add(stage.name)
    done = False
    try:
        made = _make_parents(target.parent)
        with suppress(FileNotFoundError):
            target.lstat()  # a name that is too long fails now, not after the work
        sweep(target.parent)
        stage.mkdir()
    except (OSError, ValueError) as error:
        _live.discard(stage.name)
        _remove_empty(made)
        raise _cannot_write(named, error) from error
    try:
        yield stage
        _sync(stage)
        _publish(stage, target)
        _sync_folder(target.parent)
        done = True
    except OSError as error:
        if isinstance(error, StoreError) or not _is_about(error, stage):
            raise
        raise _cannot_write(named, error) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)  # after a swap this is the old folder
        _live.discard(stage.name)
        if not done:
            _remove_empty(made)


def resolved(path: str | PathLike[str]) -> Path:
    """An absolute path with its links followed, so that a link is kept and what it points to is replaced."""
    text = os.fspath(path)
    if not text.strip():
        raise StoreError("the name of the folder is empty; give one, such as out/demo")
    try:
        return Path(os.path.realpath(text))
    except (OSError, ValueError) as error:
        raise StoreError(f"{text!r} is no usable path: {error}") from error


def recover(target: Path) -> None:
    """Put a folder back that a killed writer had moved aside, if there is one."""
    if not os.path.lexists(target):
        sweep(target.parent)


def sweep(parent: Path) -> None:
    """Remove what killed writers left in a folder; what they had only moved aside goes back to its name."""
    try:
        entries = [entry.name for entry in os.scandir(parent) if entry.name.startswith(_STAGE)]
    except OSError:
        return
    for name in entries:
        if not _is_stale(name):
            continue
        original = name.split("-old-", 1)[1] if "-old-" in name else None
        if original and not os.path.lexists(parent / original):
            os.rename(parent / name, parent / original)
        else:
            shutil.rmtree(parent / name, ignore_errors=True)


def _publish(stage: Path, target: Path) -> None:
    if not os.path.lexists(target):
        os.rename(stage, target)
        return
    if _exchange(stage, target):
        return
    aside = target.parent / f"{stage.name}-old-{target.name}"
    _live.add(aside.name)
    try:
        os.rename(target, aside)
        try:
            os.rename(stage, target)
        except OSError:
            os.rename(aside, target)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    finally:
        _live.discard(aside.name)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the platform cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def _sync(folder: Path) -> None:
    """Force every file and then every folder below to disk; several at once, for a disk writes them together."""
    walked = list(os.walk(folder))
    with ThreadPoolExecutor(max_workers=16, thread_name_prefix="sync") as pool:
        for _ in pool.map(_sync_one, [os.path.join(path, name) for path, _, files in walked for name in files]):
            pass
        for _ in pool.map(_sync_folder, [Path(path) for path, _, _ in walked]):
            pass


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # Windows cannot sync a folder
        _sync_one(folder)


def _sync_one(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some network file systems know no sync
            raise
    finally:
        os.close(descriptor)


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_stale(name: str) -> bool:
    """Whether a hidden folder belongs to a process of this machine that is gone."""
    parts = name.removeprefix(_STAGE).split("-")
    if os.name != "posix" or len(parts) < 3 or not parts[0].isdecimal() or parts[1] != _host():
        return False
    process = int(parts[0])
    if process == os.getpid():
        return name not in _live
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _make_parents(folder: Path) -> list[Path]:
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
        _remove_empty(made)
        raise
    return made


def _remove_empty(folders: list[Path]) -> None:
    for folder in reversed(folders):
        try:
            folder.rmdir()
        except OSError:
            return


def _refuse_foreign(place: Path, named: str) -> None:
    """Raise unless a folder may be made at this place, or what is there may be replaced."""
    if place == Path(place.anchor) or place == Path.cwd() or place in Path.cwd().parents:
        raise StoreError(f"{named} is the folder you are in, or one around it; name a new folder, such as out/demo")
    try:
        if not os.path.lexists(place):
            return
        if not place.is_dir():
            raise StoreError(f"{named} is a file; give the name of a folder")
        entries = {entry.name for entry in os.scandir(place)} - FILES_OF_THE_DESKTOP
    except StoreError:
        raise
    except OSError as error:
        raise _cannot_write(named, error) from error
    if not entries:
        return
    written = _written_files(place)
    if written is None and not {"summary.json", "explanation.zarr"} <= entries:
        raise StoreError(f"{named} is not empty and no earlier result of Sfumato; name a new or empty folder")
    if written is not None and (foreign := sorted(set(_listing(place)) - set(written) - {MARKER})):
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise StoreError(
            f"{named} also holds files that Sfumato did not write ({', '.join(foreign[:3])}{more}); "
            "move them away or name a new folder"
        )


def _written_files(place: Path) -> list[str] | None:
    """What the marker of an earlier result lists; None without a readable marker."""
    try:
        found: Any = json.loads((place / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if (
        not isinstance(found, dict)
        or found.get("format") != "sfumato-output"
        or not isinstance(found.get("files"), list)
    ):
        return None
    return [str(name) for name in found["files"]]


def _listing(folder: Path) -> list[str]:
    """Every file below, by its path; a zarr store counts as one."""
    names: list[str] = []
    for path, folders, files in os.walk(folder):
        base = Path(path).relative_to(folder)
        names += [(base / name).as_posix() for name in files if name not in FILES_OF_THE_DESKTOP]
        names += [(base / name).as_posix() for name in folders if name.endswith(".zarr")]
        folders[:] = [name for name in folders if not name.endswith(".zarr")]
    return sorted(names)


def _is_about(error: OSError, stage: Path) -> bool:
    """Whether an error came from writing into the stage, not from other work done meanwhile."""
    if error.filename is None:
        return error.errno in _REASONS
    path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""
    return path == str(stage.parent) or Path(path).is_relative_to(stage)


def _cannot_write(named: str, error: OSError | ValueError) -> StoreError:
    number = error.errno if isinstance(error, OSError) else None
    reason = _REASONS.get(number or 0) or getattr(error, "strerror", None) or str(error) or type(error).__name__
    return StoreError(f"cannot write {named}: {reason}")
