"""From a training's work folder to the weights that ship inside the package."""

from __future__ import annotations

import shutil
from pathlib import Path

from sfumato.studio.shapes import SIZE
from sfumato.studio.tokenizer import scene_words, write_tokenizer
from sfumato_training.publishing import Told, replace_model, sizes, write_card, write_pipeline
from sfumato_training.scenes_mmdit.config import Config
from sfumato_training.scenes_mmdit.networks import recommended, trained_pipeline


def write(config: Config, out: Path, weights: Path, told: Told) -> Path:
    """Write the pipeline, a FluxPipeline, under its name."""
    pipeline, steps = trained_pipeline(config, out)
    notes = {
        "defaults": {"steps": config.transformer.sample_steps, "size": SIZE},
        "arguments": recommended(config.transformer),
        "words": sorted(scene_words()),
    }

    def fill(folder: Path) -> None:
        write_pipeline(folder, pipeline, notes, "text_encoder", "text_encoder_2")
        shutil.rmtree(folder / "tokenizer")
        write_tokenizer(folder / "tokenizer")
        write_card(folder, _card(config, steps, sizes(pipeline), told), tag="text-to-image")

    return replace_model(weights / config.name, fill)


def _card(config: Config, steps: int, parameters: str, told: Told) -> str:
    vae, flow = config.vae, config.transformer
    return f"""# studio/{config.name}

A small transformer of procedural scenes in the layout of Flux: text and image share one softmax in {flow.double}
double-stream and {flow.single} single-stream blocks. It ships inside Sfumato so that methods for joint attention can be
scored against ground truth that is exact.

It is a `FluxPipeline` in half precision that draws 128 x 128 pixels. Any text runs, but only the words in
`sfumato.json` mean something to it. Its guidance is true guidance by the empty prompt.

## Parts

Parameters: {parameters}.
Latents of 32 x 32 x 4, packed to 16 x 16 positions; rectified flow; {flow.heads} heads of {sum(flow.axes)} channels.
The context is a T5 encoder of {flow.text_layers} layers trained with the transformer; the pooled text is that of
`studio/clip`.

## Data

{config.data.scenes:,} scenes drawn by `sfumato.studio.scenes`, each with its caption; held-out captions, by a stable
hash of their subject, were never trained on, and all numbers below are on those. No photographs, no data from people.

## Training

{told.how}

- Autoencoder: {vae.steps:,} steps of {vae.batch} crops of {vae.crop} pixels.
- Transformer and T5 encoder: {steps:,} steps of {flow.batch}, averaged weights; {flow.relations:.0%} of a batch had a
  relation, {flow.counts:.0%} a number. {flow.empty:.0%} of the captions were empty; of the others
  {flow.drop_captions:.0%} had words left out at random.

No loss on attention maps was used.

## Measured

{told.table()}

## Limits

It knows some fifty words and nothing of the world: evidence about a small model of drawn scenes, not about large ones.
"""
