"""The stages of a training of the segmenter."""

from __future__ import annotations

from pathlib import Path

from sfumato_training.progress import Progress
from sfumato_training.recipes import Recipe
from sfumato_training.segmenter.config import STAGES, Config


def run(stage: str, config: Config, out: Path, progress: Progress, resume: bool) -> None:
    """Run one stage; each needs those before it."""
    if stage == "data":
        from sfumato_training.segmenter.data import make_data

        make_data(config.data, out / "data", progress)
    else:
        from sfumato_training.segmenter.unet import train_unet

        train_unet(config, out, progress, resume=resume)


def export(out: Path, weights: Path, machine: str) -> Path:
    """Write what the work folder holds as weights and a card; see `sfumato_training.segmenter.export`."""
    from sfumato_training.segmenter.export import export as write

    return write(out, weights, machine=machine)


RECIPE = Recipe("segmenter", Config, STAGES, run, export, generates=False)
