"""Schedulers that visit given timesteps."""

from __future__ import annotations

import inspect
from typing import Any

from sfumato.errors import ModelError


def following(kind: type, timesteps: tuple[int, ...]) -> type:
    """A scheduler's class whose runs visit given timesteps, falling, whatever number of steps is asked for.

    It keeps the name of the class, and all that the class does apart from the choice of timesteps.

    Raises:
        ModelError: The scheduler cannot follow a list.
    """
    name = kind.__name__
    if name == "FlowMatchEulerDiscreteScheduler":
        return type(name, (_ListedFlow, kind), {"listed": timesteps})
    if name == "DDIMScheduler":
        return type(name, (_ListedDDIM, kind), {"listed": timesteps})
    if "timesteps" not in inspect.signature(kind.set_timesteps).parameters:  # type: ignore[attr-defined]
        raise ModelError(f"{name} cannot follow a schedule; take the scheduler ddim, ddpm or euler, or no schedule")
    return type(name, (_Listed, kind), {"listed": timesteps})


class _Listed:
    """For schedulers that diffusers lets follow a list."""

    listed: tuple[int, ...]

    def set_timesteps(
        self, num_inference_steps: int | None = None, device: Any = None, *args: Any, **more: Any
    ) -> None:
        super().set_timesteps(timesteps=list(self.listed), device=device)  # type: ignore[misc]
        self.num_inference_steps = len(self.listed)


class _ListedFlow:
    """For flows, whose noise levels are the timesteps' shares; no shift is applied to them."""

    listed: tuple[int, ...]

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: list[float] | None = None,
        mu: float | None = None,
        timesteps: list[float] | None = None,
    ) -> None:
        import torch

        self.num_inference_steps = len(self.listed)
        self.timesteps = torch.tensor(self.listed, dtype=torch.float32, device=device)
        self.sigmas = torch.cat([self.timesteps / self.config.num_train_timesteps, self.timesteps.new_zeros(1)])  # type: ignore[attr-defined]
        self._step_index = self._begin_index = None


class _ListedDDIM:
    """For DDIM, which finds the next timestep as this one minus (trained timesteps // number of steps)."""

    listed: tuple[int, ...]

    def set_timesteps(
        self, num_inference_steps: int | None = None, device: Any = None, *args: Any, **more: Any
    ) -> None:
        import torch

        self.num_inference_steps: Any = len(self.listed)
        self.timesteps = torch.tensor(self.listed, device=device)

    def step(self, model_output: Any, timestep: Any, sample: Any, *args: Any, **more: Any) -> Any:
        """Make diffusers' own step, with the distance to the next timestep of the list."""
        steps, now = self.num_inference_steps, int(timestep)
        places = (*self.listed, -1)
        self.num_inference_steps = _Dividing(now - places[places.index(now) + 1])
        try:
            return super().step(model_output, now, sample, *args, **more)  # type: ignore[misc]
        finally:
            self.num_inference_steps = steps


class _Dividing:
    """Stands for a number of steps that divides the trained timesteps into a given distance."""

    def __init__(self, distance: int) -> None:
        self._distance = distance

    def __rfloordiv__(self, trained: int) -> int:
        return self._distance
