"""The stages of a training of the transformer of scenes."""

from __future__ import annotations

from pathlib import Path

from sfumato_training.progress import Progress
from sfumato_training.recipes import Recipe
from sfumato_training.scenes_mmdit.config import STAGES, Config


def run(stage: str, config: Config, out: Path, progress: Progress, resume: bool) -> None:
    """Run one stage; "vae" and "clip" need "data", "transformer" needs all three."""
    if stage == "transformer":
        from sfumato_training.scenes_mmdit.transformer import train_transformer

        train_transformer(config, out, progress, resume=resume)
    else:
        from sfumato_training.scenes.stages import run_common

        run_common(stage, config, out, progress, resume)


def export(out: Path, weights: Path, machine: str) -> Path:
    """Write what the work folder holds as a pipeline; see `sfumato_training.scenes_mmdit.export`."""
    from sfumato_training.scenes_mmdit.export import export as write

    return write(out, weights, machine=machine)


RECIPE = Recipe("scenes-mmdit", Config, STAGES, run, export)
