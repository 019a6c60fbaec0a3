"""The stages of a training of scenes."""

from __future__ import annotations

from pathlib import Path

from sfumato_training.progress import Progress
from sfumato_training.recipes import Recipe
from sfumato_training.scenes.config import STAGES, Config, Shared


def run(stage: str, config: Config, out: Path, progress: Progress, resume: bool) -> None:
    """Run one stage; "vae" and "clip" need "data", "unet" needs all three."""
    if stage == "unet":
        from sfumato_training.scenes.unet import train_unet

        train_unet(config, out, progress, resume=resume)
    else:
        run_common(stage, config, out, progress, resume)


def run_common(stage: str, config: Shared, out: Path, progress: Progress, resume: bool) -> None:
    """Run "data", "vae" or "clip", which every model of the scenes shares."""
    if stage == "data":
        from sfumato_training.scenes.data import make_data

        make_data(config.data, out / "data", progress)
    elif stage == "vae":
        import torch

        from sfumato_training.autoencoder import train_vae
        from sfumato_training.scenes.data import load_images

        train_vae(
            config.vae,
            load_images(out / "data"),
            out,
            progress,
            seed=config.seed,
            device=torch.device(config.device),
            checkpoint_every=config.checkpoint_every,
            resume=resume,
        )
    else:
        from sfumato_training.scenes.clip import train_clip

        train_clip(config, out, progress, resume=resume)


def export(out: Path, weights: Path, machine: str) -> Path:
    """Write what the work folder holds as a pipeline; see `sfumato_training.scenes.export`."""
    from sfumato_training.scenes.export import export as write

    return write(out, weights, machine=machine)[0]


RECIPE = Recipe("scenes", Config, STAGES, run, export)
