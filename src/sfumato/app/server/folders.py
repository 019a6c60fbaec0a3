"""What runs and saved results in the folder of the page have in common: found by looking, named by an id, newest first.

A visitor names what lies there by a digest of its place, never by path.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from sfumato.app.server.visitors import Gone

DEEPEST = 3
"""How many folders deep is looked."""
MOST = 200
"""Entries of a list."""


class Entry(Protocol):
    """What lies in the folder: its id, and seconds since 1970 when it was written."""

    @property
    def id(self) -> str:
        """A digest of its place."""
        ...

    @property
    def when(self) -> float:
        """Seconds since 1970."""
        ...


E = TypeVar("E", bound=Entry)


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder by name, without hidden ones and links; none where it cannot be read."""
    try:
        found = [one for one in os.scandir(folder) if one.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [Path(one.path) for one in sorted(found, key=lambda one: one.name) if not one.name.startswith(".")]


def id_of(place: str) -> str:
    """The id of what lies at a place in the folder."""
    return hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:16]


def newest(found: Iterable[E]) -> Sequence[E]:
    """What was written last first, at most `MOST`."""
    return sorted(found, key=lambda one: -one.when)[:MOST]


def with_id(listed: Iterable[E], id: str, what: str) -> E:  # noqa: A002
    """The entry of an id.

    Raises:
        Gone: It is not there.
    """
    for one in listed:
        if one.id == id:
            return one
    raise Gone(f"this {what} is no longer in the folder; refresh the list")
