"""The stages of a training of the reference model."""

from __future__ import annotations

from pathlib import Path

from sfumato_training.insert.config import STAGES, Config
from sfumato_training.progress import Progress
from sfumato_training.recipes import Recipe


def run(stage: str, config: Config, out: Path, progress: Progress, resume: bool) -> None:
    """Run one stage; each needs those before it."""
    if stage == "data":
        from sfumato_training.insert.data import make_data

        make_data(config.data, out / "data", progress)
    elif stage == "vae":
        import torch

        from sfumato_training.autoencoder import train_vae
        from sfumato_training.insert.data import load_data

        pictures, _ = load_data(out / "data")
        train_vae(
            config.vae,
            pictures.reshape(-1, *pictures.shape[2:]),
            out,
            progress,
            seed=config.seed,
            device=torch.device(config.device),
            checkpoint_every=config.checkpoint_every,
            resume=resume,
        )
    else:
        from sfumato_training.insert.unet import train_unet

        train_unet(config, out, progress, resume=resume)


def export(out: Path, weights: Path, machine: str) -> Path:
    """Write what the work folder holds as a pipeline; see `sfumato_training.insert.export`."""
    from sfumato_training.insert.export import export as write

    return write(out, weights, machine=machine)


RECIPE = Recipe("insert", Config, STAGES, run, export)
