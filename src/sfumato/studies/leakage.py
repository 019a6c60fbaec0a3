"""How much of a colour word's map lies on the wrong object, against whether its object has the wrong colour."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.mapped import Mapped
from sfumato.metrics import bootstrap, lies, separation, verdict_of
from sfumato.models.model import Model
from sfumato.plots.studies import examples_sheet, panels_sheet, stacked
from sfumato.runs.finding import Finding
from sfumato.studies.asking import about
from sfumato.studies.things import EXAMPLES, of_shape
from sfumato.studio.grammar import Group, Plan, caption_of, parsed
from sfumato.studio.reader import read
from sfumato.studio.shapes import COLOURS, SHAPES, TEXTURES

SOURCE = "Where a colour word's map lies on the wrong object, the object gets the wrong colour."


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
        captions.append(caption_of(Plan(tuple(groups), "and")))
    return captions


def leakage(model: Model, found: Sequence[Mapped], method: str) -> Finding:
    """How much of a colour word's map lies on the wrong object, against whether its object has the wrong colour.

    The two are compared among detailed prompts alone: among all of them, whatever differs between plain and detailed
    prompts would look like a cause. Images that show more than the two objects, or less, are left out.
    """
    leaks = [_leaks(one) for one in found]
    items = [item for one in leaks for item in one]
    clear = sum(bool(one) for one in leaks)
    cells = {
        f"{prompts}, {'wrong' if wrong else 'right'} colour": chosen
        for prompts in ("plain", "detailed")
        for wrong in (False, True)
        if (chosen := [one for one in items if one["prompts"] == prompts and one["wrong colour"] == wrong])
    }
    bars = {name: bootstrap([one["leak"] for one in rows], groups=_owners(rows)) for name, rows in cells.items()}
    rows = [
        {"prompts": name, "words": one.n, "share of the map on the other object": one} for name, one in bars.items()
    ]
    detailed = [one for one in items if one["prompts"] == "detailed"]
    wrong = [one["wrong colour"] for one in detailed]
    apart = separation([one["leak"] for one in detailed], wrong, groups=_owners(detailed))
    plain = [one["wrong colour"] for one in items if one["prompts"] == "plain"]
    sentence = (
        f"In {clear} of {len(found)} images the two objects are seen and nothing else. There {sum(plain)} of "
        f"{len(plain)} objects of plain prompts have the wrong colour, {sum(wrong)} of {len(wrong)} of detailed ones. "
    )
    sentence += (
        f"Among the latter the colour word's map lies {apart.difference} more on the other object where the colour is "
        f"wrong, and this share tells wrong from right with an AUC of {apart.auc}."
        if len(set(wrong)) == 2
        else "So nothing can be said of leakage as a cause."
    )
    by_key = {(one.request.prompt, one.request.seed): one for one in found}
    worst = sorted(items, key=lambda one: (not one["wrong colour"], -one["leak"]))[:EXAMPLES]
    figure = panels_sheet({"share of the colour word's map on the other object": bars})
    pictures = [_shown(by_key[one["prompt"], one["seed"]], one) for one in worst]
    figure = stacked(figure, examples_sheet(pictures)) if pictures else figure
    told = about(model, found, method=method, clear_images=clear)
    return Finding("leakage", SOURCE, verdict_of(lies(apart.difference, above=0)), sentence, rows, figure, told, items)


def _owners(items: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(one["prompt"], one["seed"]) for one in items]


def _leaks(one: Mapped) -> list[dict[str, Any]]:
    """A row for each colour word, where both shapes are in the image: objects are known by shape, so colour is free.

    Where anything else is seen there is none: pieces of an object that was drawn badly have shapes and colours too, and
    one of them would be taken for an object of the wrong colour.
    """
    groups = parsed(one.request.prompt).groups
    reading = read(one.image)
    if len(reading.things) != len(groups):
        return []
    things = [of_shape(reading, group.shape) for group in groups]
    texts = [word.text for word in one.words]
    rows = []
    for place, group in enumerate(groups):
        own, other = things[place], things[1 - place]
        if own is None or other is None:
            continue
        fine = np.clip(one.fine(texts.index(group.colour)), 0, None)
        right, wrong = float(fine[own.mask].mean()), float(fine[other.mask].mean())
        rows.append(
            {
                "prompts": "detailed" if groups[0].texture else "plain",
                "prompt": one.request.prompt,
                "seed": one.request.seed,
                "word": group.colour,
                "of": group.shape,
                "leak": round(wrong / (right + wrong), 5) if right + wrong else 0.5,
                "colour drawn": own.colour,
                "wrong colour": own.colour != group.colour,
            }
        )
    return rows


def _shown(one: Mapped, item: dict[str, Any]) -> list[tuple[str, NDArray[Any], bool]]:
    texts = [word.text for word in one.words]
    heat = one.fine(texts.index(item["word"]))
    told = f"{item['word']} ({item['of']} drawn {item['colour drawn']}), leak {item['leak']:.2f}"
    return [(one.request.prompt, one.image, False), (told, heat, True)]
