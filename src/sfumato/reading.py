"""Reading what users name on the disk: regular files alone, of bounded size; JSON of bounded depth.

A pipe or a device could be read for ever, and a file of a few bytes can be JSON that is nested more deeply than Python
can follow. All readers of files that come from outside go through these functions.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sfumato.bounds import shown, shown_path
from sfumato.errors import Unreadable

AT_ONCE = 2**20
"""Bytes that are read at once, so that a small file takes little memory."""
MOST_BYTES = 256 * 2**20
"""Of a file of JSON; a result with three large pictures in its request has about 200 MB."""
MOST_DEPTH = 100
"""Levels of lists and objects within each other."""


def path_of(given: str | os.PathLike[str]) -> Path:
    """The path that a user wrote, with ~ replaced by the folder that it stands for.

    Raises:
        Unreadable: It is empty, holds NUL, cannot be a path here, or begins with ~ and the name of no user.
    """
    text = os.fspath(given)
    if not isinstance(text, str) or not text:
        raise Unreadable(shown(text), "it is no path")
    if "\0" in text:
        raise Unreadable(shown(text), "it contains a NUL character; remove it")
    try:
        os.fsencode(text)
        return Path(text).expanduser()
    except UnicodeEncodeError:
        raise Unreadable(shown(text), "it contains half of a surrogate pair; remove it") from None
    except RuntimeError:
        name = Path(text).parts[0]
        raise Unreadable(shown(text), f"there is no home folder for {name}; write the path out") from None


@contextmanager
def open_bytes(given: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A regular file, open for reading its bytes, for what is read piece by piece.

    Args:
        given: Its path, as the user wrote it.

    Raises:
        Unreadable: It is missing, no regular file, or the system refuses it, now or while it is read.
    """
    path = path_of(given)
    try:
        # not to wait for a writer, if it is a pipe
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            state = os.fstat(number)
            if stat.S_ISDIR(state.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(state.st_mode):
                raise Unreadable(shown_path(given), "it is no regular file; give a file on the disk")
            with os.fdopen(number, "rb", closefd=False) as opened:
                yield opened
        finally:
            os.close(number)
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unreadable(shown_path(given), reason, missing=isinstance(error, FileNotFoundError)) from error


def read_bytes(given: str | os.PathLike[str], most: int = MOST_BYTES) -> bytes:
    """The content of a regular file.

    Args:
        given: Its path, as the user wrote it.
        most: Bytes that it may have.

    Raises:
        Unreadable: It is missing, no regular file, too large, or the system refuses it.
    """
    parts, left = list[bytes](), most + 1
    with open_bytes(given) as opened:
        while left and (part := opened.read(min(left, AT_ONCE))):
            parts.append(part)
            left -= len(part)
        size = max(os.fstat(opened.fileno()).st_size, most + 1 - left)
    if not left:
        raise Unreadable(shown_path(given), f"it has {size / 1e6:,.0f} MB; at most {most / 1e6:,.0f} are read")
    return b"".join(parts)


def read_text(given: str | os.PathLike[str], most: int = MOST_BYTES) -> str:
    """The content of a file of text in UTF-8, with or without a byte order mark.

    Args:
        given: Its path, as the user wrote it.
        most: Bytes that it may have.

    Raises:
        Unreadable: As for ``read_bytes``, or it is no UTF-8 or holds NUL.
    """
    content = read_bytes(given, most)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable(shown_path(given), "it is no text in UTF-8") from None
    if "\0" in text:
        raise Unreadable(shown_path(given), "it holds NUL characters, so it is no text")
    return text


def read_json(given: str | os.PathLike[str], most: int = MOST_BYTES) -> Any:
    """What a file of JSON holds.

    Args:
        given: Its path, as the user wrote it.
        most: Bytes that it may have.

    Raises:
        Unreadable: As for ``read_text``, or it is no JSON or nested too deeply.
    """
    return parse_json(read_text(given, most), shown_path(given))


def parse_json(text: str, what: str = "the text") -> Any:
    """What a text of JSON says.

    Args:
        text: The text.
        what: How messages call it.

    Raises:
        Unreadable: It is no JSON, or nested too deeply.

    Example:
        >>> parse_json('{"steps": [1, 2]}')
        {'steps': [1, 2]}
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise Unreadable(what, f"it is no JSON ({error})") from None
    except RecursionError:
        raise Unreadable(what, f"it is nested more than {MOST_DEPTH} levels deep") from None
    level: list[Any] = [found]
    for _ in range(MOST_DEPTH + 1):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return found
    raise Unreadable(what, f"it is nested more than {MOST_DEPTH} levels deep")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
