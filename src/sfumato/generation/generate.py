"""One generation through the pipeline's own call: observed, changed and recorded on the way."""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from sfumato.errors import ModelError, NonFinite, RequestError
from sfumato.generation.clock import Clock
from sfumato.generation.context import Attachment, GenerationContext, attached
from sfumato.generation.trace import Call, Trace
from sfumato.models import schedulers
from sfumato.models.model import Model
from sfumato.models.turns import alone
from sfumato.models.variation import varied
from sfumato.progress import Progress, silent
from sfumato.request import CompletedRequest, Request

OWN = frozenset(
    {"prompt", "negative_prompt", "label", "seed", "images", "image", "mask", "reference", "more_references"}
    | {"invert", "at"}  # of which the same is said by their schedules
)
"""What each request of a batch has of its own."""


def generate(
    model: Model,
    requests: Request | Sequence[Request],
    *,
    attachments: Sequence[Attachment] = (),
    record: bool | Collection[int] = False,
    progress: Progress = silent,
) -> Trace:
    """Run the pipeline's own call for one or several requests as one batch.

    Every image has a CPU generator of its own, so it does not depend on what else is in the batch (up to the float
    tolerance of batched kernels, about 1e-5 in float32).

    One thread at a time runs a model; calls from others wait their turn.

    Args:
        model: The model.
        requests: Those that are open are completed. They share all settings but text, label, pictures (of one size),
            seed and number of images.
        attachments: Watchers and changes.
        record: Keep the denoiser's calls for ``Trace.replay``: all of them, or those of some steps.
        progress: Told about every call of the denoiser.

    Raises:
        NonFinite: Latents or image became NaN or infinite; the message says at which step.
        ModelError: A safety checker blacked out an image, or the model is in the middle of a run of this thread.
        RequestError: The requests cannot share a batch.
    """
    given = (requests,) if isinstance(requests, Request) else tuple(requests)
    with alone(model.pipeline), _under_way(model.pipeline), torch.inference_mode(False):
        return _generated(model, given, attachments, record, progress)


def _generated(
    model: Model,
    given: Sequence[Request],
    attachments: Sequence[Attachment],
    record: bool | Collection[int],
    progress: Progress,
) -> Trace:
    asked = tuple(model.complete(request) for request in given)
    _check_batch(asked)
    items = sum(request.images for request in asked)
    latents = _Latents()
    calls: list[Call] = []
    everything: list[Attachment] = [latents, *_recorder(record, calls), *attachments]
    start = time.perf_counter()
    with schedulers.using(model.pipeline, asked[0]), _quiet(model.pipeline):
        clock = Clock(model.pipeline.scheduler, progress)
        with attached(model, asked, items, model.branches(asked[0]), clock, [clock, *everything]), varied(asked):
            made = model.call(asked, latents.on_step)
        scheduler = copy.deepcopy(model.pipeline.scheduler)
    _refuse_blocked(made.blocked)
    final = model.spatial(latents.final(made.latents), asked[0])
    return Trace(model, asked, made.images, final, time.perf_counter() - start, calls, scheduler)


_pipelines: list[Any] = []
"""Those whose call is under way; only the thread that holds a pipeline asks for it."""


@contextmanager
def _under_way(pipeline: Any) -> Iterator[None]:
    """Refuse a run inside a run: the pipeline's call keeps its settings and steps in the pipeline and the scheduler."""
    if any(one is pipeline or one.scheduler is pipeline.scheduler for one in list(_pipelines)):
        raise ModelError(
            "this model is in the middle of a run, which another run inside it would break; explain when the run is "
            "over, not in its progress callback"
        )
    _pipelines.append(pipeline)
    try:
        yield
    finally:
        _pipelines.remove(pipeline)


@contextmanager
def _quiet(pipeline: Any) -> Iterator[None]:
    """Without the pipeline's own progress bar."""
    own = getattr(pipeline, "_progress_bar_config", None)
    pipeline.set_progress_bar_config(**(own or {}) | {"disable": True})
    try:
        yield
    finally:
        if own is None:
            del pipeline._progress_bar_config
        else:
            pipeline._progress_bar_config = own


