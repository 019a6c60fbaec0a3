"""From a training's work folder to the weights that ship inside the package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sfumato.studio.garments import SIZE
from sfumato_training.insert.config import Config
from sfumato_training.insert.stages import RECIPE
from sfumato_training.insert.unet import trained_pipeline
from sfumato_training.publishing import WEIGHTS, load_in_full, millions, replace_model, table

DEFAULT_STEPS = 25
DEFAULT_GUIDANCE = 1.5
"""What the model is run with unless a request says otherwise."""


def export(
    out: Path,
    weights: Path = WEIGHTS,
    *,
    quality: Mapping[str, Any] | None = None,
    hours: float | None = None,
    machine: str = "2 CPU cores",
) -> Path:
    """Write the newest checkpoint in half precision as `weights`/insert.

    Args:
        out: The work folder of the training.
        weights: Where the folder goes.
        quality: Measured numbers for the model card, by name; shares from 0 to 1.
        hours: How long the training took, for the model card.
        machine: What it ran on, for the model card.

    Returns:
        The folder of the pipeline.

    Raises:
        TrainingError: A stage is missing.
        StoreError: The folder cannot be written, or is too large to ship.
    """
    config: Config = RECIPE.of(out)
    pipeline, steps = trained_pipeline(config, out)
    parts = {name: millions(getattr(pipeline, name)) for name in ("unet", "vae", "image_encoder")}
    card = _card(config, steps, parts, quality or {}, hours, machine)

    def write(folder: Path) -> None:
        for name in parts:
            getattr(pipeline, name).to(torch.float16)
        pipeline.save_pretrained(str(folder), safe_serialization=True)
        load_in_full(folder / "image_encoder" / "config.json")
        notes = {"defaults": {"steps": DEFAULT_STEPS, "guidance": DEFAULT_GUIDANCE}}
        (folder / "sfumato.json").write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(card, encoding="utf-8")

    return replace_model(weights / "insert", write)


def _card(
    config: Config,
    steps: int,
    parts: Mapping[str, float],
    quality: Mapping[str, Any],
    hours: float | None,
    machine: str,
) -> str:
    unet, vae = config.unet, config.vae
    sizes = ", ".join(f"{name} {size:.2f} M" for name, size in parts.items())
    took = "" if hours is None else f" It took {hours:.1f} hours in all."
    patches = (SIZE // unet.patch) ** 2
    start = f", going on from that of {vae.start}" if vae.start else ""
    return f"""---
license: apache-2.0
library_name: diffusers
---
# studio/{config.name}

A small latent diffusion model that paints what a reference shows into the masked part of an image: a garment onto a
figure, scaled, shifted, turned and bent. It ships inside Sfumato because here the truth is known: which patch of the
reference every painted pixel comes from.

It is a `ReferenceInpaintPipeline` of `sfumato.pipelines` in half precision. It paints 128 x 128 pixels.

## Parts

Parameters: {sizes}.
Latents of 16 x 16 x 4; a U-Net with 9 input channels (latent, mask, latent of the masked image) and cross-attention at
{len(unet.channels)} resolutions to {patches} patch tokens of a vision transformer of {unet.layers} layers; DDIM with
v-prediction.

## Data

{config.data.pairs:,} pairs drawn by `sfumato.studio.garments`; seeds below 1,000,000 were never trained on. No
photographs, no data from people.

## Training

`sfumato train insert` with `sfumato_training/configs/insert.toml`, on {machine}.{took}

- Autoencoder: {vae.steps:,} steps on crops of {vae.crop} pixels{start}.
- U-Net and image encoder: {steps:,} steps of {unet.batch}, averaged weights; {unet.withheld:.0%} of the references were
  withheld, for guidance. Errors outside the mask weigh {unet.outside:g}.

The model is told neither the correspondence nor where on the garment a pixel lies; no loss on attention maps was used.

## Measured

{table(config.name, quality)}

## Limits

It knows drawn garments only. Its images serve the study of explanations.
"""
