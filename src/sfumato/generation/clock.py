"""Which denoising step a call of the denoiser belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn

from sfumato.generation.hooks import Hooks
from sfumato.models.model import Branches, Model
from sfumato.progress import Progress

ROUNDING = 1e-3


class Following(Protocol):
    """The part of a run that the clock needs."""

    @property
    def model(self) -> Model:
        """The model."""
        ...

    @property
    def branches(self) -> Branches:
        """Layout of the denoiser's batch."""
        ...

    @property
    def hooks(self) -> Hooks:
        """Where hooks are registered."""
        ...


class Clock:
    """Follows the denoiser's calls. Schedulers such as PNDM and Heun call it more often than there are steps.

    Attributes:
        calls: Finished and current calls so far.
        turn: Where guidance branches are calls of their own: which of them the current call is, from 0.
        step: Step of the current call, from 0, counted over the scheduler's distinct timesteps.
        timestep: The scheduler's timestep of the current call.
    """

    def __init__(self, scheduler: Any, progress: Progress) -> None:
        self._scheduler = scheduler
        self._progress = progress
        self._schedule: list[float] = []
        self._steps: dict[float, int] = {}
        self._offset = 0
        self._each, self._scale = 1, 1.0
        self.calls = 0
        self.turn = 0
        self.step = -1
        self.timestep = float("nan")

    def install(self, run: Following) -> None:
        """Start following the denoiser of a run; install the clock before whatever reads it."""
        self._each, self._scale = run.branches.calls, run.model.time_scale
        run.hooks.before(run.model.denoiser, self._tick)
        run.hooks.after(run.model.denoiser, self._report)

    def hold(self, step: int, timestep: float) -> None:
        """Stand at one step (for a replayed call)."""
        self.step, self.timestep = step, timestep

    @property
    def steps(self) -> int:
        """How many distinct steps the run has."""
        return len(self._steps)

    def _tick(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = kwargs.get("timestep", args[1] if len(args) > 1 else None)
        if self.calls == 0:
            self._schedule = [float(t) for t in self._scheduler.timesteps.tolist()]
            self._offset = _begins(self._scheduler, _value(given) * self._scale, self._schedule)
            self._steps = {t: i for i, t in enumerate(dict.fromkeys(self._schedule[self._offset :]))}
        place = min(self._offset + self.calls // self._each, len(self._schedule) - 1)
        value = _nearest(_value(given) * self._scale, self._schedule) if _tells(given) else self._schedule[place]
        self.timestep, self.turn = value, self.calls % self._each
        self.step = self._steps.setdefault(value, len(self._steps))
        self.calls += 1

    def _report(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self._progress("denoising", self.step + 1, self.steps)


def _begins(scheduler: Any, first: float, schedule: Sequence[float]) -> int:
    """The place in the schedule where a run begins: as the scheduler was told, else nearest to its timestep."""
    told = getattr(scheduler, "begin_index", None)
    if told is not None:
        return int(told)
    return min(range(len(schedule)), key=lambda place: abs(schedule[place] - first), default=0)


def _tells(given: Any) -> bool:
    """Whether a timestep is to be read: from an accelerator that would stall it, and half precision rounds it.

    Elsewhere the schedule's own order is followed.
    """
    return not isinstance(given, torch.Tensor) or (
        given.device.type == "cpu" and given.dtype not in (torch.float16, torch.bfloat16)
    )


def _nearest(value: float, schedule: Sequence[float]) -> float:
    """The timestep of the schedule that a value is, up to rounding; else the value itself."""
    known = min(schedule, key=lambda one: abs(one - value), default=value)
    return known if abs(known - value) <= ROUNDING * max(1.0, abs(known)) else value


def _value(timestep: Any) -> float:
    return float(timestep.flatten()[0]) if isinstance(timestep, torch.Tensor) else float(timestep)
