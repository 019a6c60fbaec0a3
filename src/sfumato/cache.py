"""What was computed once, kept on disk under the digest of everything that it depends on.

An entry is one file, written beside its place and renamed, so a reader or another process sees all of it or nothing. It
begins with its own digest: a truncated or foreign file is a miss, said once, and never a wrong value.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import SfumatoWarning, StoreError, Unreadable
from sfumato.reading import path_of
from sfumato.writing.files import replacing_file

VARIABLE = "SFUMATO_CACHE"
FORMAT = b"sfumato-cache-1\n"
LIMIT = 2 * 10**9
"""Bytes of all entries; beyond, those that were not used for longest are removed."""


def default_folder() -> Path | None:
    """The folder that SFUMATO_CACHE names ("off": none), or the user's usual place for caches.

    Where neither can be found, as without a home folder, nothing is kept, which is noted once.
    """
    given = os.environ.get(VARIABLE, "")
    if given.strip().lower() == "off":
        return None
    try:
        return path_of(given) if given.strip() else path_of(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "sfumato"
    except Unreadable as error:
        _say_once(f"there is no cache ({error}), so everything is made again")
        return None


def digest(parts: Mapping[str, Any]) -> str:
    """The key of everything that a value depends on: SHA-256 of its canonical JSON form."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


_told: set[str] = set()
"""What was said in this process: every method has a cache of its own, and once is enough."""


def _say_once(what: str) -> None:
    if what not in _told:
        _told.add(what)
        warnings.warn(f"{what}; set {VARIABLE} to another folder, or to 'off'", SfumatoWarning, stacklevel=4)


class Cache:
    """Named arrays by key.

    Args:
        folder: Where entries lie; None keeps nothing.
        limit: Bytes of all entries together.
    """

    def __init__(self, folder: Path | None, limit: int = LIMIT) -> None:
        self._folder, self._limit = folder, limit
        self._pruned = False

    def get(self, kind: str, key: str) -> dict[str, NDArray[Any]] | None:
        """The arrays of an entry, or None if there is none that can be read."""
        if self._folder is None:
            return None
        path = self._path(kind, key)
        try:
            stored = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _say_once(f"the cache {self._folder} cannot be read ({error.strerror}); nothing is taken from it")
            return None
        found = _unpacked(stored)
        if found is None:
            _say_once(f"an entry of the cache {self._folder} is damaged or of another version; it is made again")
            return None
        with suppress(OSError):
            os.utime(path)  # used just now: the last to be removed
        return found

    def put(self, kind: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep the arrays of an entry; where that is impossible, say so once and go on."""
        if self._folder is None:
            return
        self._prune()
        named = f"the cache {self._folder}"
        try:
            with replacing_file(self._path(kind, key), named=named, durable=False) as opened:
                opened.write(_packed(arrays))
        except StoreError as error:
            _say_once(f"{error}; images will be made again")

    def _path(self, kind: str, key: str) -> Path:
        assert self._folder is not None
        return self._folder / kind / key[:2] / f"{key[2:]}.bin"

    def _prune(self) -> None:
        """Once per process, remove the entries longest unused until half of the limit is free."""
        if self._pruned or self._folder is None:
            return
        self._pruned = True
        entries = []
        for path in self._folder.glob("*/*/*"):
            with suppress(OSError):
                state = path.stat()
                entries.append((state.st_mtime, state.st_size, path))
        total = sum(size for _, size, _ in entries)
        if total <= self._limit:
            return
        for _, size, path in sorted(entries):
            if total <= self._limit // 2:
                break
            with suppress(OSError):
                path.unlink()
            total -= size


def _packed(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]
    content = buffer.getvalue()
    return FORMAT + hashlib.sha256(content).digest() + content


def _unpacked(stored: bytes) -> dict[str, NDArray[Any]] | None:
    start = len(FORMAT) + 32
    content = stored[start:]
    if stored[: len(FORMAT)] != FORMAT or hashlib.sha256(content).digest() != stored[len(FORMAT) : start]:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        return {name: found[name] for name in found.files}
