"""One colour word exchanged, the noise the same: what changes outside the object that it describes?

In Tang et al. 2023 changing an adjective changes the scene beyond its noun.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sfumato.judging.removal import difference
from sfumato.metrics import bootstrap, lies, verdict_of
from sfumato.models.model import Model
from sfumato.plots.studies import examples_sheet, panels_sheet, stacked
from sfumato.progress import Progress
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, Claim, Cost, Item, ModelFacts, NoOptions, Record, Records, task
from sfumato.studio.grammar import Group, ScenePlan, caption_of, parsed
from sfumato.studio.reader import read
from sfumato.studio.shapes import COLOURS, SHAPES
from sfumato.tasks.generate import generated
from sfumato.tasks.shared.scene_images import (
    EXAMPLES,
    OTHER,
    Panel,
    check_scene_size,
    of_shape,
    pair_items,
    paired,
    title,
    two_objects,
)
from sfumato.tasks.shared.word_maps import Sampling, or_nan, requests_of_pairs, warn_of_one

VISIBLE = 16
"""A pixel is changed when one of its three values differs by more than this, of 255."""
MARGIN = 3
"""So many pixels around an object count as the object: an edge that moves by one is no change elsewhere."""
NEAR = 4.0
"""Pixels by which the centre of an object that stays may move."""
LEAST_OUTSIDE = 0.05
"""The scene changes beyond the noun where more than this share of the pixels outside it change visibly."""
OUTSIDE, INSIDE, SHARE, STAYS = (
    "changed outside",
    "changed inside",
    "share of the change outside",
    "other object stays",
)
MEASURES = (OUTSIDE, INSIDE, SHARE, "share of the image outside", STAYS, "background stays")
CLAIM = Claim("Changing an adjective changes the scene beyond the noun that it describes.", paper="Tang et al. 2023")


def swapped_captions(pairs: int, seed: int) -> list[str]:
    """Captions in pairs that differ in the first object's colour alone."""
    chance = random.Random(f"adjectives {seed}")
    captions = []
    for _ in range(pairs):
        first, second = chance.sample(SHAPES, 2)
        one, other, stays = chance.sample(tuple(COLOURS), 3)
        captions += [caption_of(ScenePlan((Group(first, c), Group(second, stays)), "and")) for c in (one, other)]
    return captions


def _pair_fault(one: ScenePlan, other: ScenePlan) -> str:
    """Why two captions do not differ in the first object's colour alone; "" where they do."""
    first, second = one.groups[0], other.groups[0]
    swapped = replace(one, groups=(replace(first, colour=second.colour), *one.groups[1:]))
    if first.colour != second.colour and swapped == other:
        return ""
    return "its two captions do not differ in the first object's colour alone"


@task(
    "swapped_adjectives",
    question="Where one colour word is exchanged, what changes outside the object that it describes?",
    options=NoOptions,
    cost=Cost("two generations for each pair"),
    needs=("words",),
    claim=CLAIM,
    prompts=Captions(lambda count, seed: paired(swapped_captions(count, seed)), usual=60, seeded=True),
)
class SwappedAdjectives:
    """Pairs of images with one seed, whose prompts differ in the first object's colour alone.

    A row has one caption as its prompt, and that with the other colour in the column ``other``. The finding is
    replicated if more than a twentieth of the pixels outside the object change visibly, with a 95% interval over pairs.
    """

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: NoOptions) -> Iterator[Item | Row]:
        """An item for each pair of captions."""
        check_scene_size("swapped_adjectives", facts)
        return pair_items(rows, two_objects, _pair_fault)

    def measure(self, model: Model, items: Sequence[Item], options: NoOptions, progress: Progress) -> Sequence[Record]:
        """Generate both images of each pair and compare them."""
        images = generated(model, requests_of_pairs(items), len(items), progress)
        return [
            swap_record(item, np.stack(both))
            for item, both in zip(items, zip(images[::2], images[1::2], strict=True), strict=True)
        ]

    def conclude(self, records: Records, options: NoOptions, about: Mapping[str, Any]) -> Finding:
        """What changes outside and inside the object, over the pairs that show it twice."""
        warn_of_one(len(records))
        sampling = Sampling()
        pictures: list[list[Panel]] = []
        measured: list[list[float]] = []
        for item, record in records:
            sampling.add(item.request, prompts=2)
            (row,) = record.rows
            if not row["object in both"]:
                continue
            measured.append([or_nan(row[name]) for name in MEASURES])
            if len(pictures) < EXAMPLES:
                pictures.append(_shown(item, record.arrays["images"]))
        columns = np.array(measured, np.float64).reshape(-1, len(MEASURES)).T
        values = {name: bootstrap(column) for name, column in zip(MEASURES, columns, strict=True)}
        sentence = (
            f"Of the pixels outside the noun's object {values[OUTSIDE]} change visibly, inside it {values[INSIDE]}; "
            f"outside it lies {values[SHARE]} of the whole change. The other object stays in {values[STAYS]} of the "
            "images."
            if measured
            else "No pair shows the object whose colour was exchanged in both images, so nothing can be said."
        )
        bars = panels_sheet({"share": values})
        figure = stacked(bars, examples_sheet(pictures)) if pictures else bars
        rows = [{"measure": name, "mean": value} for name, value in values.items()]
        told = {**about, "visible": VISIBLE, "images_without_the_object": len(records) - len(measured)}
        verdict = verdict_of(lies(values[OUTSIDE], above=LEAST_OUTSIDE))
        return Finding("swapped_adjectives", CLAIM.text, verdict, sentence, rows, figure, told | sampling.about)


def swap_record(item: Item, images: NDArray[np.uint8]) -> Record:
    """What differs between the two images (2, y, x, 3) of a pair; null where the object cannot be found in both."""
    plan, other_plan = parsed(item.request.prompt), parsed(item.about[OTHER])
    row: dict[str, Any] = {"swapped to": other_plan.groups[0].colour}
    readings = [read(image) for image in images]
    things = [[of_shape(reading, group.shape) for group in plan.groups] for reading in readings]
    (first, second), (first_too, second_too) = things
    if first is None or first_too is None:
        row |= {"object in both": False} | dict.fromkeys(MEASURES)
        return Record(arrays={"images": images}, rows=[row])
    change = difference(*images)
    own = ndimage.binary_dilation(first.mask | first_too.mask, iterations=MARGIN)
    energy = change**2
    stays = (
        second is not None
        and second_too is not None
        and second.colour == second_too.colour
        and np.hypot(second.x - second_too.x, second.y - second_too.y) <= NEAR
    )
    measured = (
        float((change[~own] > VISIBLE).mean()) if not own.all() else math.nan,
        float((change[own] > VISIBLE).mean()),
        float(energy[~own].sum() / energy.sum()) if energy.any() else 0.0,
        float((~own).mean()),
        float(stays),
        float(readings[0].background == readings[1].background),
    )
    row |= {"object in both": True} | {name: round(value, 5) for name, value in zip(MEASURES, measured, strict=True)}
    return Record(arrays={"images": images}, rows=[row])


def _shown(item: Item, images: NDArray[np.uint8]) -> list[Panel]:
    titles = (title(item.request.prompt), title(item.about[OTHER]))
    return [(titles[0], images[0], False), (titles[1], images[1], False), ("change", difference(*images), True)]
