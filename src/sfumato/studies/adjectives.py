"""One colour word exchanged, the noise the same: what changes outside the object that it describes?"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sfumato.mapped import Mapped
from sfumato.metrics import bootstrap, lies, verdict_of
from sfumato.models.model import Model
from sfumato.plots.studies import examples_sheet, panels_sheet, stacked
from sfumato.runs.finding import Finding
from sfumato.studies.asking import about
from sfumato.studies.things import EXAMPLES, of_shape, title
from sfumato.studio.grammar import Group, Plan, caption_of, parsed
from sfumato.studio.reader import read
from sfumato.studio.shapes import COLOURS, SHAPES

VISIBLE = 16
"""A pixel is changed when one of its three values differs by more than this, of 255."""
MARGIN = 3
"""So many pixels around an object count as the object: an edge that moves by one is no change elsewhere."""
NEAR = 4.0
"""Pixels by which the centre of an object that stays may move."""
LEAST_OUTSIDE = 0.05
"""The scene changes beyond the noun where more than this share of the pixels outside it change visibly."""
SOURCE = "Changing an adjective changes the scene beyond the noun that it describes."


def swapped_captions(pairs: int, seed: int) -> list[str]:
    """Captions in pairs that differ in the first object's colour alone."""
    chance = random.Random(f"adjectives {seed}")
    captions = []
    for _ in range(pairs):
        first, second = chance.sample(SHAPES, 2)
        one, other, stays = chance.sample(tuple(COLOURS), 3)
        captions += [caption_of(Plan((Group(first, c), Group(second, stays)), "and")) for c in (one, other)]
    return captions


def adjectives(model: Model, found: Sequence[Mapped]) -> Finding:
    """One colour word exchanged, the noise the same: what changes outside the object that it describes?"""
    items: list[dict[str, Any]] = []
    pictures: list[list[tuple[str, NDArray[Any], bool]]] = []
    for one, other in zip(found[::2], found[1::2], strict=True):
        item, changed = _swap(one, other)
        items.append(item)
        if len(pictures) < EXAMPLES and item["changed outside"] != "":
            titles = (title(one), title(other))
            pictures.append([(titles[0], one.image, False), (titles[1], other.image, False), ("change", changed, True)])
    read_ones = [item for item in items if item["changed outside"] != ""]
    keys = [name for name in items[0] if name not in ("prompt", "swapped to", "seed")]
    values = {name: bootstrap([float(item[name]) for item in read_ones]) for name in keys}
    outside = values["changed outside"]
    kept = values["other object stays"]
    rows = [{"measure": name, "mean": value} for name, value in values.items()]
    sentence = (
        f"Of the pixels outside the noun's object {outside} change visibly, inside it {values['changed inside']}; "
        f"outside it lies {values['share of the change outside']} of the whole change. The other object stays in "
        f"{kept} of the images."
        if read_ones
        else "No pair shows the object whose colour was exchanged in both images, so nothing can be said."
    )
    bars = panels_sheet({"share": values})
    figure = stacked(bars, examples_sheet(pictures)) if pictures else bars
    told = about(model, found, visible=VISIBLE, images_without_the_object=len(items) - len(read_ones))
    verdict = verdict_of(lies(outside, above=LEAST_OUTSIDE))
    return Finding("adjectives", SOURCE, verdict, sentence, rows, figure, told, items)


def _swap(one: Mapped, other: Mapped) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """What differs between two images of which one word was exchanged; empty where the object cannot be found."""
    difference = np.abs(one.image.astype(np.float64) - other.image).max(-1)  # (y, x)
    item: dict[str, Any] = {
        "prompt": one.request.prompt,
        "swapped to": parsed(other.request.prompt).groups[0].colour,
        "seed": one.request.seed,
    }
    readings = [read(picture.image) for picture in (one, other)]
    groups = parsed(one.request.prompt).groups
    things = [[of_shape(reading, group.shape) for group in groups] for reading in readings]
    names = (
        "changed outside",
        "changed inside",
        "share of the change outside",
        "share of the image outside",
        "other object stays",
        "background stays",
    )
    (first, second), (first_too, second_too) = things
    if first is None or first_too is None:
        return item | dict.fromkeys(names, ""), difference
    own = ndimage.binary_dilation(first.mask | first_too.mask, iterations=MARGIN)
    energy = difference**2
    stays = (
        second is not None
        and second_too is not None
        and second.colour == second_too.colour
        and np.hypot(second.x - second_too.x, second.y - second_too.y) <= NEAR
    )
    measured = (
        float((difference[~own] > VISIBLE).mean()) if not own.all() else math.nan,
        float((difference[own] > VISIBLE).mean()),
        float(energy[~own].sum() / energy.sum()) if energy.any() else 0.0,
        float((~own).mean()),
        float(stays),
        float(readings[0].background == readings[1].background),
    )
    return item | {name: round(value, 5) for name, value in zip(names, measured, strict=True)}, difference
