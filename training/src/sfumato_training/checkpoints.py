"""Checkpoints that survive kill -9: written whole beside the old ones, then renamed into place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sfumato.errors import StoreError, TrainingError
from sfumato.reading import read_json
from sfumato.writing.folders import remove_folder, replacing_folder, resolved
from sfumato.writing.records import entries, refuse_foreign

TENSORS, STATE = "tensors.safetensors", "state.json"
KEEP = 2
"""How many checkpoints of a stage stay."""


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


def trained(out: Path, stage: str, what: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Load the newest checkpoint of a stage that others need.

    Args:
        out: The work folder.
        stage: Its name.
        what: What it trains, in words.

    Raises:
        TrainingError: It has not run, or its checkpoint cannot be read.
    """
    found = load_latest(out / stage)
    if found is None:
        raise TrainingError(f"{out} holds no trained {what}; run the stage {stage!r} first")
    return found


def averaged_weights(tensors: Mapping[str, torch.Tensor], model: str) -> dict[str, torch.Tensor]:
    """The averaged weights of one model among the tensors of a checkpoint, as a state dict without buffers."""
    return _below(f"ema.{model}.", tensors)


def last_weights(tensors: Mapping[str, torch.Tensor], model: str) -> dict[str, torch.Tensor]:
    """The weights of one model as the last step left them, as a state dict without buffers."""
    return _below(f"model.{model}.", tensors)


def _below(start: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
