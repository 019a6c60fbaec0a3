"""Who is here: each browser is one visitor, told apart by a cookie, and keeps its own results within bounds."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from sfumato.errors import SfumatoError
from sfumato.results.explanation import Explanation

COOKIE = "sfumato_visitor"
MOST_BYTES = 128_000_000
MOST_RESULTS = 40
MOST_VISITORS = 500
IDLE = 4 * 3600.0


class Gone(SfumatoError):
    """A result is not kept (any more), or was never this visitor's."""


@dataclass(frozen=True)
class Kept:
    """A result of a visitor.

    Attributes:
        id: By which the page asks for it; a secret that only its visitor is told.
        title: One line.
        explanation: The result.
        size: Bytes of its arrays.
        number: Counts a visitor's results from 1.
    """

    id: str
    title: str
    explanation: Explanation
    size: int
    number: int


@dataclass
class Visitor:
    """One browser and the results that it was given; the oldest go when there are too many."""

    key: str
    seen: float = field(default_factory=time.monotonic)
    _kept: OrderedDict[str, Kept] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def keep(self, explanation: Explanation, title: str) -> Kept:
        """Keep a result.

        Raises:
            SfumatoError: It is larger than all that a visitor may keep.
        """
        size = int(explanation.tree.nbytes)
        if size > MOST_BYTES:
            raise SfumatoError(
                f"the result takes {size / 1e6:.3g} MB, a visitor may keep {MOST_BYTES / 1e6:.3g} MB; ask for less"
            )
        with self._lock:
            kept = Kept(secrets.token_urlsafe(16), title, explanation, size, next(self._numbers))
            self._kept[kept.id] = kept
            while len(self._kept) > MOST_RESULTS or sum(one.size for one in self._kept.values()) > MOST_BYTES:
                self._kept.popitem(last=False)
        return kept

    def find(self, id: str) -> Kept:  # noqa: A002
        """A result by its id.

        Raises:
            Gone: It is not there.
        """
        with self._lock:
            if id not in self._kept:
                raise Gone("this result is no longer kept on the server; make it again")
            self._kept.move_to_end(id)
            return self._kept[id]

    def results(self) -> Sequence[Kept]:
        """All that is kept, the newest first."""
        with self._lock:
            return sorted(self._kept.values(), key=lambda one: -one.number)


class Visitors:
    """All visitors by the value of their cookie."""

    def __init__(self) -> None:
        self._known: dict[str, Visitor] = {}
        self._lock = threading.Lock()

    def of(self, key: str) -> Visitor:
        """The visitor of a cookie; those who were idle for long, or are too many, are forgotten."""
        now = time.monotonic()
        with self._lock:
            visitor = self._known.setdefault(key, Visitor(key))
            visitor.seen = now
            idle = [name for name, one in self._known.items() if now - one.seen > IDLE]
            by_age = sorted(self._known, key=lambda name: self._known[name].seen)
            for name in {*idle, *by_age[: max(0, len(by_age) - MOST_VISITORS)]} - {key}:
                del self._known[name]
        return visitor

    def __len__(self) -> int:
        return len(self._known)
