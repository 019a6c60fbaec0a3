"""What a scheduler knows of noise: how much of it a timestep has, and what an output of the denoiser implies."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch

from sfumato.errors import ModelError


def is_flow(scheduler: Any) -> bool:
    """Whether the scheduler follows a straight flow from noise to image, as those of transformers do."""
    return is_flow_match(scheduler) or scheduler.config.get("prediction_type") == "flow_prediction"


def is_flow_match(scheduler: Any) -> bool:
    """Whether it is one of the schedulers that can follow nothing but a flow."""
    return type(scheduler).__name__.startswith("FlowMatch")


def levels(scheduler: Any, timestep: float) -> tuple[torch.Tensor, torch.Tensor]:
    """By what the clean latent and the noise are multiplied at a timestep.

    Square roots of the cumulative product of the alphas, and of what is missing to 1 (variance-preserving form); of a
    flow 1 - s and s, with s the timestep's share of all that were trained.

    Raises:
        ModelError: The scheduler knows no such product.
    """
    if is_flow(scheduler):
        share = torch.tensor(timestep / scheduler.config.num_train_timesteps, dtype=torch.float64)
        return 1 - share, share
    known = getattr(scheduler, "alphas_cumprod", None)
    if known is None:
        raise ModelError(f"{type(scheduler).__name__} has no clean estimate; take the scheduler ddim, ddpm or euler")
    alpha_bar = known[round(timestep)].cpu().double()
    return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()


def clean(scheduler: Any, output: torch.Tensor, sample: torch.Tensor, timestep: float) -> torch.Tensor:
    """The clean latent from a prediction of noise, velocity, the latent itself, or the flow from it to noise.

    Args:
        scheduler: Of the pipeline.
        output: Of the denoiser (row, channel, y, x).
        sample: What the denoiser was given, in variance-preserving form.
        timestep: Of the call.

    Raises:
        ModelError: The scheduler predicts something else.
    """
    signal, noise = (level.to(sample) for level in levels(scheduler, timestep))
    if is_flow(scheduler):
        return sample - noise * output
    rules: dict[str, Callable[[], torch.Tensor]] = {
        "epsilon": lambda: (sample - noise * output) / signal,
        "v_prediction": lambda: signal * sample - noise * output,
        "sample": lambda: output,
    }
    kind = scheduler.config.prediction_type
    if kind not in rules:
        raise ModelError(f"the scheduler predicts {kind!r}; known are: {', '.join(rules)}")
    return rules[kind]()


def guided(conditional: torch.Tensor, unconditional: torch.Tensor, guidance: float) -> torch.Tensor:
    """The output that classifier-free guidance makes of both branches."""
    return unconditional + guidance * (conditional - unconditional)


def predicted_noise(scheduler: Any, output: torch.Tensor, sample: torch.Tensor, timestep: float) -> torch.Tensor:
    """The noise that a prediction implies; arguments as for ``clean``."""
    if scheduler.config.get("prediction_type") == "epsilon":
        return output
    signal, lost = (level.to(sample) for level in levels(scheduler, timestep))
    return (sample - signal * clean(scheduler, output, sample, timestep)) / lost


def previous(scheduler: Any, output: torch.Tensor, sample: torch.Tensor, timestep: float) -> torch.Tensor:
    """The next, less noisy latent, as the scheduler's own step makes it, with derivatives.

    The step is made on a copy, as if it were the first: a scheduler that remembers earlier outputs has none. Noise
    that it adds is that of seed 0; the derivative does not depend on it.

    Args:
        scheduler: Of the pipeline, after a run (its timesteps are set).
        output: Of the denoiser, guidance applied (item, channel, y, x).
        sample: The latent before the step (item, channel, y, x).
        timestep: One of the scheduler's.

    Raises:
        ModelError: The scheduler cannot make a single step.
    """
    alone = copy.deepcopy(scheduler)
    if not is_flow(scheduler):  # which remembers nothing, and whose timesteps depend on more than their number
        alone.set_timesteps(scheduler.num_inference_steps, device=sample.device)  # forgets the outputs of earlier steps
    places = _stood_at(alone, timestep)
    noise = {} if not _takes(alone.step, "generator") else {"generator": torch.Generator().manual_seed(0)}
    try:
        found: torch.Tensor = alone.step(output, alone.timesteps[places[0]], sample, return_dict=False, **noise)[0]
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        name = type(scheduler).__name__
        raise ModelError(f"{name} cannot make a single step ({error}); take ddim, ddpm or euler") from error
    return found


def input_scale(scheduler: Any, timestep: float) -> float:
    """By what the scheduler multiplies a sample before the denoiser sees it."""
    if not hasattr(scheduler, "scale_model_input"):  # flows see the sample as it is
        return 1.0
    alone = copy.deepcopy(scheduler)
    places = _stood_at(alone, timestep)
    one: torch.Tensor = alone.scale_model_input(torch.ones(1), alone.timesteps[places[0] if places else 0])
    return float(one)


def _stood_at(scheduler: Any, timestep: float) -> list[int]:
    """The places of a timestep in the schedule, at the first of which the scheduler now stands."""
    places = [place for place, known in enumerate(scheduler.timesteps.tolist()) if float(known) == timestep]
    if hasattr(scheduler, "_step_index") and places:
        scheduler._step_index = places[0]
    return places


def _takes(function: Callable[..., Any], name: str) -> bool:
    import inspect

    return name in inspect.signature(function).parameters
