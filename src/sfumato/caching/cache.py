"""What was computed once, kept on disk under the digest of everything that it depends on.

An entry is one file, written beside its place and renamed, so a reader or another process sees all of it or nothing. It
begins with its own digest: a truncated or foreign file is a miss, said once, and never a wrong value.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
import warnings
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
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
"""Bytes of all entries; beyond, those that were not used for longest are removed until half of them is free."""


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


@dataclass
class _Known:
    """What this process knows of a folder, whatever number of caches it has there.

    Attributes:
        used: Entries that it put or got, which it never removes.
        total: Bytes of all entries at its last look, and of those written by it since; None before the first.
        enough: Bytes at which it looks again, where what it uses exceeds the limit by itself.
        lock: Held by the thread that looks.
    """

    used: set[Path] = field(default_factory=set)
    total: int | None = None
    enough: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


_folders: defaultdict[Path, _Known] = defaultdict(_Known)


class Cache:
    """Named arrays by key.

    The folder is looked through at the first entry that a process puts, and whenever that process has written so much
    that the limit is exceeded.

    Args:
        folder: Where entries lie; None keeps nothing.
        limit: Bytes of all entries together; what the running process uses may exceed it.
    """

    def __init__(self, folder: Path | None, limit: int = LIMIT) -> None:
        self._folder, self._limit = folder, limit

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
            os.utime(path)  # used just now: the last to be removed by another process
        _folders[self._folder].used.add(path)
        return found

    def put(self, kind: str, key: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep the arrays of an entry; where that is impossible, say so once and go on."""
        if self._folder is None:
            return
        path, named, packed = self._path(kind, key), f"the cache {self._folder}", _packed(arrays)
        try:
            with replacing_file(path, named=named, durable=False) as opened:
                opened.write(packed)
        except StoreError as error:
            _say_once(f"{error}; images will be made again")
            return
        self._prune(_folders[self._folder], path, len(packed))

    def _path(self, kind: str, key: str) -> Path:
        assert self._folder is not None
        return self._folder / kind / key[:2] / f"{key[2:]}.bin"

    def _prune(self, known: _Known, written: Path, size: int) -> None:
        """Count an entry that was written and, beyond the limit, remove those longest unused."""
        assert self._folder is not None
        with known.lock:
            known.used.add(written)
            if known.total is not None:
                known.total += size
                if known.total <= max(self._limit, known.enough):
                    return
            entries = []
            for path in self._folder.glob("*/*/*"):
                with suppress(OSError):
                    state = path.stat()
                    entries.append((state.st_mtime, state.st_size, path))
            known.total = sum(size for _, size, _ in entries)
            if known.total <= self._limit:
                return
            for _, unused, path in sorted(entries):
                if known.total <= self._limit // 2:
                    break
                if path not in known.used:
                    with suppress(OSError):
                        path.unlink()
                    known.total -= unused
            known.enough = known.total + self._limit // 8


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
