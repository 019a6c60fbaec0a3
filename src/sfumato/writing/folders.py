"""Folders that appear whole or not at all, also when the writer is killed.

A folder is written in a hidden box next to its place, every file is synced to disk, and one rename puts it there.
Replacing an earlier folder swaps the two names in one system call where the platform has one (Linux); elsewhere the
old one is moved aside first, and the next reader or writer puts it back if the writer died between the two renames.
What was there is removed only when it is known to be Sfumato's: it is looked at before the work and after the swap.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

from sfumato.bounds import shown_path
from sfumato.errors import SfumatoWarning, StoreError
from sfumato.writing.reasons import cannot_write, is_about, make_parents, remove_empty
from sfumato.writing.records import Snapshot, check_record, snapshot, write_record
from sfumato.writing.stages import Box, boxed, free_name, sweep

_TRIES = 100
Check = Callable[[Path, str], None]
"""Raises a `StoreError` unless a folder (its path, and its name in messages) holds only what may be removed."""


@contextmanager
def write_folder(target: str | PathLike[str]) -> Iterator[Path]:
    """Write a folder of results as one: it appears under its name when all went well, and not at all otherwise.

    An empty folder or an earlier result of Sfumato is replaced, in one step; anything else is refused before the
    work starts, and so are folders that hold files of other origin.

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
    with replacing_folder(resolved(target), check_record, os.fspath(target)) as stage:
        yield stage
        write_record(stage)


@contextmanager
def replacing_folder(target: Path, check: Check, named: str | None = None, *, keep: bool = True) -> Iterator[Path]:
    """Yield a hidden folder on the same file system that becomes ``target`` if the block ends well.

    Args:
        target: An absolute path.
        check: Looks at a folder that is there already, before the work and again if it was touched meanwhile.
        named: The path as the user wrote it, for messages.
        keep: If the place was taken meanwhile, keep the new folder under a name with a number.

    Raises:
        StoreError: A folder or file cannot be written. Errors of the block that are not about writing pass through.
    """
    named = named or str(target)
    made: list[Path] = []
    place, begun, done = target, False, False
    try:
        if target == Path(target.anchor) or target in (Path.cwd(), *Path.cwd().parents):
            raise StoreError(f"{named} is the folder you are in, or one around it; name a new folder, such as out/demo")
        seen = _looked_at(target, check, named)
        made = make_parents(target.parent)
        with boxed(target) as box:
            place = box.place
            box.new.mkdir()
            begun = True
            yield box.new
            _sync(box.new)
            _publish(box, check, named, seen, keep=keep)
        sync_folder(target.parent)
        done = True
    except (OSError, ValueError) as error:
        if isinstance(error, StoreError) or (begun and not is_about(error, place)):
            raise
        raise cannot_write(named, error) from error
    finally:
        if not done:
            remove_empty(made)


def remove_folder(target: Path, check: Check) -> None:
    """Remove a folder that Sfumato wrote: its name is gone at once, so a kill on the way leaves nothing under it.

    Args:
        target: An absolute path; where nothing is, nothing is done.
        check: Looks at what is there.

    Raises:
        StoreError: It holds something else, or cannot be removed.
    """
    try:
        seen = _looked_at(target, check, str(target))
        if seen is None:
            return
        with boxed(target) as box:
            box.announce(seen)
            with suppress(FileNotFoundError):  # another writer was faster
                os.rename(target, box.old)
                if snapshot(box.old) == seen:
                    box.drop(box.old)
        sync_folder(target.parent)
    except StoreError:
        raise
    except OSError as error:
        raise cannot_write(str(target), error) from error


def resolved(path: str | PathLike[str]) -> Path:
    """An absolute path with its links followed, so that a link is kept and what it points to is replaced."""
    text = os.fspath(path)
    if not text.strip():
        raise StoreError("the name of the folder is empty; give one, such as out/demo")
    try:
        return Path(os.path.realpath(text))
    except (OSError, ValueError) as error:
        raise StoreError(f"{shown_path(text)} is no usable path: {error}") from error


def recover(target: Path) -> None:
    """Put a folder back that a killed writer had moved aside, if there is one."""
    if not os.path.lexists(target):
        sweep(target.parent)


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to disk."""
    if os.name == "posix":  # Windows cannot sync a folder
        sync_file(folder)


def sync_file(path: str | Path) -> None:
    """Force a file to disk."""
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some network file systems know no sync
            raise
    finally:
        os.close(descriptor)


def _looked_at(target: Path, check: Check, named: str) -> Snapshot | None:
    """What a folder holds that may be replaced; None where there is none."""
    for _ in range(_TRIES):
        try:
            mode = target.lstat().st_mode  # a name that is too long fails now, not after the work
        except FileNotFoundError:
            return None
        if not stat.S_ISDIR(mode):
            raise StoreError(f"{named} is a {'link' if stat.S_ISLNK(mode) else 'file'}; give the name of a folder")
        with suppress(FileNotFoundError):  # another writer replaced it while it was looked at
            seen = snapshot(target)
            try:
                check(target, named)
            except StoreError:
                if snapshot(target) == seen:
                    raise
            else:
                return seen
    raise _ever_changing()


def _publish(box: Box, check: Check, named: str, seen: Snapshot | None, *, keep: bool) -> None:
    target = box.target
    for _ in range(_TRIES):
        if not os.path.lexists(target):
            with suppress(FileExistsError, NotADirectoryError):  # another writer was faster
                _rename_to_nothing(box.new, target)
                return
        try:
            if seen is None or not _is_still(target, seen):
                seen = _looked_at(target, check, named)
        except StoreError as error:
            if not keep:
                raise
            free = free_name(target)
            os.rename(box.new, free)
            raise StoreError(f"{error}; what was made now is in {free.name}") from error
        if seen is not None:
            box.announce(seen)
            old = _swapped(box)
            if old is not None:
                _remove_or_keep(box, old, seen, check)
                return
    raise _ever_changing()


def _rename_to_nothing(stage: Path, target: Path) -> None:
    try:
        os.rename(stage, target)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise FileExistsError(error.errno, error.strerror) from error
        raise


def _remove_or_keep(box: Box, old: Path, seen: Snapshot, check: Check) -> None:
    """Let the earlier folder go if it holds only what may be removed; else it stays, under a name with a number."""
    try:
        if snapshot(old) != seen:
            check(old, str(old))
        box.drop(old)
    except StoreError:
        kept = free_name(box.target)
        os.rename(old, kept)
        warnings.warn(
            f"{box.target.name} was changed while it was replaced; what was in it is in {kept.name}",
            SfumatoWarning,
            stacklevel=2,
        )


def _is_still(folder: Path, seen: Snapshot) -> bool:
    try:
        return folder.is_dir() and snapshot(folder) == seen
    except FileNotFoundError:
        return False


def _ever_changing() -> OSError:
    return OSError(errno.EBUSY, "other programs change it all the time")


def _swapped(box: Box) -> Path | None:
    """Give the new folder its name; returns where the earlier one is now, or None if it is gone."""
    if _exchange(box.new, box.target):
        return box.new
    try:
        os.rename(box.target, box.old)
    except FileNotFoundError:
        return None
    try:
        os.rename(box.new, box.target)
    except OSError:
        os.rename(box.old, box.target)
        raise
    return box.old


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
        for _ in pool.map(sync_file, [os.path.join(path, name) for path, _, files in walked for name in files]):
            pass
        for _ in pool.map(sync_folder, [Path(path) for path, _, _ in walked]):
            pass
