"""One generation, run through the pipeline's own call: watched, changed, recorded, and replayed step by step."""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from PIL import Image
from torch import nn

from sfumato.context import Attachment, GenerationContext
from sfumato.errors import ModelError, NonFinite, RequestError
from sfumato.models import noise, schedulers
from sfumato.models.arguments import of_rows, repeated, replaced
from sfumato.models.model import Branches, Model, modules_of
from sfumato.models.turns import alone
from sfumato.models.variation import varied
from sfumato.progress import Progress, silent
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.images import image_node
from sfumato.watching.clock import Clock
from sfumato.watching.hooks import temporary_hooks


@dataclass(frozen=True)
class Call:
    """One recorded call of the denoiser: its arguments, output, step and timestep.

    A denoiser that takes a sequence has (row, position, channel) for (row, channel, y, x).
    """

    step: int
    timestep: float
    sample: torch.Tensor  # (row, channel, y, x)
    condition: torch.Tensor | None  # (row, token, channel), or (row,) for labels; None where there is none
    arguments: dict[str, Any]
    output: torch.Tensor  # (row, channel, y, x)


@dataclass
class Trace:
    """What a generation left behind.

    Attributes:
        model: The model that made it.
        requests: The completed requests.
        images: One image per item; the images of the first request come first.
        latents: Final latents (item, channel, y, x) on the model's device.
        seconds: Wall time of the run.
        calls: Recorded calls of the denoiser, when asked for.
        scheduler: A copy of the scheduler as the run left it, its timesteps set.
    """

    model: Model
    requests: tuple[Request, ...]
    images: list[Image.Image]
    latents: torch.Tensor
    seconds: float
    calls: list[Call] = field(default_factory=list)
    scheduler: Any = None

    @property
    def branches(self) -> Branches:
        """The guidance branches of the run."""
        return self.model.branches(self.requests[0])

    def of(self, number: int) -> slice:
        """The items of the request with this number."""
        start = sum(r.images for r in self.requests[:number])
        return slice(start, start + self.requests[number].images)

    def explanation(
        self, number: int, nodes: Mapping[str, xr.Dataset], provenance: Mapping[str, Any] | None = None
    ) -> Explanation:
        """An explanation of the request with this number: its images, what a method found, what it depends on."""
        request = self.requests[number]
        pixels = [np.asarray(image.convert("RGB")) for image in self.images[self.of(number)]]
        image = image_node(pixels, request.seeds)
        return Explanation(xr.DataTree.from_dict({"image": image, **nodes}), request, dict(provenance or {}))

    @property
    def steps(self) -> list[int]:
        """Numbers of the steps whose calls were recorded, in order."""
        return sorted({call.step for call in self.calls})

    def call(self, step: int) -> Call:
        """The first recorded call of a step.

        Raises:
            ModelError: The calls were not recorded, or there is no such step.
        """
        steps = self.steps
        if not steps:
            raise ModelError("the calls of this run were not recorded; generate it with record=True")
        found = [call for call in self.calls if call.step == step]
        if not found:
            raise ModelError(f"there is no step {step}; this run has steps {steps[0]} to {steps[-1]}")
        return found[0]

    def replay(
        self,
        step: int,
        *,
        branch: str = "conditional",
        sample: torch.Tensor | None = None,
        condition: torch.Tensor | None = None,
        pooled: Mapping[str, torch.Tensor] | None = None,
        timestep: float | None = None,
        attachments: Sequence[Attachment] = (),
        gradients: bool = False,
    ) -> torch.Tensor:
        """Call the denoiser again as in one step, with some of it different, without running the rest.

        Only the attachments given here are active: a change of the recorded run is not made again. A run of another
        thread on this model is waited for.

        Args:
            step: Which step.
            branch: Whose rows of the guidance batch to take.
            sample: Noisy latents (row, channel, y, x) instead of the recorded ones.
            condition: Condition (row, ...) instead of the recorded one, such as ``model.encode([...])``.
            pooled: What goes with another prompt's condition, from ``model.pooled([...])``.
            timestep: Of the scheduler, instead of the step's own; sample is then noised to it.
            attachments: Watchers and changes for this call.
            gradients: Keep the graph, so that derivatives by sample or condition can be taken.

        Returns:
            The denoiser's output (row, channel, y, x). One row of sample or condition is repeated to match the other.
        """
        call = self.call(step)
        rows = self.branches.rows(branch, len(self.images))
        sample = call.sample[rows] if sample is None else sample
        if condition is None and call.condition is not None:
            condition = call.condition[rows]
        count = max(sample.shape[0], 1 if condition is None else condition.shape[0])
        sample = repeated(sample, count, "sample")
        given = of_rows(call.arguments, call.sample.shape[0], rows, count) | {"return_dict": False}
        if condition is not None:
            given[str(self.model.condition)] = repeated(condition, count, "condition")
        for path, summary in (pooled or {}).items():
            given = replaced(given, path, repeated(summary, count, path))
        if timestep is not None:
            given["timestep"] = _like(given.get("timestep"), timestep / self.model.time_scale)
        if gradients and next(self.model.denoiser.parameters()).is_inference():
            raise ModelError(
                "the weights were made under torch.inference_mode, so there are no derivatives; "
                "load the pipeline outside it"
            )
        with alone(self.model.pipeline), torch.inference_mode(False), torch.set_grad_enabled(gradients):
            clock = Clock(self.model.pipeline.scheduler, silent)
            clock.hold(call.step, call.timestep if timestep is None else timestep)
            with _running(self.model, self.requests, count, Branches((branch,)), clock, attachments):
                output: torch.Tensor = self.model.denoiser(sample, **given)[0]
        return output

    def replay_guided(
        self,
        step: int,
        *,
        sample: torch.Tensor,
        condition: torch.Tensor | None = None,
        attachments: Sequence[Attachment] = (),
        gradients: bool = False,
    ) -> torch.Tensor:
        """Replay both branches of a step and apply the guidance; without guidance, the conditional branch alone.

        Args:
            step: As in ``replay``.
            sample: As in ``replay``, for both branches.
            condition: As in ``replay``, for the conditional branch.
            attachments: Of the conditional branch.
            gradients: As in ``replay``.
        """
        made = self.replay(step, sample=sample, condition=condition, attachments=attachments, gradients=gradients)
        if "unconditional" not in self.branches.names:
            return made
        plain = self.replay(step, branch="unconditional", sample=sample, gradients=gradients)
        with torch.set_grad_enabled(gradients):
            return noise.guided(made, plain, self.requests[0].guidance)


