"""Checkpoints that survive kill -9: written whole beside the old ones, then renamed into place."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from sfumato.errors import StoreError, TrainingError
from sfumato.reading import read_json
from sfumato.writing.folders import remove_folder, replacing_folder, resolved
from sfumato.writing.records import entries, refuse_foreign

TENSORS, STATE = "tensors.safetensors", "state.json"
KEEP = 2
"""How many checkpoints of a stage stay."""

AVERAGE_EVERY = 10
"""Steps between updates of the averaged weights, which would take a tenth of the time of a step on a CPU."""


STREAMS = {
    "vae": 1,
    "clip": 2,
    "unet": 3,
    "encode": 4,
    "samples": 5,
    "init": 6,
    "reader": 7,
    "denoiser": 8,
    "transformer": 9,
}
"""Each stage draws from a stream of its own."""


def step_generator(seed: int, stage: str, step: int) -> torch.Generator:
    """Give the source of everything random in one step.

    Random numbers follow from seed, stage and step alone. So a checkpoint needs no state of a generator, and a
    training that was cut off goes on exactly as it would have.
    """
    mixed = torch.tensor([seed, STREAMS[stage], step], dtype=torch.int64)
    number = int((mixed * torch.tensor([1_000_003 * 97, 1_000_003, 1])).sum()) & 0x7FFF_FFFF_FFFF
    return torch.Generator().manual_seed(number)


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors into a folder that is being made."""
    packed = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(packed, str(path), metadata=dict(metadata) if metadata else None)
    except SafetensorError as error:  # a full disk, too
        raise StoreError(f"cannot write {path}: {error}") from error


def checkpoints(folder: Path) -> list[Path]:
    """List the whole checkpoints in a folder, oldest first."""
    found = [path for path in folder.glob("step-*") if path.is_dir() and path.suffix == ""]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def save(folder: Path, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> Path:
    """Write one checkpoint and drop all but the last two.

    Args:
        folder: Of the stage.
        step: Steps done.
        tensors: Weights, averages and the optimizer's moments, under names of your own.
        state: Plain values that JSON can hold.

    Returns:
        The checkpoint's folder.

    Raises:
        StoreError: It cannot be written; the checkpoints before it stay.
    """
    path = resolved(folder / f"step-{step:06d}")
    with replacing_folder(path, check_checkpoint) as stage:
        write_tensors(stage / TENSORS, tensors)
        (stage / STATE).write_text(json.dumps({"step": step, **state}, indent=1) + "\n", encoding="utf-8")
    for old in checkpoints(folder)[:-KEEP]:
        with suppress(StoreError):  # other files lie in it: it stays
            remove_folder(old, check_checkpoint)
    return path


def check_checkpoint(folder: Path, named: str) -> None:
    """Raise a `StoreError` unless a folder is a checkpoint and nothing else."""
    refuse_foreign(named, [name for name in entries(folder) if name not in (TENSORS, STATE)])


def load_latest(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Load the newest checkpoint of a stage, or give None where there is none.

    Raises:
        TrainingError: It cannot be read.
    """
    found = checkpoints(folder)
    if not found:
        return None
    try:
        tensors = load_file(str(found[-1] / TENSORS))
        state = read_json(found[-1] / STATE)
    except Exception as error:
        raise TrainingError(
            f"the checkpoint {found[-1]} cannot be read ({error}); remove it to use the one before"
        ) from error
    return tensors, state


def averaged_weights(tensors: Mapping[str, torch.Tensor], model: str) -> dict[str, torch.Tensor]:
    """The averaged weights of one model among the tensors of a checkpoint, as a state dict without buffers."""
    start = f"ema.{model}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


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


def keep_start(training: Training, settings: Any, folder: Path) -> None:
    """Write the weights that a stage of 0 steps starts from, so that it has a result like any other.

    Args:
        training: After the last step.
        settings: Of the stage, with `steps` and `start`.
        folder: Of the stage.

    Raises:
        TrainingError: It starts from nothing, so there is nothing to keep.
    """
    if settings.steps > 0 or training.step > 0:
        return
    if not settings.start:
        raise TrainingError(f"{folder.name} has 0 steps and nothing to start from; give it steps, or a start")
    save(folder, 0, training.tensors(), {})
