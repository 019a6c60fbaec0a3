"""Schedulers by name: those that diffusers counts as compatible with a pipeline's own."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sfumato.errors import ModelError, OptionError
from sfumato.inputs.schedule import listed
from sfumato.models.listed import following
from sfumato.models.noise import is_flow
from sfumato.models.turns import alone
from sfumato.request import CompletedRequest

if TYPE_CHECKING:
    from sfumato.models.model import Model

DEFAULT_STEPS = 50


def scheduler_name(scheduler: Any) -> str:
    """Short name of a scheduler or its class: DDIMScheduler is "ddim", EulerDiscreteScheduler is "euler"."""
    name = scheduler.__name__ if isinstance(scheduler, type) else type(scheduler).__name__
    return str(name).removesuffix("Scheduler").replace("Discrete", "").lower()


def choices(pipeline: Any) -> dict[str, type]:
    """Every scheduler that fits and can be used here, by short name.

    Left out are those whose libraries are not installed and those that condition the network in another way (EDM).
    """
    classes = {
        scheduler_name(c): c
        for c in pipeline.scheduler.compatibles
        if not hasattr(c, "_backends") and not c.__name__.startswith("EDM")
    }
    if is_flow(pipeline.scheduler):  # which others do not predict
        classes = {name: c for name, c in classes.items() if "use_flow_sigmas" in inspect.signature(c).parameters}
    return dict(sorted(classes.items())) | {scheduler_name(pipeline.scheduler): type(pipeline.scheduler)}


def known_scheduler(pipeline: Any, wanted: str | None) -> str:
    """The short name of the wanted scheduler, or of the pipeline's own.

    Raises:
        ModelError: No scheduler of that name fits; the message lists those that do.
    """
    with alone(pipeline):  # else it may be the scheduler of another thread's run
        return scheduler_name(pipeline.scheduler) if wanted is None else _kind(pipeline, wanted)[0]


def _kind(pipeline: Any, wanted: str) -> tuple[str, Any]:
    known = choices(pipeline)
    short = wanted.strip().lower().removesuffix("scheduler").replace("discrete", "")
    if short not in known:
        raise ModelError(f"no scheduler {wanted!r} fits this model; choose from: {', '.join(known)}")
    return short, known[short]


def check_schedule(pipeline: Any, request: CompletedRequest) -> None:
    """Try the schedule of a completed request on a copy of the scheduler.

    Raises:
        ModelError: The scheduler cannot make so many, or so few, steps, or cannot follow a schedule.
        RequestError: The schedule is not possible with so many steps on this model.
    """
    name, steps = request.scheduler, request.steps
    scheduler = _built(pipeline, request)
    trained = int(scheduler.config.get("num_train_timesteps", 0))
    if is_flow(scheduler):
        return  # any number of steps is a division of the flow
    try:
        scheduler.set_timesteps(steps)
        last = float(scheduler.timesteps.max())
    except (ValueError, IndexError, RuntimeError, ZeroDivisionError) as error:
        raise ModelError(f"the scheduler {name} cannot make {steps} steps ({error}); take another number") from error
    if trained and last >= trained:
        raise ModelError(
            f"the scheduler {name} cannot make {steps} steps: it would begin at timestep {last:.0f}, "
            f"but the model knows 0 to {trained - 1}; take fewer"
        )


def schedule_of(model: Model, request: CompletedRequest) -> list[float]:
    """The distinct timesteps of a completed request's run, in order, found on a copy of the scheduler."""
    scheduler = _built(model.pipeline, request)
    if scheduler.config.get("use_dynamic_shifting"):
        raise ModelError("the timesteps of this model depend on the image's size; say steps by their numbers instead")
    scheduler.set_timesteps(request.steps)
    known = list(dict.fromkeys(float(time) for time in scheduler.timesteps.tolist()))
    return known[-model.steps(request) :]


def nearest_steps(model: Model, request: CompletedRequest, wanted: Sequence[int]) -> list[int]:
    """The steps of a completed request's run that are nearest to some timesteps, in order.

    Raises:
        OptionError: The model has no such timestep.
    """
    trained = int(model.pipeline.scheduler.config.get("num_train_timesteps", 1000))
    if not all(isinstance(time, int | float) for time in wanted):
        raise OptionError(f"timesteps is {wanted!r}; expected numbers such as (950, 700)")
    if wrong := [time for time in wanted if not 0 <= time < trained]:
        raise OptionError(f"timesteps has {wrong[0]}; this model has timesteps 0 to {trained - 1}")
    schedule = schedule_of(model, request)
    return sorted({min(range(len(schedule)), key=lambda step: abs(schedule[step] - time)) for time in wanted})


def _built(pipeline: Any, request: CompletedRequest) -> Any:
    with alone(pipeline):
        own, (name, kind) = pipeline.scheduler.config, _kind(pipeline, request.scheduler)
    # the PNDM of Stable Diffusion begins without Runge-Kutta steps, which the configuration of others does not say
    more = {"skip_prk_steps": True} if name == "pndm" and "skip_prk_steps" not in own else {}
    if request.schedule is not None:
        trained = int(own.get("num_train_timesteps", 1000))
        kind = following(kind, tuple(listed(request.schedule, request.steps, trained)))
    return kind.from_config(own, **more)


@contextmanager
def using(pipeline: Any, request: CompletedRequest) -> Iterator[None]:
    """Run with the scheduler and schedule of a completed request, then put the pipeline's own scheduler back."""
    own = pipeline.scheduler
    if request.scheduler == scheduler_name(own) and request.schedule is None:
        yield
        return
    pipeline.scheduler = _built(pipeline, request)
    try:
        yield
    finally:
        pipeline.scheduler = own
