"""What an executor is: it measures shards somewhere and gives back how each ended, in any order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from sfumato.runs.worker import Done, Job, Work

ATTEMPTS = 3
"""How often a shard is given to a worker before its items are recorded as failed."""


def batch_after(losses: int, batch: int) -> int:
    """Items that are measured together, of a shard that has cost so many workers: in its last try every item alone."""
    return 1 if losses == ATTEMPTS - 1 else batch


class Executor(Protocol):
    """Measures the shards of a run."""

    def __call__(self, job: Job, works: Iterator[Work]) -> Iterator[Done]:
        """Measure every shard once; what a lost worker had is given to another one.

        Args:
            job: What the shards share.
            works: Drawn as workers get free, never far ahead.

        Raises:
            RunError: No worker can begin.
            StoreError: A shard cannot be written.
        """
        ...
