"""One thread at a time on a model: calls of other threads wait in a queue.

A run changes its pipeline for as long as it lasts: it has hooks on the networks, another scheduler, sometimes other
weights. A second run at the same time would see them. So whatever runs a model holds it, with all parts that other
pipelines may share; a thread that holds a model already may enter again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from sfumato.errors import ModelError
from sfumato.models.model import modules_of


@dataclass(eq=False)
class _Turn:
    """A thread and what it holds or waits for, by identity."""

    parts: Mapping[int, Any]
    thread: int = field(default_factory=threading.get_ident)

    def meets(self, other: _Turn) -> bool:
        """Whether two threads want the same part."""
        return self.thread != other.thread and not self.parts.keys().isdisjoint(other.parts)


class _Turns:
    """All turns of the process: those that are held, and those that wait, the longest waiting first."""

    def __init__(self) -> None:
        self.held: list[_Turn] = []
        self.waiting: list[_Turn] = []
        self.news = threading.Condition()

    def take(self, turn: _Turn) -> None:
        """Wait until no other thread holds a part, and for those that came first."""
        with self.news:
            self.waiting.append(turn)
            while self._blocked(turn):
                if self._in_a_circle(turn):
                    raise ModelError(
                        "two threads hold one model each and wait for the other's, so neither could go on; "
                        "explain with one model after the other, not with one inside the other"
                    )
                self.news.wait()
            self.waiting.remove(turn)
            self.held.append(turn)

    def give_back(self, turn: _Turn) -> None:
        """End a turn, or the wait for it."""
        with self.news:
            self.held = [one for one in self.held if one is not turn]
            self.waiting = [one for one in self.waiting if one is not turn]
            self.news.notify_all()

    def _blocked(self, turn: _Turn) -> bool:
        if any(turn.meets(one) for one in self.held):
            return True
        if any(one.thread == turn.thread for one in self.held):
            return False  # behind a thread that waits for what this one holds, both would wait for ever
        return any(turn.meets(one) for one in self.waiting[: self.waiting.index(turn)])

    def _in_a_circle(self, turn: _Turn) -> bool:
        """Whether a thread that holds a part waits, directly or through others, for this turn's own thread."""
        reached, found = {turn.thread}, [turn]
        while found:
            wanted = found.pop()
            for thread in {one.thread for one in self.held if wanted.meets(one)}:
                if thread == turn.thread:
                    return True
                if thread not in reached:
                    reached.add(thread)
                    found += [one for one in self.waiting if one.thread == thread]
        return False


_turns = _Turns()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_turns.__init__)  # type: ignore[misc]  # the threads that held something are gone


@contextmanager
def alone(whole: Any) -> Iterator[None]:
    """Hold a pipeline or a network for this thread; another thread that wants one of its parts waits.

    ``explain``, ``generate`` and ``Trace.replay`` do so by themselves. Use it to keep a pipeline for several calls, or
    to call it directly while other threads explain it.

    Args:
        whole: The pipeline, or one network.

    Raises:
        ModelError: This thread holds a model that another thread waits for, which holds this one.

    Example:
        >>> import sfumato
        >>> model = sfumato.load()
        >>> with alone(model.pipeline):
        ...     image = model.pipeline("a red circle", num_inference_steps=2).images[0]
    """
    own = () if isinstance(whole, nn.Module) else modules_of(whole).values()
    scheduler = getattr(whole, "scheduler", whole)
    turn = _Turn({id(part): part for part in (whole, scheduler, *own)})
    try:
        _turns.take(turn)
        yield
    finally:
        _turns.give_back(turn)
