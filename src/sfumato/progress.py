"""How long work tells its progress: one callable, given by the command line or by the caller."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called after every unit of work."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` units of ``what`` are finished."""
        ...


def silent(what: str, done: int, total: int) -> None:
    """Report nothing."""
