"""From a training's work folder to the weights that ship inside the package."""

from __future__ import annotations

from pathlib import Path

from sfumato.studio.garments import SIZE
from sfumato_training.insert.config import Config
from sfumato_training.insert.networks import trained_pipeline
from sfumato_training.publishing import Told, replace_model, sizes, write_card, write_pipeline

DEFAULT_STEPS = 25
DEFAULT_GUIDANCE = 1.5
"""What the model is run with unless a request says otherwise."""


def write(config: Config, out: Path, weights: Path, told: Told) -> Path:
    """Write the pipeline as `weights`/insert."""
    pipeline, steps = trained_pipeline(config, out)
    notes = {"defaults": {"steps": DEFAULT_STEPS, "guidance": DEFAULT_GUIDANCE}}

    def fill(folder: Path) -> None:
        write_pipeline(folder, pipeline, notes, "image_encoder")
        write_card(folder, _card(config, steps, sizes(pipeline), told))

    return replace_model(weights / "insert", fill)


def _card(config: Config, steps: int, parameters: str, told: Told) -> str:
    unet, vae = config.unet, config.vae
    patches = (SIZE // unet.patch) ** 2
    start = f", going on from that of {vae.start}" if vae.start else ""
    return f"""# studio/{config.name}

A small latent diffusion model that paints what a reference shows into the masked part of an image: a garment onto a
figure, scaled, shifted, turned and bent. It ships inside Sfumato because here the truth is known: which patch of the
reference every painted pixel comes from.

It is a `ReferenceInpaintPipeline` of `sfumato.pipelines` in half precision. It paints 128 x 128 pixels.

## Parts

Parameters: {parameters}.
Latents of 16 x 16 x 4; a U-Net with 9 input channels (latent, mask, latent of the masked image) and cross-attention at
{len(unet.channels)} resolutions to {patches} patch tokens of a vision transformer of {unet.layers} layers; DDIM with
v-prediction.

## Data

{config.data.pairs:,} pairs drawn by `sfumato.studio.garments`; seeds below 1,000,000 were never trained on. No
photographs, no data from people.

## Training

{told.how}

- Autoencoder: {vae.steps:,} steps on crops of {vae.crop} pixels{start}.
- U-Net and image encoder: {steps:,} steps of {unet.batch}, averaged weights; {unet.withheld:.0%} of the references were
  withheld, for guidance. Errors outside the mask weigh {unet.outside:g}.

The model is told neither the correspondence nor where on the garment a pixel lies; no loss on attention maps was used.

## Measured

{told.table()}

## Limits

It knows drawn garments only. Its images serve the study of explanations.
"""
