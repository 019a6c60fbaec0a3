"""The stages of a training of faces."""

from __future__ import annotations

from pathlib import Path

from sfumato_training.faces.config import STAGES, Config
from sfumato_training.progress import Progress
from sfumato_training.recipes import Recipe


def run(stage: str, config: Config, out: Path, progress: Progress, resume: bool) -> None:
    """Run one stage; each needs those before it."""
    if stage == "data":
        from sfumato_training.faces.data import make_data
        from sfumato_training.faces.pictures import draw_data

        make_data(config.data, out / "data", progress)
        draw_data(out)
    elif stage == "reader":
        from sfumato_training.faces.reader import train_reader

        train_reader(config, out, progress, resume=resume)
    else:
        from sfumato_training.faces.denoiser import train_denoiser

        train_denoiser(config, out, progress, resume=resume)


def export(out: Path, weights: Path, machine: str) -> Path:
    """Write what the work folder holds as a pipeline; see `sfumato_training.faces.export`."""
    from sfumato_training.faces.export import export as write

    return write(out, weights, machine=machine)


RECIPE = Recipe("faces", Config, STAGES, run, export)
