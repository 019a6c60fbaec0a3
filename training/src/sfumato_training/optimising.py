"""Models in training: their optimizers and averaged weights, written and read as tensors."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import nn

from sfumato.errors import TrainingError
from sfumato_training.checkpoints import load_latest

AVERAGE_EVERY = 10
"""Steps between updates of the averaged weights, which would take a tenth of the time of a step on a CPU."""


def is_matrix(parameter: torch.Tensor) -> bool:
    """Tell whether a weight is a matrix worth the name, with at least 64 rows and columns (or pixels times columns)."""
    return parameter.ndim >= 2 and min(len(parameter), parameter[0].numel()) >= 64


def as_matrix(weight: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """View a parameter, or its gradient, as (output, everything else), in the order of the parameter's memory.

    A parameter's view shares its memory.
    """
    if parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last):
        weight = weight.permute(0, 2, 3, 1)
    return weight.flatten(1)


class Training:
    """Models with an optimizer and averaged weights, which can be written and read as tensors.

    Args:
        models: By name; all their parameters are trained.
        rates: Learning rate of each model as a share of the schedule's.
        ema: Decay of the averaged weights per step, or 0 for none.
        betas: Of AdamW.
        weight_decay: Of both optimizers.
        muon: Models whose matrices are trained by Muon, with steps of AdamW's size; AdamW trains everything else.
    """

    def __init__(
        self,
        models: Mapping[str, nn.Module],
        *,
        rates: Mapping[str, float] | None = None,
        ema: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        muon: Collection[str] = (),
    ) -> None:
        self.models = dict(models)
        self.rates = {name: (rates or {}).get(name, 1.0) for name in models}
        self.decay = ema
        self.step = 0
        self.named = [
            (f"{name}.{key}", parameter)
            for name, model in self.models.items()
            for key, parameter in model.named_parameters()
        ]
        self.parameters = [parameter for _, parameter in self.named]
        self.matrices = {
            name: nn.Parameter(as_matrix(parameter.detach(), parameter))
            for name, parameter in self.named
            if name.split(".", 1)[0] in muon and is_matrix(parameter)
        }
        """Two-dimensional views of the weights that Muon trains: it takes no others."""
        groups: dict[str, list[nn.Parameter]] = {name: [] for name in self.models}
        for name, parameter in self.named:
            if name not in self.matrices:
                groups[name.split(".", 1)[0]].append(parameter)
        rest = [{"params": held, "name": name} for name, held in groups.items() if held]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, lr=1.0, betas=betas, weight_decay=weight_decay, fused=True)
        ]
        if self.matrices:
            views = [
                {"params": [view for key, view in self.matrices.items() if key.startswith(f"{name}.")], "name": name}
                for name in muon
            ]
            self.optimizers.append(
                torch.optim.Muon(views, lr=1.0, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            )
        self.average = [parameter.detach().clone() for parameter in self.parameters] if ema else []

    def update(self, loss: torch.Tensor, lr: float, clip_norm: float) -> float:
        """Do one step of the optimizer and of the averaged weights.

        Returns:
            The norm of the gradient before it was clipped.

        Raises:
            TrainingError: The gradient is not finite.
        """
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(self.parameters, clip_norm))
        if not math.isfinite(norm):
            raise TrainingError(f"the gradient is not finite at step {self.step}; lower lr and resume")
        for name, parameter in self.named:
            if name in self.matrices and parameter.grad is not None:
                self.matrices[name].grad = as_matrix(parameter.grad, parameter)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * self.rates[group["name"]]
            optimizer.step()
        self.step += 1
        if self.average and self.step % AVERAGE_EVERY == 0:
            decay = min(self.decay, (1 + self.step) / (10 + self.step)) ** AVERAGE_EVERY
            with torch.no_grad():
                torch._foreach_lerp_(self.average, [parameter.detach() for parameter in self.parameters], 1 - decay)
        return norm

    def averaged(self) -> dict[str, dict[str, torch.Tensor]]:
        """Give the averaged weights of each model as a state dict (buffers as they are)."""
        result = {name: dict(model.state_dict()) for name, model in self.models.items()}
        for (full, _), value in zip(self.named, self.average, strict=True):
            name, key = full.split(".", 1)
            result[name][key] = value
        return result

    def _moments(self, name: str, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
        """Give what the optimizer of one parameter remembers about it; changes to the result take effect."""
        found: dict[str, torch.Tensor] = (
            self.optimizers[1].state[self.matrices[name]]
            if name in self.matrices
            else self.optimizers[0].state[parameter]
        )
        return found

    def tensors(self) -> dict[str, torch.Tensor]:
        """Give everything that a checkpoint must hold."""
        result: dict[str, torch.Tensor] = {}
        for place, (name, parameter) in enumerate(self.named):
            result[f"model.{name}"] = parameter
            if self.average:
                result[f"ema.{name}"] = self.average[place]
            for key, value in self._moments(name, parameter).items():
                result[f"optimizer.{key}.{name}"] = value
        return result

    def resume(self, folder: Path) -> bool:
        """Take up the newest checkpoint of a stage's folder, and tell whether there was one.

        Raises:
            TrainingError: It cannot be read, or is of models of another shape.
        """
        found = load_latest(folder)
        if found is not None:
            self.restore(found[0], found[1]["step"])
        return found is not None

    def restore(self, tensors: Mapping[str, torch.Tensor], step: int) -> None:
        """Take up what `tensors` gave.

        Raises:
            TrainingError: The checkpoint is of models of another shape.
        """
        self.step = step
        try:
            with torch.no_grad():
                for place, (name, parameter) in enumerate(self.named):
                    parameter.copy_(tensors[f"model.{name}"])
                    if self.average:
                        self.average[place].copy_(tensors[f"ema.{name}"])
                    moments = self._moments(name, parameter)
                    moments.clear()
                    for key in ("step", "exp_avg", "exp_avg_sq", "momentum_buffer"):
                        value = tensors.get(f"optimizer.{key}.{name}")
                        if value is not None:
                            like = self.matrices.get(name, parameter)
                            moments[key] = value.clone() if key == "step" else torch.empty_like(like).copy_(value)
        except (KeyError, RuntimeError) as error:
            raise TrainingError(
                f"the checkpoint does not fit this config ({error}); use the config it was made with or another --out"
            ) from error
