"""Word maps against a supervised segmenter, on prompts as trained and on scrambled ones (Tang et al. 2022, table 1).

The paper compares maps of nouns with models trained on the 80 classes of COCO. Those win on their own classes by 6 to
26 points of mIoU, lose by 21 to 27 where any noun counts, and get worse on prompts whose nouns were exchanged at
random, where the maps get better. Here the supervised model knows the eight nouns of the scenes, and no other word.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import RequestError
from sfumato.metrics import Interval, Outcome, average_precision, bootstrap, iou, lies, separation, verdict_of
from sfumato.metrics.controls import control_map
from sfumato.models.model import Model
from sfumato.plots.studies import examples_sheet, panels_sheet, stacked
from sfumato.progress import Progress
from sfumato.registry import find
from sfumato.results.hard_maps import TAU
from sfumato.results.upscale import bicubic
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, Claim, Cost, Item, ModelFacts, Record, Records, task
from sfumato.studio.grammar import OUTER_SHAPES, caption_of, parsed
from sfumato.studio.segmenter import CLASSES, shape_probabilities
from sfumato.studio.shapes import SHAPES, SIZES, TEXTURES
from sfumato.studio.word_masks import MaskedWord, masked_words
from sfumato.tasks.explain import check_method
from sfumato.tasks.shared.captions import drawn_captions, relation_captions
from sfumato.tasks.shared.scene_images import EXAMPLES, Panel, caption_items, check_scene_size
from sfumato.tasks.shared.word_maps import Mapped, Sampling, WordMapOptions, costs_of_maps, measured_maps, with_nan

SETS = ("as trained", "held out", "scrambled")
SET = "set"
"""The column of the set that a prompt is of."""
TAUS = (0.3, 0.4, 0.5)
SEGMENTER, HALF = "segmenter", "random half"
KINDS = {True: "nouns", False: "all words"}
"""Which words are scored, by whether the vocabulary is closed."""
CLAIM = Claim(
    "The supervised model is better on the nouns that it knows, the maps where any word counts; on scrambled prompts "
    "the supervised model gets worse and the maps get better.",
    paper="Tang et al. 2022, table 1",
)


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


def captions_of_sets(count: int, seed: int) -> list[dict[str, Any]]:
    """So many captions of each set as rows of prompts; prompt i of each set has ``seed + i``.

    Raises:
        OptionError: There are not so many of a set.
    """
    held_out = relation_captions(count)  # refuses more than there are
    captions = (trained_captions(count, seed), held_out, scrambled_captions(count, seed))
    return [
        {"prompt": one, SET: name, "seed": seed + index}
        for name, some in zip(SETS, captions, strict=True)
        for index, one in enumerate(some)
    ]


@task(
    "scrambled",
    question="How do word maps compare with a supervised segmenter, on trained, held-out and scrambled prompts?",
    options=WordMapOptions,
    cost=Cost("an explanation by the method for each image (daam: one generation)", costs_of_maps),
    needs=("words",),
    claim=CLAIM,
    prompts=Captions(captions_of_sets, usual=60, seeded=True),
)
class Scrambled:
    """Scores of word maps and of the segmenter on three sets of prompts of two objects and a relation.

    A number of prompts is that of each set. "As trained" are captions that training draws; "held out" are combinations
    of nouns, colours and relation that never occurred in training; "scrambled" have what training never puts into such
    a caption: sizes and textures, two objects of one colour, or an object inside one that has no room. Rows name their
    set in the column ``set``. Truth is what the reader finds in each image. The finding is replicated if all four
    comparisons of the claim are, at a threshold of 0.4, with 95% intervals over prompts.
    """

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: WordMapOptions) -> Iterator[Item | Row]:
        """An item for each image of each row whose prompt is a caption and names its set."""
        check_method(find(options.method), facts)
        check_scene_size("scrambled", facts)
        shown = 0
        for item in caption_items(rows, lambda plan: "", _set_of):
            if isinstance(item, Item) and item.about[SET] == SETS[2] and shown < EXAMPLES:
                shown += 1
                item = replace(item, about={**item.about, "shown": True})
            yield item

    def measure(
        self, model: Model, items: Sequence[Item], options: WordMapOptions, progress: Progress
    ) -> Sequence[Record]:
        """Explain a batch and score the words whose object is in the image, by their maps and by the segmenter."""
        found = measured_maps(model, items, options.method, progress)
        shapes = shape_probabilities([one.image for one in found])
        return [
            words_record(one, own, options.method, shown=item.about.get("shown", False))
            for item, one, own in zip(items, found, shapes, strict=True)
        ]

    def conclude(self, records: Records, options: WordMapOptions, about: Mapping[str, Any]) -> Finding:
        """Means by set, map and kind of word, with intervals over prompts.

        The intervals rest on every word, so the scores of all of them stay in memory.
        """
        sampling = Sampling()
        words: list[dict[str, Any]] = []
        examples: list[list[Panel]] = []
        for item, record in records:
            sampling.add(item.request)
            owner = {"prompt": item.request.prompt, "seed": item.request.seed, SET: item.about[SET]}
            words += [with_nan(row) | owner for row in record.rows]
            if item.about.get("shown"):
                examples.append(_shown(item, record))
        told = {**about, "method": options.method, "words": len(words)} | sampling.about
        if not words:
            nothing = (
                "The images show none of the prompts' objects, so nothing can be scored; take more steps, or train the "
                "model longer."
            )
            return Finding("scrambled", CLAIM.text, "inconclusive", nothing, [], None, told)
        maps = [*(f"{options.method} {tau}" for tau in TAUS), SEGMENTER, HALF]
        rows = [_row(words, name, which) for name in SETS for which in maps]
        sentence, verdict = _compared(words, f"{options.method} {TAU}")
        bars = [
            panels_sheet(
                {
                    f"mIoU, {kind}, {name}": {which: _mean(words, name, which, closed=closed) for which in maps}
                    for name in SETS
                },
                alike=True,
            )
            for closed, kind in KINDS.items()
        ]
        figure = stacked(*bars, examples_sheet(examples)) if examples else stacked(*bars)
        return Finding("scrambled", CLAIM.text, verdict, sentence, rows, figure, told)


def words_record(one: Mapped, shapes: NDArray[np.float32], method: str, *, shown: bool) -> Record:
    """A row for each word that can be judged.

    Args:
        one: The image and its maps.
        shapes: What the segmenter sees in the image: (class, y, x).
        method: By which the maps were made.
        shown: Whether to keep what the figure shows: the image (y, x, 3), the nouns' maps and where the segmenter sees
            the nouns, both (noun, y, x).
    """
    masked = masked_words(one.request.prompt, one.image, one.maps)
    rows = [_scored(word, shapes, method, one.request.seed) for word in masked]
    if not shown:
        return Record(rows=rows)
    nouns = [word for word in one.words if word.text.lower() in SHAPES]
    seen = [_segmented(shapes, word.text.lower()) for word in nouns]
    arrays: dict[str, NDArray[Any]] = {
        "image": one.image,
        "maps": one.maps[[word.index for word in nouns]],
        "segmented": np.array([known for known in seen if known is not None], np.float32),
    }
    return Record({"nouns": [word.text for word in nouns]}, arrays, rows)


def _set_of(row: Row) -> Mapping[str, Any]:
    """The set of a row's prompt.

    Raises:
        RequestError: It names none.
    """
    if row.kept.get(SET) not in SETS:
        raise RequestError(f"its column {SET} does not name a set of prompts; expected one of: {', '.join(SETS)}")
    return {SET: row.kept[SET]}


def _scored(word: MaskedWord, shapes: NDArray[np.float32], method: str, seed: int) -> dict[str, Any]:
    """A row for one word: IoU and average precision of its map, of the segmenter's and of a baseline."""
    height, width = word.truth.shape
    fine = bicubic(word.heat, (height, width))
    known = _segmented(shapes, word.word)
    baseline = control_map("random", (height, width), seed, len(word.word))
    row: dict[str, Any] = {"word": word.word, "closed vocabulary": known is not None}
    scores = {f"{method} {tau}": iou(fine, word.truth, tau) for tau in TAUS}
    scores |= {SEGMENTER: 0.0 if known is None else iou(known, word.truth, TAU), HALF: iou(baseline, word.truth, 0.5)}
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


