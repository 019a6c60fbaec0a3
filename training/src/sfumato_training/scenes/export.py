"""From a training's work folder to the weights that ship inside the package."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfumato.studio.tokenizer import scene_words, write_tokenizer
from sfumato_training.publishing import WEIGHTS, load_in_full, millions, replace_model, table
from sfumato_training.scenes.config import Config
from sfumato_training.scenes.stages import RECIPE

DEFAULT_STEPS = 25
DEFAULT_GUIDANCE = 2.0
"""What the model is run with unless a request says otherwise."""


def export(
    out: Path,
    weights: Path = WEIGHTS,
    *,
    quality: Mapping[str, Any] | None = None,
    hours: float | None = None,
    machine: str = "2 CPU cores",
) -> tuple[Path, Path]:
    """Write the newest checkpoint in half precision as `weights`/scenes and `weights`/clip.

    Each folder is written beside its place and then renamed, so that a reader sees the old one or the new one.

    Args:
        out: The work folder of the training.
        weights: Where the folders "scenes" (a StableDiffusionPipeline) and "clip" (a CLIPModel) go.
        quality: Measured numbers for the model card, by name; shares from 0 to 1.
        hours: How long the training took, for the model card.
        machine: What it ran on, for the model card.

    Returns:
        The folders of the pipeline and of the CLIP model.

    Raises:
        TrainingError: A stage is missing.
        StoreError: A folder cannot be written, or is too large to ship.
    """
    import torch

    from sfumato_training.scenes.clip import load_clip
    from sfumato_training.scenes.sampling import trained_pipeline

    config = RECIPE.of(out)
    pipeline, steps = trained_pipeline(config, out)
    clip, _ = load_clip(config, out)
    sizes = {name: millions(part) for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    card = _card(config, steps, sizes, quality or {}, hours, machine)

    def write_pipeline(folder: Path) -> None:
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.to(torch.float16)
        pipeline.save_pretrained(str(folder), safe_serialization=True)
        load_in_full(folder / "text_encoder" / "config.json")
        shutil.rmtree(folder / "tokenizer")
        write_tokenizer(folder / "tokenizer")
        notes = {"defaults": {"steps": DEFAULT_STEPS, "guidance": DEFAULT_GUIDANCE}, "words": sorted(scene_words())}
        (folder / "sfumato.json").write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(card, encoding="utf-8")

    def write_clip(folder: Path) -> None:
        clip.to(torch.float16).save_pretrained(str(folder))
        load_in_full(folder / "config.json")
        write_tokenizer(folder)
        side = clip.config.vision_config.image_size
        settings = {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": side},
            "crop_size": {"height": side, "width": side},
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
        }
        (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(_clip_card(config, millions(clip), quality or {}), encoding="utf-8")

    return replace_model(weights / "scenes", write_pipeline), replace_model(weights / "clip", write_clip)


def _card(
    config: Config,
    steps: int,
    sizes: Mapping[str, float],
    quality: Mapping[str, Any],
    hours: float | None,
    machine: str,
) -> str:
    unet, clip, vae = config.unet, config.clip, config.vae
    parts = ", ".join(f"{name} {size:.2f} M" for name, size in sizes.items())
    of = ", going on from that of {}".format
    vae_of, clip_of = of(vae.start) if vae.start else "", of(clip.start) if clip.start else ""
    own = "`sfumato_training/configs/scenes.toml`" if config == RECIPE.load() else "settings of its own"
    took = "" if hours is None else f" It took {hours:.1f} hours in all."
    return f"""---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# studio/{config.name}

A small latent diffusion model of procedural scenes: coloured shapes, their numbers, sizes, textures and places. It
ships inside Sfumato so that every method can be tried at once, and scored against ground truth that is exact.

It is a `StableDiffusionPipeline` in half precision with a byte-level tokenizer: any text runs, but only the words in
`sfumato.json` mean something to it. It draws 128 x 128 pixels.

## Parts

Parameters: {parts}.
Latents of 16 x 16 x 4; cross-attention at {len(unet.channels)} resolutions; v-prediction; DDIM.
The text encoder is the first {unet.text_layers} of {clip.text_layers} layers of a contrastive text encoder, trained on
with the U-Net; that whole contrastive pair ships beside this folder as `clip`.

## Data

{config.data.scenes:,} scenes drawn by `sfumato.studio.scenes`, each with its caption. About 4% of the captions are held
out by a stable hash of their subject and were never trained on; all numbers below are on held-out captions. No
photographs, no data from people.

## Training

`sfumato train scenes` with {own}, on {machine}.{took}

- Autoencoder: {vae.steps:,} steps on crops of {vae.crop} pixels{vae_of}.
- Contrastive pair: {clip.steps:,} steps of {clip.batch} pairs{clip_of}.
- U-Net and text encoder: {steps:,} steps of {unet.batch}, averaged weights. {unet.empty:.0%} of the captions
  were empty; of the others {unet.drop_captions:.0%} had words left out at random, so that every part of a prompt means
  something alone.

No loss on attention maps was used.

## Measured

{table("scenes", quality)}

## Limits

It knows some fifty words and nothing of the world. Its images serve the study of explanations. Small shapes are soft,
because the autoencoder is small.
"""


def _clip_card(config: Config, size: float, quality: Mapping[str, Any]) -> str:
    measured = {name: value for name, value in quality.items() if "retrieval" in name}
    return f"""---
license: apache-2.0
library_name: transformers
---
# studio/clip

A contrastive pair of encoders ({size:.2f} M parameters, half precision) for the scenes of `sfumato.studio.scenes`: a
transformers `CLIPModel` with images of 128 x 128 pixels scaled to -1..1, and the tokenizer of studio/{config.name}.

Trained on {config.data.scenes:,} scenes and captions, {config.clip.steps:,} steps of {config.clip.batch} pairs, by
`sfumato train scenes --stage clip`; {config.clip.drop_captions:.0%} of the captions had words left out at random.

## Measured
{table("scenes", measured)}
"""
