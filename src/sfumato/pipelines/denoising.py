"""The loop that all pipelines of ours share: from noise to a sample, with classifier-free guidance."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

OnStep = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]
"""What diffusers calls `callback_on_step_end`."""


def denoised(
    pipeline: Any,
    sample: torch.Tensor,
    predict: Callable[[torch.Tensor, Any], torch.Tensor],
    *,
    num_inference_steps: int,
    guidance_scale: float,
    generator: torch.Generator | list[torch.Generator] | None,
    callback_on_step_end: OnStep | None,
) -> torch.Tensor:
    """Denoise a batch by a pipeline's scheduler.

    Args:
        pipeline: Whose scheduler and progress bar are used.
        sample: Noise of variance 1 (item, channel, y, x).
        predict: The network, from rows (row, channel, y, x) and a timestep; with guidance, all items without their
            condition come first, then all with it.
        num_inference_steps: Denoising steps.
        guidance_scale: 1 or below switches guidance off.
        generator: Of the noise that some schedulers add.
        callback_on_step_end: See `OnStep`; what it returns as "latents" replaces the sample.
    """
    scheduler, guided = pipeline.scheduler, guidance_scale > 1
    scheduler.set_timesteps(num_inference_steps, device=pipeline._execution_device)
    sample = sample * scheduler.init_noise_sigma
    random = "generator" in inspect.signature(scheduler.step).parameters
    more = {"generator": generator} if random else {}
    for step, timestep in enumerate(pipeline.progress_bar(scheduler.timesteps)):
        rows = scheduler.scale_model_input(torch.cat((sample, sample)) if guided else sample, timestep)
        noise = predict(rows, timestep)
        if guided:
            without, with_condition = noise.chunk(2)
            noise = without + guidance_scale * (with_condition - without)
        sample = scheduler.step(noise, timestep, sample, return_dict=False, **more)[0]
        if callback_on_step_end is not None:
            sample = callback_on_step_end(pipeline, step, timestep, {"latents": sample}).get("latents", sample)
    return sample
