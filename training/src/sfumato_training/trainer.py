"""The loop that all stages share: the loss of a batch, a step, a line of the log, a checkpoint, a look."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from sfumato.errors import TrainingError
from sfumato_training.checkpoints import save
from sfumato_training.optimising import Training
from sfumato_training.progress import Progress
from sfumato_training.schedule import falling_rate
from sfumato_training.shared_settings import Descent, Whole

Settings_co = TypeVar("Settings_co", bound=Whole, covariant=True)

Loss = tuple[torch.Tensor, Mapping[str, torch.Tensor]]
"""What a batch says: the value that a step makes smaller, and numbers for the log; of these "loss" takes its place."""

STREAMS = {"vae": 1, "clip": 2, "unet": 3, "reader": 7, "denoiser": 8, "transformer": 9}
"""Each stage draws from a stream of its own."""


def step_generator(seed: int, stage: str, step: int) -> torch.Generator:
    """Give the source of everything random in one step.

    Random numbers follow from seed, stage and step alone. So a checkpoint needs no state of a generator, and a
    training that was cut off goes on exactly as it would have.
    """
    mixed = torch.tensor([seed, STREAMS[stage], step], dtype=torch.int64)
    number = int((mixed * torch.tensor([1_000_003 * 97, 1_000_003, 1])).sum()) & 0x7FFF_FFFF_FFFF
    return torch.Generator().manual_seed(number)


@dataclass(frozen=True)
class Work(Generic[Settings_co]):
    """A training under way, as its stages see it.

    Attributes:
        config: All its settings.
        out: The work folder.
        progress: Told every step.
        resume: Whether a stage goes on from its last checkpoint, if there is one.
    """

    config: Settings_co
    out: Path
    progress: Progress
    resume: bool = True

    @property
    def device(self) -> torch.device:
        """Where it trains."""
        return torch.device(self.config.device)


def fit(
    work: Work[Whole],
    stage: str,
    training: Training,
    steps: int,
    loss: Callable[[torch.Generator], Loss],
    rate: Callable[[int], float],
    *,
    clip_norm: float = 1.0,
    state: Mapping[str, Any] | None = None,
    look: Callable[[int], None] | None = None,
    looks_every: int = 0,
) -> None:
    """Train models into the folder of a stage, from its last checkpoint on.

    Args:
        work: Where, with which seed, and who is told.
        stage: Its name.
        training: The models.
        steps: Of the whole stage.
        loss: Draws a batch with a generator that follows from seed, stage and step, and gives its loss.
        rate: The learning rate of a step.
        clip_norm: Limit of the norm of the gradient.
        state: What else a checkpoint keeps: plain values that JSON can hold.
        look: Called with the step, to measure what is trained.
        looks_every: Steps between looks; also after the last step; 0 for none.
    """
    folder = work.out / stage
    if work.resume and training.resume(folder):
        work.progress.event(stage, training.step, {"resumed": True})
    while training.step < steps:
        started = time.monotonic()
        value, shown = loss(step_generator(work.config.seed, stage, training.step))
        lr = rate(training.step)
        norm = training.update(value, lr, clip_norm)
        values = {"loss": value.item(), **{name: one.item() for name, one in shown.items()}}
        seconds = time.monotonic() - started
        work.progress.step(stage, training.step, steps, {**values, "norm": norm, "lr": lr, "seconds": seconds})
        last = training.step == steps
        if training.step % work.config.checkpoint_every == 0 or last:
            save(folder, training.step, training.tensors(), state or {})
        if look is not None and looks_every and (training.step % looks_every == 0 or last):
            look(training.step)


def falling(settings: Descent) -> Callable[[int], float]:
    """The learning rate of each step: rising, constant, falling over the last share of the steps."""
    return lambda step: falling_rate(settings.lr, step, settings.steps, settings.warmup, settings.cooldown)


def keep_start(training: Training, settings: Any, folder: Path) -> None:
    """Write the weights that a stage of 0 steps starts from, so that it has a result like any other.

    Args:
        training: After the last step.
        settings: Of the stage, with `steps` and `start`.
        folder: Of the stage.

    Raises:
        TrainingError: It starts from nothing, so there is nothing to keep.
    """
    if settings.steps > 0 or training.step > 0:
        return
    if not settings.start:
        raise TrainingError(f"{folder.name} has 0 steps and nothing to start from; give it steps, or a start")
    save(folder, 0, training.tensors(), {})
