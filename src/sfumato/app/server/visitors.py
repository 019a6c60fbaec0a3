"""Who is here: each browser is one visitor, told apart by a cookie, and keeps its own results within bounds."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sfumato.errors import SfumatoError
from sfumato.results.explanation import Explanation

COOKIE = "sfumato_visitor"
MOST_BYTES = 128_000_000
MOST_RESULTS = 40
MOST_VISITORS = 500
MOST_TOTAL = 2_000_000_000
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
        source: Of a copy of a saved result, which it is; "" for what the visitor made.
    """

    id: str
    title: str
    explanation: Explanation
    size: int
    number: int
    source: str = ""


@dataclass
class Shelf:
    """What one visitor keeps, the most recently used last."""

    seen: float
    kept: OrderedDict[str, Kept] = field(default_factory=OrderedDict)
    made: int = 0

    @property
    def size(self) -> int:
        """Bytes of all arrays."""
        return sum(one.size for one in self.kept.values())


@dataclass(frozen=True)
class Visitor:
    """One browser, and the way to the results that it was given; the oldest go when there are too many.

    Who never kept anything is not remembered, so visitors without a result push nobody out.
    """

    key: str
    home: Visitors

    def keep(self, explanation: Explanation, title: str, *, source: str = "") -> Kept:
        """Keep a result; copies of saved ones go first when there are too many.

        Args:
            explanation: The result.
            title: One line.
            source: Of a copy of a saved result, which it is.

        Raises:
            SfumatoError: It is larger than all that a visitor may keep.
        """
        size = int(explanation.tree.nbytes)
        if size > MOST_BYTES:
            raise SfumatoError(
                f"the result takes {size / 1e6:.3g} MB, a visitor may keep {MOST_BYTES / 1e6:.3g} MB; ask for less"
            )
        with self.home.shelf(self.key, new=True) as shelf:
            assert shelf is not None
            shelf.made += 1
            kept = Kept(secrets.token_urlsafe(16), title, explanation, size, shelf.made, source)
            shelf.kept[kept.id] = kept
            while len(shelf.kept) > MOST_RESULTS or shelf.size > MOST_BYTES:
                others = [one for one in shelf.kept.values() if one is not kept]
                del shelf.kept[next((one.id for one in others if one.source), others[0].id)]
        return kept

    def copy(self, source: str) -> Kept | None:
        """The copy of a saved result, where it is still kept."""
        with self.home.shelf(self.key) as shelf:
            copies = [] if shelf is None else [one for one in shelf.kept.values() if one.source == source]
            if shelf is None or not copies:
                return None
            shelf.kept.move_to_end(copies[0].id)
            return copies[0]

    def find(self, id: str) -> Kept:  # noqa: A002
        """A result by its id.

        Raises:
            Gone: It is not there.
        """
        with self.home.shelf(self.key) as shelf:
            if shelf is None or id not in shelf.kept:
                raise Gone("this result is no longer kept on the server; make it again")
            shelf.kept.move_to_end(id)
            return shelf.kept[id]

    def results(self) -> Sequence[Kept]:
        """All that is kept, the newest first."""
        with self.home.shelf(self.key) as shelf:
            return [] if shelf is None else sorted(shelf.kept.values(), key=lambda one: -one.number)


class Visitors:
    """All visitors by the value of their cookie, with what they keep."""

    def __init__(self) -> None:
        self._shelves: dict[str, Shelf] = {}
        self._lock = threading.Lock()

    def of(self, key: str) -> Visitor:
        """The visitor of a cookie."""
        return Visitor(key, self)

    @contextmanager
    def shelf(self, key: str, *, new: bool = False) -> Iterator[Shelf | None]:
        """What a visitor keeps, while nobody else touches it; None where that is nothing, unless a new one is wanted.

        Those who were idle for long, are too many, or keep too much together are forgotten, the longest idle first.
        """
        now = time.monotonic()
        with self._lock:
            found = self._shelves.get(key)
            if found is None and new:
                found = self._shelves[key] = Shelf(now)
            if found is not None:
                found.seen = now
            yield found
            for name in sorted(self._shelves, key=lambda name: self._shelves[name].seen):
                idle = now - self._shelves[name].seen > IDLE
                many = len(self._shelves) > MOST_VISITORS
                if name != key and (idle or many or sum(one.size for one in self._shelves.values()) > MOST_TOTAL):
                    del self._shelves[name]

    def __len__(self) -> int:
        return len(self._shelves)
