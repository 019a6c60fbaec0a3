"""From a training's work folder to the weights that ship inside the package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from sfumato.studio.tokenizer import scene_words, write_tokenizer
from sfumato_training.publishing import (
    Told,
    load_in_full,
    millions,
    replace_model,
    sizes,
    write_card,
    write_pipeline,
)
from sfumato_training.scenes.clip import load_clip
from sfumato_training.scenes.config import Config
from sfumato_training.scenes.networks import trained_pipeline

DEFAULT_STEPS = 25
DEFAULT_GUIDANCE = 2.0
"""What the model is run with unless a request says otherwise."""


def write(config: Config, out: Path, weights: Path, told: Told) -> Path:
    """Write the pipeline as `weights`/scenes, and the contrastive pair as `weights`/clip."""
    pipeline, steps = trained_pipeline(config, out)
    clip, _ = load_clip(config, out)
    notes = {"defaults": {"steps": DEFAULT_STEPS, "guidance": DEFAULT_GUIDANCE}, "words": sorted(scene_words())}

    def fill_pipeline(folder: Path) -> None:
        write_pipeline(folder, pipeline, notes, "text_encoder")
        shutil.rmtree(folder / "tokenizer")
        write_tokenizer(folder / "tokenizer")
        write_card(folder, _card(config, steps, sizes(pipeline), told), tag="text-to-image")

    def fill_clip(folder: Path) -> None:
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
        write_card(folder, _clip_card(config, millions(clip), told), library="transformers")

    written = replace_model(weights / "scenes", fill_pipeline)
    replace_model(weights / "clip", fill_clip)
    return written


def _card(config: Config, steps: int, parameters: str, told: Told) -> str:
    unet, clip, vae = config.unet, config.clip, config.vae
    of = ", going on from that of {}".format
    vae_of, clip_of = of(vae.start) if vae.start else "", of(clip.start) if clip.start else ""
    return f"""# studio/{config.name}

A small latent diffusion model of procedural scenes: coloured shapes, their numbers, sizes, textures and places. It
ships inside Sfumato so that every method can be tried at once, and scored against ground truth that is exact.

It is a `StableDiffusionPipeline` in half precision with a byte-level tokenizer: any text runs, but only the words in
`sfumato.json` mean something to it. It draws 128 x 128 pixels.

## Parts

Parameters: {parameters}.
Latents of 16 x 16 x 4; cross-attention at {len(unet.channels)} resolutions; v-prediction; DDIM.
The text encoder is the first {unet.text_layers} of {clip.text_layers} layers of a contrastive text encoder, trained on
with the U-Net; that whole contrastive pair ships beside this folder as `clip`.

## Data

{config.data.scenes:,} scenes drawn by `sfumato.studio.scenes`, each with its caption. About 4% of the captions are held
out by a stable hash of their subject and were never trained on; all numbers below are on held-out captions. No
photographs, no data from people.

## Training

{told.how}

- Autoencoder: {vae.steps:,} steps on crops of {vae.crop} pixels{vae_of}.
- Contrastive pair: {clip.steps:,} steps of {clip.batch} pairs{clip_of}.
- U-Net and text encoder: {steps:,} steps of {unet.batch}, averaged weights. {unet.empty:.0%} of the captions
  were empty; of the others {unet.drop_captions:.0%} had words left out at random, so that every part of a prompt means
  something alone.

No loss on attention maps was used.

## Measured

{told.table()}

## Limits

It knows some fifty words and nothing of the world. Its images serve the study of explanations. Small shapes are soft,
because the autoencoder is small.
"""


def _clip_card(config: Config, size: float, told: Told) -> str:
    measured = {name: value for name, value in told.quality.items() if "retrieval" in name}
    return f"""# studio/clip

A contrastive pair of encoders ({size:.2f} M parameters, half precision) for the scenes of `sfumato.studio.scenes`: a
transformers `CLIPModel` with images of 128 x 128 pixels scaled to -1..1, and the tokenizer of studio/{config.name}.

Trained on {config.data.scenes:,} scenes and captions, {config.clip.steps:,} steps of {config.clip.batch} pairs, by
`sfumato train scenes --stage clip`; {config.clip.drop_captions:.0%} of the captions had words left out at random.

## Measured
{told.table(measured)}
"""
