"""What a generation leaves behind: images, latents and recorded calls of the denoiser, each replayed by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import xarray as xr
from PIL import Image

from sfumato.errors import ModelError
from sfumato.generation.clock import Clock
from sfumato.generation.context import Attachment, attached
from sfumato.models import noise
from sfumato.models.arguments import of_rows, repeated, replaced
from sfumato.models.model import Branches, Model
from sfumato.models.turns import alone
from sfumato.progress import silent
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.results.images import image_node


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
    requests: tuple[CompletedRequest, ...]
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

        Raises:
            ModelError: There is no such step or branch, or the branch is a call of its own, which is not replayed.
        """
        call = self.call(step)
        if self.branches.sequential and branch != self.branches.names[0]:
            raise ModelError(
                f"the {branch} branch of this model is a call of its own, which is not replayed; "
                f"the {self.branches.names[0]} one can be"
            )
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
            with attached(self.model, self.requests, count, Branches((branch,)), clock, attachments):
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
