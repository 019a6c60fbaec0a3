"""From a training's work folder to the weights that ship inside the package."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfumato.studio.shapes import SIZE
from sfumato.studio.tokenizer import scene_words, write_tokenizer
from sfumato_training.publishing import WEIGHTS, load_in_full, millions, replace_model, table
from sfumato_training.scenes_mmdit.config import Config
from sfumato_training.scenes_mmdit.stages import RECIPE


def export(
    out: Path,
    weights: Path = WEIGHTS,
    *,
    quality: Mapping[str, Any] | None = None,
    hours: float | None = None,
    machine: str = "2 CPU cores",
) -> Path:
    """Write the newest checkpoint in half precision as `weights`/scenes-mmdit, a FluxPipeline.

    Args:
        out: The work folder of the training.
        weights: Where the folder goes.
        quality: Measured numbers for the model card, by name; shares from 0 to 1.
        hours: How long the training took, for the model card.
        machine: What it ran on, for the model card.

    Raises:
        TrainingError: A stage is missing.
        StoreError: The folder cannot be written, or is too large to ship.
    """
    import torch

    from sfumato_training.scenes_mmdit.pipeline import recommended, trained_pipeline

    config = RECIPE.of(out)
    pipeline, steps = trained_pipeline(config, out)
    networks = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    card = _card(
        config, steps, {name: millions(part) for name, part in networks.items()}, quality or {}, hours, machine
    )

    def write(folder: Path) -> None:
        for part in networks.values():
            part.to(torch.float16)
        pipeline.save_pretrained(str(folder), safe_serialization=True)
        for name in ("text_encoder", "text_encoder_2"):
            load_in_full(folder / name / "config.json")
        shutil.rmtree(folder / "tokenizer")
        write_tokenizer(folder / "tokenizer")
        notes = {
            "defaults": {"steps": config.transformer.sample_steps, "size": SIZE},
            "arguments": recommended(config.transformer),
            "words": sorted(scene_words()),
        }
        (folder / "sfumato.json").write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(card, encoding="utf-8")

    return replace_model(weights / config.name, write)


def _card(
    config: Config,
    steps: int,
    sizes: Mapping[str, float],
    quality: Mapping[str, Any],
    hours: float | None,
    machine: str,
) -> str:
    vae, flow = config.vae, config.transformer
    parts = ", ".join(f"{name} {size:.2f} M" for name, size in sizes.items())
    own = "`sfumato_training/configs/scenes-mmdit.toml`" if config == RECIPE.load() else "settings of its own"
    took = "" if hours is None else f" It took {hours:.1f} hours in all."
    return f"""---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# studio/{config.name}

A small transformer of procedural scenes in the layout of Flux: text and image share one softmax in {flow.double}
double-stream and {flow.single} single-stream blocks. It ships inside Sfumato so that methods for joint attention can be
scored against ground truth that is exact.

It is a `FluxPipeline` in half precision that draws 128 x 128 pixels. Any text runs, but only the words in
`sfumato.json` mean something to it. Its guidance is true guidance by the empty prompt.

## Parts

Parameters: {parts}.
Latents of 32 x 32 x 4, packed to 16 x 16 positions; rectified flow; {flow.heads} heads of {sum(flow.axes)} channels.
The context is a T5 encoder of {flow.text_layers} layers trained with the transformer; the pooled text is that of
`studio/clip`.

## Data

{config.data.scenes:,} scenes drawn by `sfumato.studio.scenes`, each with its caption; held-out captions, by a stable
hash of their subject, were never trained on, and all numbers below are on those. No photographs, no data from people.

## Training

`sfumato train scenes-mmdit` with {own}, on {machine}.{took}

- Autoencoder: {vae.steps:,} steps of {vae.batch} crops of {vae.crop} pixels.
- Transformer and T5 encoder: {steps:,} steps of {flow.batch}, averaged weights; {flow.relations:.0%} of a batch had a
  relation, {flow.counts:.0%} a number. {flow.empty:.0%} of the captions were empty; of the others
  {flow.drop_captions:.0%} had words left out at random.

No loss on attention maps was used.

## Measured

{table("scenes-mmdit", quality)}

## Limits

It knows some fifty words and nothing of the world: evidence about a small model of drawn scenes, not about large ones.
"""
