"""From a training's work folder to the weights of the segmenter that ship inside the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfumato.studio.segmenter import CLASSES
from sfumato.studio.segmenter import WEIGHTS as SHIPPED
from sfumato_training.checkpoints import write_tensors
from sfumato_training.publishing import WEIGHTS, millions, replace_model, table
from sfumato_training.segmenter.config import Config
from sfumato_training.segmenter.looking import held_out_scenes, look, mean_iou, nested_scenes, things_named
from sfumato_training.segmenter.stages import RECIPE
from sfumato_training.segmenter.unet import trained_unet
from sfumato_training.segmenter.wear import BLUR, NOISE

NESTED = 100
"""At most so many scenes of a thing inside another are measured."""


def export(
    out: Path,
    weights: Path = WEIGHTS,
    *,
    quality: Mapping[str, Any] | None = None,
    minutes: float | None = None,
    machine: str = "2 CPU cores",
) -> Path:
    """Write the newest checkpoint in half precision as `weights`/segmenter, measured on held-out scenes.

    Args:
        out: The work folder of the training.
        weights: Where the folder goes.
        quality: More measured numbers for the model card, by name; shares from 0 to 1.
        minutes: How long the training took, for the model card.
        machine: What it ran on, for the model card.

    Returns:
        The folder of the weights.

    Raises:
        TrainingError: A stage is missing.
        StoreError: The folder cannot be written, or is too large to ship.
    """
    config: Config = RECIPE.of(out)
    segmenter, steps = trained_unet(config, out)
    segmenter.half().float()  # measured is what is shipped
    measured = _measured(segmenter, config.unet.held_out) | dict(quality or {})
    card = _card(config, steps, millions(segmenter), measured, minutes, machine)

    def write(folder: Path) -> None:
        write_tensors(folder / SHIPPED.name, segmenter.half().state_dict(), {"format": "pt"})
        (folder / "README.md").write_text(card, encoding="utf-8")

    return replace_model(weights / SHIPPED.parent.name, write)


def _measured(segmenter: Any, count: int) -> dict[str, Any]:
    scenes = held_out_scenes(count)
    looked = look(segmenter, scenes)
    means: dict[str, Any] = {f"mean IoU, {how}": mean_iou(ious) for how, ious in looked.items()}
    classes = {
        f"{name}, drawn and worn": " and ".join(
            f"{ious[name]:.1%}" if name in ious else "none" for ious in looked.values()
        )
        for name in CLASSES
    }
    named = [right for things in things_named(segmenter, scenes) for right in things]
    inner = [things[0] for things in things_named(segmenter, nested_scenes(min(count, NESTED)))]
    return (
        means
        | classes
        | {
            f"things that mostly get their own class (of {len(named)})": sum(named) / len(named),
            f"the same, inside another thing (of {len(inner)} in as many more scenes)": sum(inner) / len(inner),
        }
    )


def _card(
    config: Config, steps: int, size: float, quality: Mapping[str, Any], minutes: float | None, machine: str
) -> str:
    unet = config.unet
    every = config.data.nested_every
    nested = f"In one of {every} a thing lies inside another. " if every else ""
    took = "" if minutes is None else f" It took {minutes:.0f} minutes in all."
    return f"""---
license: apache-2.0
library_name: pytorch
---
# studio/{config.name}

A supervised segmenter of scenes of 128 x 128 pixels with a closed vocabulary: for every pixel it says how likely each
of {len(CLASSES)} classes is ({", ".join(CLASSES)}).
It knows these nouns and no other word: no colour, size, texture, numeral or relation. It ships inside Sfumato as the
supervised counterpart to which maps of words are compared.

It is a U-Net in plain PyTorch ({size:.2f} M parameters, half precision), no pipeline: load it with
`sfumato.studio.segmenter.load_segmenter`.

## Data

{config.data.scenes:,} scenes drawn by `sfumato.studio.scenes`; held-out captions were never trained on.
{nested}No photographs, no data from people.

## Training

`sfumato train segmenter` with `sfumato_training/configs/segmenter.toml`, on {machine}.{took}

{steps:,} steps of {unet.batch} scenes, AdamW, the cross-entropy of every pixel's class. The scenes were shifted,
mirrored, blurred, tinted, stained and made noisy, so that generated images can be read too.

## Measured

Intersection over union (IoU), its pixels counted over all images: on {unet.held_out} scenes of held-out captions, as
drawn and worn by a blur of {BLUR:g} pixel and noise of {NOISE:g} levels of 255.

{table(config.name, quality)}

## Limits

It knows scenes only: in anything else it still sees shapes or background. A shape that lies inside another is the
hardest for it to name.
"""
