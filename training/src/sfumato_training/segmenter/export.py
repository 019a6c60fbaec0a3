"""From a training's work folder to the weights of the segmenter that ship inside the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfumato.studio.segmenter import CLASSES
from sfumato.studio.segmenter import WEIGHTS as SHIPPED
from sfumato_training.checkpoints import write_tensors
from sfumato_training.publishing import Told, millions, replace_model, write_card
from sfumato_training.segmenter.config import Config
from sfumato_training.segmenter.looking import held_out_scenes, look, mean_iou, nested_scenes, things_named
from sfumato_training.segmenter.unet import trained_unet
from sfumato_training.segmenter.wear import BLUR, NOISE

NESTED = 100
"""At most so many scenes of a thing inside another are measured."""


def write(config: Config, out: Path, weights: Path, told: Told) -> Path:
    """Write the segmenter as `weights`/segmenter, measured on held-out scenes."""
    segmenter, steps = trained_unet(config, out)
    segmenter.half().float()  # measured is what is shipped
    measured = _measured(segmenter, config.unet.held_out) | dict(told.quality)
    card = _card(config, steps, millions(segmenter), measured, told)

    def fill(folder: Path) -> None:
        write_tensors(folder / SHIPPED.name, segmenter.half().state_dict(), {"format": "pt"})
        write_card(folder, card, library="pytorch")

    return replace_model(weights / SHIPPED.parent.name, fill)


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


def _card(config: Config, steps: int, size: float, measured: Mapping[str, Any], told: Told) -> str:
    unet = config.unet
    every = config.data.nested_every
    nested = f"In one of {every} a thing lies inside another. " if every else ""
    return f"""# studio/{config.name}

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

{told.how}

{steps:,} steps of {unet.batch} scenes, AdamW, the cross-entropy of every pixel's class. The scenes were shifted,
mirrored, blurred, tinted, stained and made noisy, so that generated images can be read too.

## Measured

Intersection over union (IoU), its pixels counted over all images: on {unet.held_out} scenes of held-out captions, as
drawn and worn by a blur of {BLUR:g} pixel and noise of {NOISE:g} levels of 255.

{told.table(measured)}

## Limits

It knows scenes only: in anything else it still sees shapes or background. A shape that lies inside another is the
hardest for it to name.
"""
