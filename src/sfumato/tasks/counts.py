"""Counts requested against counts generated, and what the numeral's map says of it (Tang et al. 2022, section 3.3).

The paper shows one case, four laptops instead of two, where the map of "two" has next to nothing.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.metrics import average_precision, bootstrap, lies, separation, verdict_of
from sfumato.models.model import Model
from sfumato.plots.studies import threshold_sheet
from sfumato.progress import Progress
from sfumato.registry import find
from sfumato.results.hard_maps import TAU, coverage
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, Claim, Cost, Item, ModelFacts, Record, Records, task
from sfumato.studio.grammar import NUMERALS, Group, ScenePlan, caption_of, held_out_plan, parsed, say
from sfumato.studio.reader import masks_of_words, read
from sfumato.studio.shapes import COLOURS, SHAPES
from sfumato.tasks.explain import check_method
from sfumato.tasks.shared.scene_images import caption_items, check_scene_size
from sfumato.tasks.shared.word_maps import (
    TAUS,
    Mapped,
    Sampling,
    WordMapOptions,
    costs_of_maps,
    measured_maps,
    warn_of_one,
)

MOST = 5
"""From so many objects on, counts share a column."""
WORDS = ("numeral", "noun")
CLAIM = Claim(
    "The model counts badly, and where the count is wrong the numeral's map covers little.",
    paper="Tang et al. 2022, section 3.3",
)


def count_captions(count: int, seed: int) -> list[str]:
    """Captions of two or three objects, the numerals in turn, shapes and colours in an order that the seed gives."""
    looks = [(shape, colour) for shape in SHAPES for colour in COLOURS]
    random.Random(f"numbers {seed}").shuffle(looks)
    numbers = itertools.cycle(NUMERALS.values())
    pairs = itertools.cycle(look for look in looks for _ in NUMERALS)
    return [
        caption_of(ScenePlan((Group(shape, colour, count=number),)))
        for _, number, (shape, colour) in zip(range(count), numbers, pairs, strict=False)
    ]


@task(
    "counts",
    question="How many objects are drawn of two or three, and is the numeral's map smaller where the count is wrong?",
    options=WordMapOptions,
    cost=Cost("an explanation by the method for each image (daam: one generation)", costs_of_maps),
    needs=("words",),
    claim=CLAIM,
    prompts=Captions(count_captions, usual=120, seeded=True),
)
class Counts:
    """Objects that the reader counts, and what the numeral's map covers where the count is right and wrong.

    The finding is replicated if the numeral covers less where the count is wrong, with a 95% interval that excludes
    zero, at a threshold of 0.4.
    """

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: WordMapOptions) -> Iterator[Item | Row]:
        """An item for each image of each row whose prompt is a caption with a numeral."""
        check_method(find(options.method), facts)
        check_scene_size("counts", facts)
        return caption_items(rows, _fault)

    def measure(
        self, model: Model, items: Sequence[Item], options: WordMapOptions, progress: Progress
    ) -> Sequence[Record]:
        """Explain a batch, count the objects and measure the maps of numeral and noun."""
        return [count_record(one) for one in measured_maps(model, items, options.method, progress)]

    def conclude(self, records: Records, options: WordMapOptions, about: Mapping[str, Any]) -> Finding:
        """How often the count is right, and what the numeral covers there and elsewhere."""
        warn_of_one(len(records))
        images = _Images(records)
        wrong = images.asked != images.drawn
        gaps = {tau: separation(images.covers("numeral", tau), wrong) for tau in TAUS}
        at = gaps[TAU]
        sentence = f"{100 * (1 - wrong.mean()):.0f}% of {len(wrong)} images show the number asked for. " + (
            "All counts are alike right or wrong, so there is nothing to compare."
            if wrong.all() or not wrong.any()
            else f"The numeral covers {at.difference} more of the image where the count is wrong; its coverage "
            f"separates wrong from right with an AUC of {at.auc}."
        )
        cells = {
            f"{word}, count {kind}": (word, chosen)
            for word in WORDS
            for kind, chosen in {"right": ~wrong, "wrong": wrong}.items()
            if chosen.any()
        }
        bars = {name: bootstrap(images.covers(word, TAU)[chosen]) for name, (word, chosen) in cells.items()}
        curves = {
            name: np.array([images.covers(word, tau)[chosen].mean() for tau in TAUS])
            for name, (word, chosen) in cells.items()
        }
        figure = threshold_sheet(
            bars, TAUS, curves, f"share of the image covered, tau {TAU:g}", "threshold tau", mark=TAU
        )
        rows = [_row(images, number, wrong) for number in NUMERALS.values()]
        told = {**about, "method": options.method} | images.sampling.about | {"wrong": int(wrong.sum())}
        told["AUC by tau"] = {f"{tau:g}": gap.auc for tau, gap in gaps.items()}
        return Finding("counts", CLAIM.text, verdict_of(lies(at.difference, below=0)), sentence, rows, figure, told)


def count_record(one: Mapped) -> Record:
    """What was asked for, what the reader counts, and what the maps of numeral and noun cover and find."""
    prompt = one.request.prompt
    plan = parsed(prompt)
    reading = read(one.image)
    _, masks, present = masks_of_words(prompt, reading)
    numeral = 0
    noun = max(index for index, part in enumerate(say(plan)) if part.role == "things")
    row: dict[str, Any] = {
        "held out": held_out_plan(plan),
        "asked": plan.groups[0].count,
        "drawn": len(reading.things),
        "AP of the numeral": round(average_precision(one.fine(numeral), masks[numeral]), 5)
        if present[numeral]
        else None,
    }
    for name, index in zip(WORDS, (numeral, noun), strict=True):
        fine = one.fine(index)
        row |= {f"{name} covers at {tau}": round(coverage(fine, tau), 5) for tau in TAUS}
    return Record(rows=[row])


class _Images:
    """The images of all records as arrays.

    Args:
        records: Of the run.

    Attributes:
        asked: Objects that each prompt asks for.
        drawn: Objects that the reader counts.
        sampling: How the images were generated.
    """

    def __init__(self, records: Records) -> None:
        self.sampling = Sampling()
        counts: list[tuple[int, int]] = []
        covers: list[list[list[float]]] = []
        for item, record in records:
            self.sampling.add(item.request)
            (row,) = record.rows
            counts.append((row["asked"], row["drawn"]))
            covers.append([[row[f"{word} covers at {tau}"] for tau in TAUS] for word in WORDS])
        self.asked, self.drawn = np.array(counts).reshape(-1, 2).T
        self._covers = np.array(covers, np.float64)  # (image, word, tau)

    def covers(self, word: str, tau: float) -> NDArray[np.float64]:
        """What the maps of a word cover at a threshold: (image,)."""
        return np.asarray(self._covers[:, WORDS.index(word), TAUS.index(tau)])


def _fault(plan: ScenePlan) -> str:
    return "" if plan.kind == "count" else "it asks for no number of objects; expected a numeral, as: two red circles"


def _row(images: _Images, number: int, wrong: NDArray[np.bool_]) -> dict[str, Any]:
    """How often each number is drawn where this one was asked for, and what its numeral covers."""
    chosen = images.asked == number
    drawn = np.minimum(images.drawn, MOST)[chosen]
    counts = {f"drawn {n}" if n < MOST else f"drawn {MOST} or more": int((drawn == n).sum()) for n in range(MOST + 1)}
    covers = images.covers("numeral", TAU)
    return (
        {"asked": number}
        | counts
        | {
            "right": bootstrap((~wrong)[chosen].astype(float)),
            "numeral covers where right": bootstrap(covers[chosen & ~wrong]),
            "numeral covers where wrong": bootstrap(covers[chosen & wrong]),
        }
    )
