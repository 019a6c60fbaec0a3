"""A generation under way, and what can be attached to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from sfumato.generation.clock import Clock
from sfumato.generation.hooks import Hooks, temporary_hooks
from sfumato.models.model import Branches, Model, modules_of
from sfumato.request import CompletedRequest


@dataclass
class GenerationContext:
    """A generation (or one replayed call) in progress: what a watcher or a change may look at.

    Attributes:
        model: The model.
        requests: Completed requests, one per prompt.
        items: Number of images.
        branches: Layout of the denoiser's batch.
        clock: The step that is under way.
        hooks: Where temporary hooks are registered; all go when the run ends.
    """

    model: Model
    requests: tuple[CompletedRequest, ...]
    items: int
    branches: Branches
    clock: Clock
    hooks: Hooks

    def rows(self, branch: str) -> slice | None:
        """The rows of a branch in the call of the denoiser that is under way; None where it is another branch's call.

        Raises:
            ModelError: The request has no such branch.
        """
        rows = self.branches.rows(branch, self.items)
        return None if self.branches.sequential and self.branches.names[self.clock.turn] != branch else rows


class Attachment(Protocol):
    """A watcher, which must change nothing, or a change: both register hooks on a run."""

    def install(self, run: GenerationContext) -> None:
        """Register hooks on the run's modules through ``run.hooks``."""
        ...


@contextmanager
def attached(
    model: Model,
    requests: tuple[CompletedRequest, ...],
    items: int,
    branches: Branches,
    clock: Clock,
    attachments: Sequence[Attachment],
) -> Iterator[None]:
    """Networks in evaluation mode and attachments in place, both undone at the end."""
    with temporary_hooks() as hooks:
        for part in modules_of(model.pipeline).values():
            for module in [module for module in part.modules() if module.training]:
                hooks.finally_(partial(setattr, module, "training", True))
                module.training = False
        run = GenerationContext(model, requests, items, branches, clock, hooks)
        for attachment in attachments:
            attachment.install(run)
        yield
