"""Schedulers by name: those that diffusers counts as compatible with a pipeline's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sfumato.errors import ModelError

DEFAULT_STEPS = 50


def scheduler_name(scheduler: Any) -> str:
    """Short name of a scheduler or its class: DDIMScheduler is "ddim", EulerDiscreteScheduler is "euler"."""
    name = scheduler.__name__ if isinstance(scheduler, type) else type(scheduler).__name__
    return str(name).removesuffix("Scheduler").replace("Discrete", "").lower()


def choices(pipeline: Any) -> dict[str, type]:
    """Every scheduler that fits, by short name."""
    classes = {scheduler_name(c): c for c in pipeline.scheduler.compatibles if hasattr(c, "from_config")}
    return dict(sorted(classes.items())) | {scheduler_name(pipeline.scheduler): type(pipeline.scheduler)}


def known_scheduler(pipeline: Any, wanted: str | None) -> str:
    """The short name of the wanted scheduler, or of the pipeline's own.

    Raises:
        ModelError: No scheduler of that name fits; the message lists those that do.
    """
    if wanted is None:
        return scheduler_name(pipeline.scheduler)
    short = wanted.strip().lower().removesuffix("scheduler").replace("discrete", "")
    if short not in choices(pipeline):
        raise ModelError(f"no scheduler {wanted!r} fits this model; choose from: {', '.join(choices(pipeline))}")
    return short


@contextmanager
def using(pipeline: Any, name: str) -> Iterator[None]:
    """Run with the named scheduler, built from the configuration of the pipeline's own, then put that one back."""
    own = pipeline.scheduler
    if name == scheduler_name(own):
        yield
        return
    pipeline.scheduler = choices(pipeline)[name].from_config(own.config)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        pipeline.scheduler = own
