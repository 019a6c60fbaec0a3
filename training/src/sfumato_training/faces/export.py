"""From a training's work folder to the weights that ship inside the package."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from sfumato.models.notes import REGIONS as REGIONS_FILE
from sfumato.studio.faces import ATTRIBUTES, REGIONS, usual_regions
from sfumato_training.checkpoints import write_tensors
from sfumato_training.faces.config import Config
from sfumato_training.faces.denoiser import trained_pipeline
from sfumato_training.faces.pictures import CURVES_PICTURE, LABELS_PICTURE
from sfumato_training.faces.reader import trained_reader
from sfumato_training.faces.stages import RECIPE
from sfumato_training.publishing import WEIGHTS, millions, replace_model, table

DEFAULT_STEPS = 50
DEFAULT_GUIDANCE = 3.0
"""What the model is run with unless a request says otherwise."""


def export(
    out: Path,
    weights: Path = WEIGHTS,
    *,
    quality: Mapping[str, Any] | None = None,
    hours: float | None = None,
    machine: str = "2 CPU cores",
    remarks: str = "",
) -> Path:
    """Write the newest checkpoint in half precision as `weights`/faces, the reader beside it.

    Args:
        out: The work folder of the training.
        weights: Where the folder goes.
        quality: Measured numbers for the model card, by name; shares from 0 to 1.
        hours: How long the training took, for the model card.
        machine: What it ran on, for the model card.
        remarks: What else a reader of the card should know of the training, such as settings changed on the way.

    Returns:
        The folder of the pipeline.

    Raises:
        TrainingError: A stage is missing.
        StoreError: The folder cannot be written, or is too large to ship.
    """
    config: Config = RECIPE.of(out)
    pipeline, steps = trained_pipeline(config, out)
    reader = trained_reader(config, out)
    card = _card(config, steps, millions(pipeline.unet), quality or {}, hours, machine, remarks)

    def write(folder: Path) -> None:
        pipeline.unet.to(torch.float16)
        pipeline.save_pretrained(str(folder), safe_serialization=True)
        (folder / "reader").mkdir()
        halves = {name: value.half() for name, value in reader.state_dict().items()}
        write_tensors(folder / "reader" / "model.safetensors", halves)
        for picture in (LABELS_PICTURE, CURVES_PICTURE):
            if (out / picture).is_file():
                shutil.copyfile(out / picture, folder / picture)
        Image.fromarray(usual_regions()).save(folder / REGIONS_FILE)
        notes = {
            "defaults": {"steps": DEFAULT_STEPS, "guidance": DEFAULT_GUIDANCE},
            "attributes": list(ATTRIBUTES),
            "regions": list(REGIONS),
        }
        (folder / "sfumato.json").write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(card, encoding="utf-8")

    return replace_model(weights / "faces", write)


def _card(
    config: Config, steps: int, size: float, quality: Mapping[str, Any], hours: float | None, machine: str, remarks: str
) -> str:
    data, denoiser = config.data, config.denoiser
    took = "" if hours is None else f" It took {hours:.1f} hours in all."
    more = f" {remarks}" if remarks else ""
    drawn = f"drawn by `sfumato.studio.faces`, label imbalance {data.imbalance}. No photographs, no data from people"
    what = "photographs in CelebA's layout" if data.folder else drawn
    return f"""---
license: apache-2.0
library_name: diffusers
---
# studio/{config.name}

A small diffusion model on pixels: faces of 64 x 64 pixels with four binary attributes ({", ".join(ATTRIBUTES)}). It
ships inside Sfumato so that every method can be tried at once, and scored against regions that are exact.

It is a `LabelPipeline` of `sfumato.pipelines` with a `LabelUNet` ({size:.2f} M parameters, half precision): ConvNeXt
blocks and linear attention at {len(denoiser.dim_mults)} resolutions, the label as a fourth input channel.

## Data

{data.faces:,} faces, {what}. How often each label is in the data, and how the attributes go together:

![Labels of the training data]({LABELS_PICTURE})

## Training

`sfumato train faces` with `sfumato_training/configs/faces.toml`, on {machine}.{took}
{steps:,} steps of {denoiser.batch} faces (each mirrored half of the time), {denoiser.loss.upper()} loss on the
velocity, averaged weights; errors weigh up to {1 + denoiser.emphasis:g} times where the label shows; the label of
{denoiser.unlabelled:.0%} of the faces was withheld, for guidance. 1,000 noise steps, betas rising linearly from 0.0001
to 0.02.{more}

![Loss, SSIM, PSNR and bits right during training]({CURVES_PICTURE})

## Measured

{table(config.name, quality)}

`reader/` holds the small network that reads the attributes for these numbers.

## Limits

It knows drawn faces only. Its images serve the study of explanations.
"""
