"""Word maps against a supervised segmenter, on prompts as trained and on scrambled ones (Tang et al. 2022, table 1).

The source compares maps of nouns with models trained on the 80 classes of COCO. Those win on their own classes by 6 to
26 points of mIoU, lose by 21 to 27 where any noun counts, and get worse on prompts whose nouns were exchanged at
random, where the maps get better. Here the supervised model knows the eight nouns of the scenes, and no other word.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.bounds import checked_int
from sfumato.errors import ModelError, OptionError
from sfumato.mapped import METHOD, Mapped
from sfumato.metrics import Interval, Outcome, average_precision, bootstrap, iou, lies, separation, verdict_of
from sfumato.metrics.controls import control_map
from sfumato.models.model import Model
from sfumato.option_values import COUNT
from sfumato.plots.studies import examples_sheet, panels_sheet, stacked
from sfumato.progress import Progress, silent
from sfumato.results.summary import TAU
from sfumato.results.upscale import bicubic
from sfumato.runs.finding import Finding
from sfumato.studies.asking import about, asked, readable_by_reader
from sfumato.studies.prompts import drawn_captions, relation_captions
from sfumato.studies.things import EXAMPLES
from sfumato.studio.grammar import OUTER_SHAPES, caption_of, parsed
from sfumato.studio.segmenter import CLASSES, shape_probabilities
from sfumato.studio.shapes import SHAPES, SIZES, TEXTURES
from sfumato.studio.word_masks import MaskedWord, masked_words

SETS = ("as trained", "held out", "scrambled")
TAUS = (0.3, 0.4, 0.5)
SEGMENTER, HALF = "segmenter", "random half"
SOURCE = (
    "The supervised model is better on the nouns that it knows, the maps where any word counts; on scrambled prompts "
    "the supervised model gets worse and the maps get better."
)


def study_scrambled(
    model: Model,
    prompts: int = 60,
    *,
    seed: int = 0,
    steps: int | None = None,
    method: str = METHOD,
    progress: Progress = silent,
) -> Finding:
    """Score word maps and the segmenter on three sets of prompts of two objects and a relation.

    "As trained" are captions that training draws; "held out" are combinations of nouns, colours and relation that never
    occurred in training; "scrambled" have what training never puts into such a caption: sizes and textures, two objects
    of one colour, or an object inside one that has no room. Truth is what the reader finds in each image.

    The finding is replicated if all four comparisons of `SOURCE` are, at a threshold of 0.4, with 95% intervals over
    prompts.

    Args:
        model: One that draws studio scenes.
        prompts: How many of each set.
        seed: Prompt i of each set starts from ``seed + i``.
        steps: Denoising steps; the model's own.
        method: One that makes the node ``words``.
        progress: Told about every prompt.

    Raises:
        ModelError: The images have another size than the scenes, or show none of the prompts' objects.
    """
    checked_int("prompts", prompts, **COUNT, error=OptionError)
    held_out = relation_captions(prompts)  # refuses more than there are
    captions = [*trained_captions(prompts, seed), *held_out, *scrambled_captions(prompts, seed)]
    seeds = [*range(seed, seed + prompts)] * len(SETS)
    readable_by_reader(model, "scrambled")
    found = asked(model, captions, seeds=seeds, method=method, steps=steps, progress=progress)
    shapes = shape_probabilities([one.image for one in found])
    names = [name for name in SETS for _ in range(prompts)]
    items = [
        row
        for name, one, own in zip(names, found, shapes, strict=True)
        for word in masked_words(one.request.prompt, one.image, one.maps)
        for row in [_scored(name, one, word, own, method)]
    ]
    if not items:
        raise ModelError(
            "the images show none of the prompts' objects, so nothing can be scored; take more steps, or train the "
            "model longer"
        )
    maps = [*(f"{method} {tau}" for tau in TAUS), SEGMENTER, HALF]
    rows = [_row(items, name, which) for name in SETS for which in maps]
    sentence, verdict = _compared(items, f"{method} {TAU}")
    panels = {
        f"mIoU, {kind}, {name}": {which: _mean(items, name, which, closed=closed) for which in maps}
        for closed, kind in ((True, "nouns"), (False, "all words"))
        for name in SETS
    }
    titles = list(panels)
    rows_of_panels = (titles[: len(SETS)], titles[len(SETS) :])
    bars = [panels_sheet({title: panels[title] for title in some}, alike=True) for some in rows_of_panels]
    scrambled = list(zip(found, shapes, strict=True))[2 * prompts :][:EXAMPLES]
    figure = stacked(*bars, examples_sheet([_shown(one, own) for one, own in scrambled]))
    told = about(model, found, method=method, words=len(items))
    return Finding("scrambled", SOURCE, verdict, sentence, rows, figure, told, items)


def trained_captions(count: int, seed: int) -> list[str]:
    """Captions of two objects and a relation as training draws them, not held out, each once."""
    return list(drawn_captions(count, seed, "relation"))


def scrambled_captions(count: int, seed: int) -> list[str]:
    """Trained captions changed to what training never says of two objects, the three kinds of change in turn."""
    chance = random.Random(f"scrambled {seed}")
    captions = []
    for number, caption in enumerate(trained_captions(count, seed)):
        said = parsed(caption)
        first, second = said.groups
        if number % 3 == 0 or said.relation in ("inside", "touching"):  # where one colour could not be told apart
            groups = tuple(
                replace(group, size=chance.choice(SIZES), texture=chance.choice((None, *TEXTURES)))
                for group in (first, second)
            )
            captions.append(caption_of(replace(said, groups=groups)))
        elif number % 3 == 1:
            shape = (
                second.shape if second.shape != first.shape else chance.choice([s for s in SHAPES if s != first.shape])
            )
            groups = first, replace(second, colour=first.colour, shape=shape)
            captions.append(caption_of(replace(said, groups=groups)))
        else:
            outer = chance.choice([shape for shape in SHAPES if shape not in OUTER_SHAPES])
            captions.append(caption_of(replace(said, groups=(first, replace(second, shape=outer)), relation="inside")))
    return captions


def _scored(name: str, one: Mapped, word: MaskedWord, shapes: NDArray[np.float32], method: str) -> dict[str, Any]:
    """A row for one word: IoU and average precision of its map, of the segmenter's and of a control."""
    height, width = word.truth.shape
    fine = bicubic(word.heat, (height, width))
    known = _segmented(shapes, word.word)
    control = control_map("random", (height, width), one.request.seed, len(word.word))
    row: dict[str, Any] = {"set": name, "prompt": one.request.prompt, "seed": one.request.seed, "word": word.word}
    row |= {"closed vocabulary": known is not None}
    scores = {f"{method} {tau}": iou(fine, word.truth, tau) for tau in TAUS}
    scores |= {SEGMENTER: 0.0 if known is None else iou(known, word.truth, TAU), HALF: iou(control, word.truth, 0.5)}
    chance = float(word.truth.mean())  # of a map that is the same everywhere
    precision = {f"AP of {method}": average_precision(fine, word.truth)}
    precision |= {f"AP of {SEGMENTER}": chance if known is None else average_precision(known, word.truth)}
    return row | {key: round(float(value), 5) for key, value in (scores | precision).items()}


