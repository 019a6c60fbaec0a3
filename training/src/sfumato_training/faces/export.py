"""From a training's work folder to the weights that ship inside the package."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image

from sfumato.models.notes import REGIONS as REGIONS_FILE
from sfumato.studio.faces import ATTRIBUTES, REGIONS, usual_regions
from sfumato_training.checkpoints import write_tensors
from sfumato_training.faces.config import Config
from sfumato_training.faces.networks import trained_pipeline
from sfumato_training.faces.pictures import CURVES_PICTURE, LABELS_PICTURE
from sfumato_training.faces.reader import trained_reader
from sfumato_training.publishing import Told, millions, replace_model, write_card, write_pipeline

DEFAULT_STEPS = 50
DEFAULT_GUIDANCE = 3.0
"""What the model is run with unless a request says otherwise."""


def write(config: Config, out: Path, weights: Path, told: Told) -> Path:
    """Write the pipeline, with the reader and the pictures of the training, as `weights`/faces."""
    pipeline, steps = trained_pipeline(config, out)
    reader = trained_reader(config, out)
    notes = {
        "defaults": {"steps": DEFAULT_STEPS, "guidance": DEFAULT_GUIDANCE},
        "attributes": list(ATTRIBUTES),
        "regions": list(REGIONS),
    }

    def fill(folder: Path) -> None:
        write_pipeline(folder, pipeline, notes)
        (folder / "reader").mkdir()
        halves = {name: value.half() for name, value in reader.state_dict().items()}
        write_tensors(folder / "reader" / "model.safetensors", halves)
        for picture in (LABELS_PICTURE, CURVES_PICTURE):
            if (out / picture).is_file():
                shutil.copyfile(out / picture, folder / picture)
        Image.fromarray(usual_regions()).save(folder / REGIONS_FILE)
        write_card(folder, _card(config, steps, millions(pipeline.unet), told))

    return replace_model(weights / "faces", fill)


def _card(config: Config, steps: int, size: float, told: Told) -> str:
    data, denoiser = config.data, config.denoiser
    more = f" {told.remarks}" if told.remarks else ""
    drawn = f"drawn by `sfumato.studio.faces`, label imbalance {data.imbalance}. No photographs, no data from people"
    what = "photographs in CelebA's layout" if data.folder else drawn
    return f"""# studio/{config.name}

A small diffusion model on pixels: faces of 64 x 64 pixels with four binary attributes ({", ".join(ATTRIBUTES)}). It
ships inside Sfumato so that every method can be tried at once, and scored against regions that are exact.

It is a `LabelPipeline` of `sfumato.pipelines` with a `LabelUNet` ({size:.2f} M parameters, half precision): ConvNeXt
blocks and linear attention at {len(denoiser.dim_mults)} resolutions, the label as a fourth input channel.

## Data

{data.faces:,} faces, {what}. How often each label is in the data, and how the attributes go together:

![Labels of the training data]({LABELS_PICTURE})

## Training

{told.how}
{steps:,} steps of {denoiser.batch} faces (each mirrored half of the time), {denoiser.loss.upper()} loss on the
velocity, averaged weights; errors weigh up to {1 + denoiser.emphasis:g} times where the label shows; the label of
{denoiser.unlabelled:.0%} of the faces was withheld, for guidance. 1,000 noise steps, betas rising linearly from 0.0001
to 0.02.{more}

![Loss, SSIM, PSNR and bits right during training]({CURVES_PICTURE})

## Measured

{told.table()}

`reader/` holds the small network that reads the attributes for these numbers.

## Limits

It knows drawn faces only. Its images serve the study of explanations.
"""