class _Latents:
    """Keeps the latest latents and finds the first step at which they stop being finite."""

    def __init__(self) -> None:
        self._latest: torch.Tensor | None = None
        self._clock: Clock | None = None
        self._finite: list[tuple[str, torch.Tensor]] = []

    def install(self, run: GenerationContext) -> None:
        self._clock = run.clock
        if run.model.decoder is not None:
            run.hooks.after(run.model.decoder, self._on_image)
        else:
            run.hooks.after(run.model.denoiser, self._on_output)

    def on_step(self, pipeline: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        assert self._clock is not None
        self._latest = values["latents"]
        self._note(
            f"the latents became NaN or infinite at step {self._clock.step + 1} of {self._clock.steps}", self._latest
        )
        return values

    def final(self, told: torch.Tensor | None) -> torch.Tensor:
        """The final latents, from the last step, or as a pipeline that tells of no step gave them at its end.

        Raises:
            NonFinite: Something on the way was not finite (found here on accelerators, at once on a CPU).
        """
        for what, finite in self._finite:
            _demand(what, finite)
        found = told if told is not None else self._latest
        assert found is not None
        return found

    def _on_output(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        assert self._clock is not None
        step = f"step {self._clock.step + 1} of {self._clock.steps}"
        self._note(f"the denoiser's output became NaN or infinite at {step}", output[0])

    def _on_image(self, module: nn.Module, args: Any, kwargs: Any, image: torch.Tensor) -> None:
        self._note("the decoded image is NaN or infinite, although the latents were finite", image)

    def _note(self, what: str, values: torch.Tensor) -> None:
        finite = torch.isfinite(values).all()
        if values.device.type == "cpu":
            _demand(what, finite)
        else:
            self._finite.append((what, finite))  # read at the end: reading now would stall the device


def _demand(what: str, finite: torch.Tensor) -> None:
    if not finite:
        raise NonFinite(f"{what}; no result was made. Try float32, another scheduler or a lower guidance")


def _recorder(record: bool | Collection[int], calls: list[Call]) -> list[Attachment]:
    if isinstance(record, bool):
        return [_Recorder(calls, None)] if record else []
    return [_Recorder(calls, record)]


class _Recorder:
    """Keeps the calls of the denoiser, of all steps or of some."""

    def __init__(self, calls: list[Call], steps: Collection[int] | None) -> None:
        self._calls = calls
        self._steps = steps

    def install(self, run: GenerationContext) -> None:
        signature = inspect.signature(run.model.denoiser.forward)
        first = next(iter(signature.parameters))

        def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if self._steps is not None and run.clock.step not in self._steps:
                return
            given = dict(signature.bind(*args, **kwargs).arguments)
            sample, condition = given.pop(first), given.pop(run.model.condition or "", None)
            self._calls.append(Call(run.clock.step, run.clock.timestep, sample, condition, given, output[0]))

        run.hooks.after(run.model.denoiser, record)


def _refuse_blocked(flagged: Sequence[bool]) -> None:
    """A safety checker replaces an image by black: that is not what the model made, so it is no result."""
    if blocked := [number for number, hit in enumerate(flagged) if hit]:
        raise ModelError(
            f"the pipeline's safety checker blacked out image {blocked[0]}; "
            "change the prompt or the seed, or load the pipeline with safety_checker=None"
        )


def _check_batch(requests: Sequence[CompletedRequest]) -> None:
    if not requests:
        raise RequestError("there is no request; give at least one")
    if len({r.invert for r in requests}) > 1:
        raise RequestError("requests of one batch must share invert: an image is given in some and made in others")
    first = requests[0].values(*OWN)
    for number, request in enumerate(requests):
        for name, value in request.values(*OWN).items():
            if value != first[name]:
                raise RequestError(
                    f"requests of one batch must share {name}: request 0 has {first[name]}, "
                    f"request {number} has {value}"
                )