def _chosen(words: Sequence[dict[str, Any]], name: str, *, closed: bool) -> list[dict[str, Any]]:
    return [word for word in words if word[SET] == name and (word["closed vocabulary"] or not closed)]


def _mean(words: Sequence[dict[str, Any]], name: str, column: str, *, closed: bool) -> Interval:
    chosen = _chosen(words, name, closed=closed)
    return bootstrap([word[column] for word in chosen], groups=[(word["prompt"], word["seed"]) for word in chosen])


def _row(words: Sequence[dict[str, Any]], name: str, which: str) -> dict[str, Any]:
    row: dict[str, Any] = {"prompts": name, "map": which}
    for closed, kind in KINDS.items():
        row[f"mIoU, {kind}"] = _mean(words, name, which, closed=closed)
        column = f"AP of {which.split(' ', maxsplit=1)[0]}"
        row[f"AP, {kind}"] = _mean(words, name, column, closed=closed) if column in words[0] else None
    return row


def _compared(words: Sequence[dict[str, Any]], maps: str) -> tuple[str, Outcome]:
    """The four comparisons of Tang et al. 2022, as a sentence, and the verdict on them together."""
    gaps = {}
    for closed in (True, False):
        chosen = [word for word in words if word["closed vocabulary"] or not closed]
        owners = [(word[SET], word["prompt"], word["seed"]) for word in chosen]
        gaps[closed] = bootstrap([word[SEGMENTER] - word[maps] for word in chosen], groups=owners)
    moved = {}
    for which in (SEGMENTER, maps):
        chosen = [word for word in words if word["closed vocabulary"] and word[SET] != "held out"]
        scrambled = [word[SET] == "scrambled" for word in chosen]
        owners = [(word[SET], word["prompt"], word["seed"]) for word in chosen]
        moved[which] = separation([word[which] for word in chosen], scrambled, groups=owners).difference
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


def _shown(item: Item, record: Record) -> list[Panel]:
    """A scrambled image, the maps of its nouns, and what the segmenter sees of them."""
    image, arrays = record.arrays["image"], record.arrays
    panels: list[Panel] = [(item.request.prompt, image, False)]
    for noun, heat, known in zip(record.values["nouns"], arrays["maps"], arrays["segmented"], strict=True):
        fine = np.asarray(bicubic(heat, image.shape[:2]), np.float64)
        panels += [(f"map of {noun}", fine, True), (f"segmenter: {noun}", known, True)]
    return panels
