"""A generation under way, and what can be attached to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sfumato.models.model import Branches, Model
from sfumato.request import Request
from sfumato.watching.clock import Clock
from sfumato.watching.hooks import Hooks


@dataclass
class Run:
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
    requests: tuple[Request, ...]
    items: int
    branches: Branches
    clock: Clock
    hooks: Hooks


class Attachment(Protocol):
    """A watcher, which must change nothing, or a change: both register hooks on a run."""

    def install(self, run: Run) -> None:
        """Register hooks on the run's modules through ``run.hooks``."""
        ...
