"""How much of a colour word's map lies on the wrong object, against whether its object has the wrong colour.

One of the questions of entanglement in Tang et al. 2023.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.metrics import bootstrap, lies, separation, verdict_of
from sfumato.models.model import Model
from sfumato.plots.studies import examples_sheet, panels_sheet, stacked
from sfumato.progress import Progress
from sfumato.registry import find
from sfumato.results.upscale import bicubic
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, Claim, Cost, Item, ModelFacts, Record, Records, task
from sfumato.studio.grammar import Group, ScenePlan, caption_of, parsed
from sfumato.studio.reader import read
from sfumato.studio.shapes import COLOURS, SHAPES, TEXTURES
from sfumato.tasks.explain import check_method
from sfumato.tasks.shared.scene_images import EXAMPLES, Panel, caption_items, check_scene_size, of_shape, two_objects
from sfumato.tasks.shared.word_maps import Mapped, Sampling, WordMapOptions, costs_of_maps, measured_maps, warn_of_one

PLAIN, DETAILED = "plain", "detailed"
CLAIM = Claim(
    "Where a colour word's map lies on the wrong object, the object gets the wrong colour.", paper="Tang et al. 2023"
)


def two_object_captions(count: int, seed: int, *, detailed: bool) -> list[str]:
    """Captions of two objects that differ in shape and colour; in detailed ones the first has a texture.

    Training never says the texture of one of two objects, so those images go wrong more often.
    """
    chance = random.Random(f"leakage {seed} {detailed}")
    captions = []
    for _ in range(count):
        shapes, colours = chance.sample(SHAPES, 2), chance.sample(tuple(COLOURS), 2)
        groups = [Group(shape, colour) for shape, colour in zip(shapes, colours, strict=True)]
        if detailed:
            groups[0] = replace(groups[0], texture=chance.choice(TEXTURES))
        captions.append(caption_of(ScenePlan(tuple(groups), "and")))
    return captions


def plain_and_detailed(count: int, seed: int) -> list[dict[str, Any]]:
    """So many plain captions as rows of prompts, then twice as many detailed ones; the seeds of both begin anew."""
    captions = (
        two_object_captions(count, seed, detailed=False),
        two_object_captions(2 * count, seed, detailed=True),
    )
    return [{"prompt": one, "seed": seed + index} for some in captions for index, one in enumerate(some)]


@task(
    "colour_leakage",
    question="Where a colour word's map lies on the wrong object, does the object get the wrong colour?",
    options=WordMapOptions,
    cost=Cost("an explanation by the method for each image (daam: one generation)", costs_of_maps),
    needs=("words",),
    claim=CLAIM,
    prompts=Captions(plain_and_detailed, usual=60, seeded=True),
)
class ColourLeakage:
    """The share of each colour word's map that lies on the other of two objects, by whether its colour is wrong.

    A number of prompts is that of plain ones, and twice as many are detailed: their first object has a texture. The two
    kinds of colours are compared among detailed prompts alone: among all of them, whatever differs between plain and
    detailed prompts would look like a cause. Images that show more than the two objects, or less, are left out.
    """

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: WordMapOptions) -> Iterator[Item | Row]:
        """An item for each image of each row whose prompt is a caption of two objects."""
        check_method(find(options.method), facts)
        check_scene_size("colour_leakage", facts)
        return caption_items(rows, _fault)

    def measure(
        self, model: Model, items: Sequence[Item], options: WordMapOptions, progress: Progress
    ) -> Sequence[Record]:
        """Explain a batch and measure where the maps of the colour words lie."""
        return [leak_record(one) for one in measured_maps(model, items, options.method, progress)]

    def conclude(self, records: Records, options: WordMapOptions, about: Mapping[str, Any]) -> Finding:
        """Leakage where the colour is right and wrong, with intervals over images."""
        warn_of_one(len(records))
        sampling, clear = Sampling(), 0
        words: list[dict[str, Any]] = []
        for index, (item, record) in enumerate(records):
            sampling.add(item.request)
            clear += bool(record.rows)
            owner = (item.request.prompt, item.request.seed)
            words += [{**row, "owner": owner, "image": index} for row in record.rows if row["leak"] is not None]
        cells = {
            f"{prompts}, {'wrong' if wrong else 'right'} colour": chosen
            for prompts in (PLAIN, DETAILED)
            for wrong in (False, True)
            if (chosen := [one for one in words if one["prompts"] == prompts and one["wrong colour"] == wrong])
        }
        bars = {name: bootstrap([one["leak"] for one in some], groups=_owners(some)) for name, some in cells.items()}
        rows = [
            {"prompts": name, "words": one.n, "share of the map on the other object": one} for name, one in bars.items()
        ]
        detailed = [one for one in words if one["prompts"] == DETAILED]
        wrong = [one["wrong colour"] for one in detailed]
        apart = separation([one["leak"] for one in detailed], wrong, groups=_owners(detailed))
        plain = [one["wrong colour"] for one in words if one["prompts"] == PLAIN]
        sentence = (
            f"In {clear} of {len(records)} images the two objects are seen and nothing else. There {sum(plain)} of "
            f"{len(plain)} objects of plain prompts have the wrong colour, {sum(wrong)} of {len(wrong)} of detailed "
            "ones. "
        )
        sentence += (
            f"Among the latter the colour word's map lies {apart.difference} more on the other object where the colour "
            f"is wrong, and this share separates wrong from right with an AUC of {apart.auc}."
            if len(set(wrong)) == 2
            else "So nothing can be said of leakage as a cause."
        )
        figure = panels_sheet({"share of the colour word's map on the other object": bars})
        worst = sorted(words, key=lambda one: (not one["wrong colour"], -one["leak"]))[:EXAMPLES]
        of_worst = {one["image"] for one in worst}
        kept = {index: both for index, both in enumerate(records) if index in of_worst}
        if worst:
            figure = stacked(figure, examples_sheet([_shown(*kept[one["image"]], one) for one in worst]))
        told = {**about, "method": options.method, "clear_images": clear} | sampling.about
        verdict = verdict_of(lies(apart.difference, above=0))
        return Finding("colour_leakage", CLAIM.text, verdict, sentence, rows, figure, told)


def leak_record(one: Mapped) -> Record:
    """A row for each colour word, where both shapes are in the image: objects are known by shape, so colour is free.

    Where anything else is seen there is none: pieces of an object that was drawn badly have shapes and colours too, and
    one of them would be taken for an object of the wrong colour. The image (y, x, 3) and the maps of the two colour
    words (word, y, x) are kept for the figure.
    """
    groups = parsed(one.request.prompt).groups
    texts = [word.text.lower() for word in one.words]
    colours = [texts.index(group.colour) for group in groups]
    arrays: dict[str, NDArray[Any]] = {"image": one.image, "maps": one.maps[colours]}
    reading = read(one.image)
    if len(reading.things) != len(groups):
        return Record(arrays=arrays)
    things = [of_shape(reading, group.shape) for group in groups]
    rows = []
    for index, group in enumerate(groups):
        own, other = things[index], things[1 - index]
        if own is None or other is None:
            continue
        fine = np.clip(one.fine(colours[index]), 0, None)
        right, wrong = float(fine[own.mask].mean()), float(fine[other.mask].mean())
        rows.append(
            {
                "prompts": DETAILED if groups[0].texture else PLAIN,
                "word": group.colour,
                "of": group.shape,
                "leak": round(wrong / (right + wrong), 5) if right + wrong else 0.5,
                "colour drawn": own.colour,
                "wrong colour": own.colour != group.colour,
            }
        )
    return Record(arrays=arrays, rows=rows)


def _fault(plan: ScenePlan) -> str:
    """Why a caption does not name two objects whose colours can be told apart; "" where it does."""
    one_colour = len({group.colour for group in plan.groups}) == 1
    return two_objects(plan) or ("both objects have one colour; expected two" if one_colour else "")


def _owners(words: Sequence[Mapping[str, Any]]) -> list[Hashable]:
    return [one["owner"] for one in words]


def _shown(item: Item, record: Record, word: Mapping[str, Any]) -> list[Panel]:
    """An image and the map of one of its colour words."""
    image = record.arrays["image"]
    place = [group.colour for group in parsed(item.request.prompt).groups].index(word["word"])
    heat = np.asarray(bicubic(record.arrays["maps"][place], image.shape[:2]), np.float64)
    told = f"{word['word']} ({word['of']} drawn {word['colour drawn']}), leak {word['leak']:.2f}"
    return [(item.request.prompt, image, False), (told, heat, True)]
