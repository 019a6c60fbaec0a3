"""Single files that are written whole or not at all, and only ever in the place of a regular file or of none."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from sfumato.bounds import shown_path
from sfumato.errors import StoreError
from sfumato.writing.folders import sync_folder
from sfumato.writing.reasons import cannot_write, is_about, make_parents, remove_empty
from sfumato.writing.stages import new_file, sweep


@contextmanager
def replacing_file(path: str | PathLike[str], *, named: str | None = None, durable: bool = True) -> Iterator[BinaryIO]:
    """A new hidden file next to the named one, which takes its place when the block ends well.

    Args:
        path: The file; missing parents are made too, and a link is followed.
        named: What to call it in messages; the path.
        durable: Whether it is on disk when this returns.

    Yields:
        The new file, open for reading and writing bytes.

    Raises:
        StoreError: It cannot be written; what was there before stays. Errors of the block that are not about writing
            pass through.
    """
    given = os.fspath(path)
    named = named or shown_path(given)
    made: list[Path] = []
    begun, done = False, False
    partial = target = Path(given)
    try:
        _check_target(given, named)
        target = Path(os.path.realpath(given))
        made = make_parents(target.parent)
        sweep(target.parent)
        partial, descriptor = new_file(target.parent)
        begun = True
        with os.fdopen(descriptor, "w+b") as opened:
            yield opened
            opened.flush()
            if durable:
                os.fsync(opened.fileno())
            refuse_irregular(given, named)
            if os.name != "posix":  # where an open file cannot be renamed
                opened.close()
            os.replace(partial, target)
        if durable:
            sync_folder(target.parent)
        done = True
    except (OSError, ValueError) as error:
        if isinstance(error, StoreError) or (begun and not is_about(error, partial)):
            raise
        raise cannot_write(named, error) from error
    finally:
        if begun and not done:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
        if not done:
            remove_empty(made)


def write_text(path: str | PathLike[str], text: str) -> None:
    """Write a text file as `replacing_file` does.

    Raises:
        StoreError: It cannot be written; what was there before stays.
    """
    with replacing_file(path) as opened:
        opened.write(text.encode("utf-8"))


def _check_target(path: str | PathLike[str], named: str | None = None) -> None:
    """Raise a `StoreError` where no file can be written: a folder, an empty name, or something else than a file."""
    given = os.fspath(path)
    named = named or shown_path(given)
    if not given.strip() or os.path.isdir(given):
        raise StoreError(f"{named} is no name for a file; give one, such as out/report.html")
    refuse_irregular(given, named)


def refuse_irregular(path: str | PathLike[str], named: str) -> None:
    """Raise a `StoreError` if there is something else than a regular file, or the name can be none."""
    try:
        state = os.stat(path)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise cannot_write(named, error) from error
    if not stat.S_ISREG(state.st_mode):
        raise StoreError(f"{named} is no regular file, so it is not replaced; give the name of a file")
