"""One step of the sampler as a function with derivatives: from x at one step to x at the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from sfumato.generation.recorders.activations import Activations, FeatureMaps
from sfumato.generation.trace import Trace
from sfumato.models import noise

Reading = Literal["mean", "noise"]
Branch = Literal["guided", "conditional"]


@dataclass(frozen=True)
class Stepped:
    """A step that was run with derivatives.

    Attributes:
        sample: x before the step (1, channel, y, x), with gradients asked for.
        result: (y, x), the sum over channels of what the step made.
        features: Outputs of the chosen layers in the conditional branch, as the next layer gets them (1, ...).
        reader: How these become maps.
    """

    sample: torch.Tensor
    result: torch.Tensor
    features: dict[str, torch.Tensor]
    reader: FeatureMaps

    def maps(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Values shaped like the features (row, ...) as maps (row, channel, y, x)."""
        found = [self.reader.of(name, one) for name, one in zip(self.features, values, strict=True)]
        return [one for one in found if one is not None]


def step_with_gradients(
    trace: Trace, step: int, *, reading: Reading = "mean", branch: Branch = "guided", layers: Sequence[str] = ()
) -> Stepped:
    """Run one recorded step again, with derivatives.

    Args:
        trace: Of one image, with this step's call recorded.
        step: Which step.
        reading: What is derived: "mean", the next sample (the posterior mean of the source's listing C.3), or "noise",
            the predicted noise alone (its equation 4.1.1).
        branch: "guided", as the sample was made, or "conditional", without the guidance.
        layers: Whose outputs to keep.
    """
    call, scheduler = trace.call(step), trace.scheduler
    scale = noise.input_scale(scheduler, call.timestep)
    given = call.sample[trace.branches.rows("conditional", 1)].detach()
    sample = (given / scale).requires_grad_(True)
    features: dict[str, torch.Tensor] = {}

    def take(name: str, at: int, maps: torch.Tensor) -> None:
        features[name] = maps

    watch = [Activations(layers, take, raw=True)] if layers else []
    run = trace.replay_guided if branch == "guided" else trace.replay
    output = run(step, sample=sample * scale, attachments=watch, gradients=True)
    with torch.enable_grad():
        channels = trace.model.channels  # without what a denoiser takes or gives beside them
        noisy, predicted = sample[:, :channels], output[:, :channels]
        if reading == "noise":
            made = noise.predicted_noise(scheduler, predicted, noisy * scale, call.timestep)
        else:
            learned = str(scheduler.config.get("variance_type", "")).startswith("learned")
            made = noise.previous(scheduler, output if learned else predicted, noisy, call.timestep)
        return Stepped(sample, made[0].sum(0), features, FeatureMaps(trace.model, trace.requests[0]))


def gradients(stepped: Stepped, pixels: torch.Tensor, *, chunk: int = 1) -> Iterator[list[torch.Tensor]]:
    """Derivatives of single pixels, some at a time, by one backward pass each (or one vectorised pass per chunk).

    Args:
        stepped: From `step_with_gradients`.
        pixels: Places in the flattened result (pixel,).
        chunk: How many pixels at a time; 1 on a CPU, where arithmetic is the limit.

    Yields:
        For each chunk the derivatives (pixel, channel, y, x) by the sample, then by each of the features.
    """
    wanted = [stepped.sample, *stepped.features.values()]
    flat = stepped.result.flatten()
    for start in range(0, len(pixels), chunk):
        some = pixels[start : start + chunk]
        if len(some) == 1:
            found = torch.autograd.grad(flat[some[0]], wanted, retain_graph=True)
            yield [found[0], *stepped.maps(found[1:])]
            continue
        rows = torch.zeros(len(some), len(flat), dtype=flat.dtype, device=flat.device)
        rows[torch.arange(len(some)), some] = 1
        several = torch.autograd.grad(flat, wanted, rows, retain_graph=True, is_grads_batched=True)
        yield [several[0][:, 0], *stepped.maps([part[:, 0] for part in several[1:]])]


def region_gradients(stepped: Stepped, mask: torch.Tensor) -> list[torch.Tensor]:
    """Derivatives of the sum over a mask (y, x), by one backward pass.

    Returns:
        By the sample, then by each of the features, each (1, channel, y, x).
    """
    total = (stepped.result * mask.to(stepped.result)).sum()
    found = torch.autograd.grad(total, [stepped.sample, *stepped.features.values()], retain_graph=True)
    return [found[0], *stepped.maps(found[1:])]
