"""One worker in this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.runs.worker import Done, Job, Work, Worker

if TYPE_CHECKING:
    from sfumato.models.model import Model


@dataclass(frozen=True)
class Local:
    """Measures with a model that is loaded here.

    Attributes:
        model: The model of the run.
    """

    model: Model

    def __call__(self, job: Job, works: Iterator[Work]) -> Iterator[Done]:
        """Measure one shard after another."""
        worker = Worker(job, self.model)
        for work in works:
            yield worker(work)
