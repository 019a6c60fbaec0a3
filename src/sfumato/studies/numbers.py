"""Counts asked for against counts generated, and what the numeral's map says of it (Tang et al. 2022, section 3.3).

The source shows one case, four laptops instead of two, where the map of "two" has next to nothing.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from sfumato.bounds import checked_int
from sfumato.errors import OptionError
from sfumato.mapped import METHOD, Mapped
from sfumato.metrics import Interval, Separation, average_precision, bootstrap, lies, separation, verdict_of
from sfumato.models.model import Model
from sfumato.option_values import COUNT
from sfumato.plots.studies import sweep_sheet
from sfumato.progress import Progress, silent
from sfumato.results.summary import TAU, coverage
from sfumato.runs.finding import Finding
from sfumato.studies.asking import TAUS, about, asked, readable_by_reader
from sfumato.studio.grammar import NUMERALS, Group, Plan, caption_of, held_out_plan, parsed
from sfumato.studio.reader import masks_of_words, read
from sfumato.studio.shapes import COLOURS, SHAPES

MOST = 5
"""From so many objects on, counts share a column."""
SOURCE = "The model counts badly, and where the count is wrong the numeral's map covers little."


def study_numbers(
    model: Model,
    prompts: int = 120,
    *,
    seed: int = 0,
    steps: int | None = None,
    method: str = METHOD,
    progress: Progress = silent,
) -> Finding:
    """Ask for two or three objects, count what is drawn, and compare the numeral's map where it is right and wrong.

    The finding is replicated if the numeral covers less where the count is wrong, with a 95% interval that excludes
    zero, at a threshold of 0.4.

    Args:
        model: One that draws studio scenes.
        prompts: How many, each numeral equally often.
        seed: Of the first prompt; prompt i starts from ``seed + i``.
        steps: Denoising steps; the model's own.
        method: One that makes the node ``words``.
        progress: Told about every prompt.
    """
    captions = count_captions(checked_int("prompts", prompts, **COUNT, error=OptionError), seed)
    seeds = range(seed, seed + prompts)
    readable_by_reader(model, "numbers")
    found = asked(model, captions, seeds=seeds, method=method, steps=steps, progress=progress)
    items = [_item(one) for one in found]
    wrong = np.array([item["asked"] != item["drawn"] for item in items])
    gaps = {tau: separation(_values(items, "numeral", tau), wrong) for tau in TAUS}
    at = gaps[TAU]
    said = f"{100 * (1 - wrong.mean()):.0f}% of {len(items)} images show the number asked for. "
    sentence = said + (
        "All counts are alike right or wrong, so there is nothing to compare."
        if wrong.all() or not wrong.any()
        else f"The numeral covers {at.difference} more of the image where the count is wrong; its coverage tells wrong "
        f"from right with an AUC of {at.auc}."
    )
    kinds = {"right": ~wrong, "wrong": wrong}
    bars = {
        f"{word}, count {kind}": bootstrap(_values(items, word, TAU)[chosen])
        for word in ("numeral", "noun")
        for kind, chosen in kinds.items()
        if chosen.any()
    }
    curves = {
        f"{word}, count {kind}": np.array([_values(items, word, tau)[chosen].mean() for tau in TAUS])
        for word in ("numeral", "noun")
        for kind, chosen in kinds.items()
        if chosen.any()
    }
    figure = sweep_sheet(bars, TAUS, curves, f"share of the image covered, tau {TAU:g}", "threshold tau", mark=TAU)
    rows = [_row(items, number, wrong) for number in NUMERALS.values()]
    told = about(model, found, method=method, wrong=int(wrong.sum())) | {"AUC by tau": _sweep(gaps)}
    return Finding("numbers", SOURCE, verdict_of(lies(at.difference, below=0)), sentence, rows, figure, told, items)


def count_captions(count: int, seed: int) -> list[str]:
    """Captions of two or three objects, the numerals in turn, shapes and colours in an order that the seed gives."""
    looks = [(shape, colour) for shape in SHAPES for colour in COLOURS]
    random.Random(f"numbers {seed}").shuffle(looks)
    numbers = itertools.cycle(NUMERALS.values())
    pairs = itertools.cycle(look for look in looks for _ in NUMERALS)
    return [
        caption_of(Plan((Group(shape, colour, count=number),)))
        for _, number, (shape, colour) in zip(range(count), numbers, pairs, strict=False)
    ]


def _item(one: Mapped) -> dict[str, Any]:
    """What was asked, what the reader counts, and what the maps of numeral and noun cover and find."""
    prompt = one.request.prompt
    plan = parsed(prompt)
    reading = read(one.image)
    _, masks, present = masks_of_words(prompt, reading)
    numeral, noun = 0, len(one.words) - 1
    row: dict[str, Any] = {
        "prompt": prompt,
        "seed": one.request.seed,
        "held out": held_out_plan(plan),
        "asked": plan.groups[0].count,
        "drawn": len(reading.things),
        "AP of the numeral": round(average_precision(one.fine(numeral), masks[numeral]), 5) if present[numeral] else "",
    }
    for name, place in (("numeral", numeral), ("noun", noun)):
        fine = one.fine(place)
        row |= {f"{name} covers at {tau}": round(coverage(fine, tau), 5) for tau in TAUS}
    return row


def _values(items: Sequence[dict[str, Any]], word: str, tau: float) -> Any:
    return np.array([item[f"{word} covers at {tau}"] for item in items])


def _sweep(gaps: dict[float, Separation]) -> dict[str, Interval]:
    return {f"{tau:g}": gap.auc for tau, gap in gaps.items()}


def _row(items: Sequence[dict[str, Any]], number: int, wrong: Any) -> dict[str, Any]:
    """How often each number is drawn where this one was asked for, and what its numeral covers."""
    chosen = np.array([item["asked"] == number for item in items])
    drawn = np.array([min(item["drawn"], MOST) for item in items])[chosen]
    counts = {f"drawn {n}" if n < MOST else f"drawn {MOST} or more": int((drawn == n).sum()) for n in range(MOST + 1)}
    covers = _values(items, "numeral", TAU)

    right = bootstrap((~wrong)[chosen].astype(float))
    return (
        {"asked": number}
        | counts
        | {
            "right": right,
            "numeral covers where right": bootstrap(covers[chosen & ~wrong]),
            "numeral covers where wrong": bootstrap(covers[chosen & wrong]),
        }
    )