def _segmented(shapes: NDArray[np.float32], word: str) -> NDArray[np.float32] | None:
    """Where the segmenter sees a noun (y, x): its probability where no other class has more; None for other words."""
    if word not in CLASSES:
        return None
    place = CLASSES.index(word)
    return np.where(shapes.argmax(0) == place, shapes[place], 0)


def _chosen(items: Sequence[dict[str, Any]], name: str, *, closed: bool) -> list[dict[str, Any]]:
    return [item for item in items if item["set"] == name and (item["closed vocabulary"] or not closed)]


def _mean(items: Sequence[dict[str, Any]], name: str, column: str, *, closed: bool) -> Interval:
    chosen = _chosen(items, name, closed=closed)
    return bootstrap([item[column] for item in chosen], groups=[(item["prompt"], item["seed"]) for item in chosen])


def _row(items: Sequence[dict[str, Any]], name: str, which: str) -> dict[str, Any]:
    row: dict[str, Any] = {"prompts": name, "map": which}
    for closed, kind in ((True, "nouns"), (False, "all words")):
        row[f"mIoU, {kind}"] = _mean(items, name, which, closed=closed)
        column = f"AP of {which.split(' ', maxsplit=1)[0]}"
        row[f"AP, {kind}"] = _mean(items, name, column, closed=closed) if column in items[0] else None
    return row


def _compared(items: Sequence[dict[str, Any]], maps: str) -> tuple[str, Outcome]:
    """The four comparisons of Tang et al. 2022, as a sentence, and the verdict on them together."""
    gaps = {}
    for closed in (True, False):
        chosen = [item for item in items if item["closed vocabulary"] or not closed]
        owners = [(item["set"], item["prompt"], item["seed"]) for item in chosen]
        gaps[closed] = bootstrap([item[SEGMENTER] - item[maps] for item in chosen], groups=owners)
    moved = {}
    for which in (SEGMENTER, maps):
        chosen = [item for item in items if item["closed vocabulary"] and item["set"] != "held out"]
        scrambled = [item["set"] == "scrambled" for item in chosen]
        owners = [(item["set"], item["prompt"], item["seed"]) for item in chosen]
        moved[which] = separation([item[which] for item in chosen], scrambled, groups=owners).difference
    sentence = (
        f"On nouns the segmenter's mIoU is {gaps[True]} above that of {maps}, on all words {gaps[False]}. From trained "
        f"to scrambled prompts the segmenter's mIoU on nouns moves by {moved[SEGMENTER]}, that of {maps} by "
        f"{moved[maps]}."
    )
    verdict = verdict_of(
        lies(gaps[True], above=0),
        lies(gaps[False], below=0),
        lies(moved[SEGMENTER], below=0),
        lies(moved[maps], above=0),
    )
    return sentence, verdict


def _shown(one: Mapped, shapes: NDArray[np.float32]) -> list[tuple[str, NDArray[Any], bool]]:
    """A scrambled image, the maps of its nouns, and what the segmenter sees of them."""
    nouns = [word for word in one.words if word.text in SHAPES]
    pictures: list[tuple[str, NDArray[Any], bool]] = [(one.request.prompt, one.image, False)]
    for word in nouns:
        known = _segmented(shapes, word.text)
        pictures += [(f"map of {word.text}", one.fine(word.index), True)]
        pictures += [(f"segmenter: {word.text}", known, True)] if known is not None else []
    return pictures