def _like(recorded: Any, timestep: float) -> Any:
    """A timestep in the form in which the denoiser was given one.

    Raises:
        ModelError: It was given none by that name.
    """
    if recorded is None:
        raise ModelError("the denoiser's call names no timestep, so it cannot be asked about another one")
    if not isinstance(recorded, torch.Tensor):
        return type(recorded)(timestep)
    return torch.full_like(recorded, timestep if recorded.is_floating_point() else round(timestep))


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
        requests: Requests that share all settings but text, label, pictures (of one size), seed and number of images.
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
    attached: list[Attachment] = [latents, *_recorder(record, calls), *attachments]
    start = time.perf_counter()
    with schedulers.using(model.pipeline, asked[0]), _quiet(model.pipeline):
        clock = Clock(model.pipeline.scheduler, progress)
        with _running(model, asked, items, model.branches(asked[0]), clock, [clock, *attached]), varied(asked):
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
def _running(
    model: Model,
    requests: tuple[Request, ...],
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


def _check_batch(requests: Sequence[Request]) -> None:
    if not requests:
        raise RequestError("there is no request; give at least one")
    own = {"prompt": "", "negative_prompt": "", "label": None, "image": None, "mask": None, "reference": None}
    own |= {"more_references": None, "invert": None, "at": None}  # what is the same where their schedules are
    if len({r.invert for r in requests}) > 1:
        raise RequestError("requests of one batch must share invert: an image is given in some and made in others")
    plain = [r.with_(**own, seed=0, images=1) for r in requests]
    for number, settings in enumerate(plain):
        for name in (f.name for f in fields(Request)):
            value, first = getattr(settings, name), getattr(plain[0], name)
            if value != first:
                raise RequestError(
                    f"requests of one batch must share {name}: request 0 has {first}, request {number} has {value}"
                )
