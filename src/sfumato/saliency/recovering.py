"""A recorded step as a function: from a noisy latent to what the denoiser recovers from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato.errors import NonFinite, OptionError
from sfumato.generation.feature_layers import layers_of
from sfumato.generation.trace import Trace
from sfumato.models import noise
from sfumato.models.model import Model
from sfumato.request import CompletedRequest

Target = Literal["x0", "eps"]
Branch = Literal["guided", "conditional"]
MOST_ROWS = 64


class Recovery:
    """One step of a trace of one image, again and again, from other latents.

    Args:
        trace: With the step's call recorded.
        step: Which step.
        branch: "guided", as the sample was made, or "conditional", without the guidance.
        rows: How many latents at a time.

    Attributes:
        calls: Rows that the denoiser was called on so far, both branches counted.
    """

    def __init__(self, trace: Trace, step: int, *, branch: Branch = "guided", rows: int = MOST_ROWS) -> None:
        call = trace.call(step)
        self.trace, self.step, self.timestep, self.branch, self.rows = trace, step, call.timestep, branch, rows
        self.sample = call.sample[trace.branches.rows("conditional", 1)].detach()  # (1, channel, y, x), as given
        self.calls = 0

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the latent."""
        return int(self.sample.shape[-2]), int(self.sample.shape[-1])

    def masked(self, masks: torch.Tensor, substrate: torch.Tensor | float = 0.0) -> torch.Tensor:
        """The latent times masks (mask, y, x), and the substrate (mask, channel, y, x) where they are 0.

        What an inpainting denoiser takes beside the latent is left as it is.
        """
        weights = masks[:, None].to(self.sample)
        channels = self.trace.model.channels
        latent = self.sample[:, :channels]
        mixed = latent * weights + substrate * (1 - weights)
        beside = self.sample[:, channels:].expand(len(masks), -1, -1, -1)
        return torch.cat((mixed, beside), dim=1)

    def outputs(self, samples: torch.Tensor) -> torch.Tensor:
        """The denoiser's output for latents (row, channel, y, x), guidance applied.

        Raises:
            NonFinite: An output is NaN or infinite.
        """
        run = self.trace.replay_guided if self.branch == "guided" else self.trace.replay
        found = [run(self.step, sample=samples[i : i + self.rows]) for i in range(0, len(samples), self.rows)]
        self.calls += len(samples) * (2 if self.branch == "guided" and len(self.trace.branches.names) > 1 else 1)
        output = torch.cat(found)[:, : self.trace.model.channels]
        if not torch.isfinite(output).all():
            raise NonFinite(
                f"the denoiser's output is NaN or infinite at step {self.step}; try float32, or other steps"
            )
        return output

    def recovered(self, samples: torch.Tensor, target: Target = "x0") -> torch.Tensor:
        """What the step recovers from latents (row, channel, y, x), in float32: the clean latent or the noise."""
        outputs = self.outputs(samples)
        samples = samples[:, : outputs.shape[1]]
        if target == "x0":
            return self.trace.model.clean(outputs, samples, self.timestep).float()
        return noise.predicted_noise(self.trace.scheduler, outputs, samples, self.timestep).float()

    @torch.no_grad()
    def pictures(self, clean: torch.Tensor) -> torch.Tensor:
        """Clean latents (row, channel, y, x) as images (row, 3, y, x) from -1 to 1."""
        found = [
            self.trace.model.decode(clean[i : i + self.rows].to(self.sample)) for i in range(0, len(clean), self.rows)
        ]
        return torch.cat(found).float().clamp(-1, 1)

    @cached_property
    def clean(self) -> torch.Tensor:
        """The clean latent that the step recovers from its own latent (1, channel, y, x)."""
        return self.recovered(self.sample)

    @cached_property
    def picture(self) -> NDArray[np.uint8]:
        """The same as an image (y, x, 3)."""
        pixels: NDArray[np.uint8] = (
            ((self.pictures(self.clean)[0] + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
        )
        return pixels


def steps_at(model: Model, request: CompletedRequest, given: Sequence[int]) -> list[int]:
    """The chosen steps of a completed request in order; without any, those at a quarter, a half and three quarters.

    Raises:
        OptionError: A step is outside the run.
    """
    count = model.steps(request)
    if not given:
        return sorted({count // 4, count // 2, 3 * count // 4})
    if wrong := [step for step in given if not 0 <= step < count]:
        raise OptionError(f"at has {wrong[0]}; this run has steps 0 to {count - 1}")
    return sorted(set(given))


def rows_within(model: Model, request: CompletedRequest, megabytes: float) -> int:
    """How many latents at a time keep all feature maps of one call of the denoiser within some memory.

    Raises:
        OptionError: Not even one does.
    """
    each = sum(layer.bytes for layer in layers_of(model, request)) / 1e6
    if each > megabytes:
        raise OptionError(
            f"memory is {megabytes:g} MB; one call of the denoiser takes up to {math.ceil(each)} MB, give as much"
        )
    return int(min(MOST_ROWS, megabytes / each))
