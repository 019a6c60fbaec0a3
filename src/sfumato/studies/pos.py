"""How much of the image does each part of speech cover, as in figure 5 of Tang et al. 2022?

The source: numerals and determiners cover 16 to 19% of the image, coordinating conjunctions and punctuation 37 to 44%,
all others 28 to 32%, over 500 captions at a threshold of 0.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sfumato.mapped import METHOD, Mapped
from sfumato.metrics import Decision, Interval, bootstrap, every, lies, verdict_of
from sfumato.models.model import Model
from sfumato.plots.studies import sweep_sheet
from sfumato.progress import Progress, silent
from sfumato.results.summary import TAU, coverage
from sfumato.runs.finding import Finding
from sfumato.studies.asking import TAUS, about, asked
from sfumato.studies.parsing import parser_of

LOW, HIGH = ("num", "det"), ("cconj", "punct")
"""The source's two pairs of outliers."""
PRINTED = {tag: "16 to 19%" for tag in LOW} | {tag: "37 to 44%" for tag in HIGH}
NAMES = {
    "noun": "nouns",
    "adj": "adjectives",
    "num": "numerals",
    "det": "determiners",
    "adp": "adpositions",
    "verb": "verbs",
    "cconj": "conjunctions",
    "punct": "punctuation",
    "adv": "adverbs",
    "pron": "pronouns",
    "x": "unknown words",
}
ONE = {"num": "a numeral", "det": "a determiner", "cconj": "a conjunction", "punct": "a punctuation mark"}
SOURCE = "Numerals and determiners cover the least of the image, conjunctions and punctuation the most."


def study_pos(
    model: Model,
    prompts: Sequence[str],
    *,
    seed: int = 0,
    steps: int | None = None,
    method: str = METHOD,
    tagger: str = "auto",
    progress: Progress = silent,
) -> Finding:
    """Measure the coverage of every word's map at nine thresholds and compare parts of speech within each prompt.

    A part of speech is an outlier where its words cover less (or more) than the prompt's other words outside the two
    pairs, with a 95% interval over prompts that excludes zero. The finding is replicated if all four are outliers on
    their side at a threshold of 0.4, and not replicated if one of them lies on the other side.

    Args:
        model: Any that reads words.
        prompts: What to generate; prompt i starts from ``seed + i``.
        seed: Of the first prompt.
        steps: Denoising steps; the model's own.
        method: One that makes the node ``words``.
        tagger: See `sfumato.studies.parsing.parser_of`.
        progress: Told about every prompt.
    """
    parser = parser_of(tagger, prompts)
    seeds = range(seed, seed + len(prompts))
    found = asked(model, prompts, seeds=seeds, method=method, steps=steps, progress=progress)
    items = [item for one in found for item in _items(one, parser(one.request.prompt, one.words).tags)]
    present = [tag for tag in NAMES if any(item["pos"] == tag for item in items)]
    gaps = {tau: {tag: _gap(items, tag, tau) for tag in (*LOW, *HIGH) if tag in present} for tau in TAUS}
    rows = [_row(items, tag, gaps[TAU].get(tag)) for tag in present]
    low = {tau: [_side(gaps[tau].get(tag), below=True) for tag in LOW] for tau in TAUS}
    high = {tau: [_side(gaps[tau].get(tag), below=False) for tag in HIGH] for tau in TAUS}
    measured = ", ".join(f"{ONE[tag]} covers {gap} more of the image" for tag, gap in gaps[TAU].items())
    sentence = (
        (f"Against the other words of the same prompt {measured}" if measured else "No prompt has any of the four")
        + f". Numerals and determiners are both low at {_at(low)}, "
        + f"conjunctions and punctuation both high at {_at(high)}."
    )
    curves = {NAMES[tag]: np.array([_values(items, tag, tau).mean() for tau in TAUS]) for tag in present}
    bars = {NAMES[tag]: _interval(items, tag, TAU) for tag in present}
    told = about(
        model,
        found,
        method=method,
        tags=parser.name,
        words=len(items),
        unknown_words=sum(item["pos"] == "x" for item in items),
        words_cut_off=sum(len(one.words) - len(one.seen) for one in found),
    )
    figure = sweep_sheet(bars, TAUS, curves, f"share of the image covered, tau {TAU:g}", "threshold tau", mark=TAU)
    return Finding("pos", SOURCE, verdict_of(*low[TAU], *high[TAU]), sentence, rows, figure, told, items)


def _items(one: Mapped, tags: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each word that the model saw."""
    rows = []
    for place in one.seen:
        fine = one.fine(place)
        row: dict[str, Any] = {"prompt": one.request.prompt, "seed": one.request.seed, "place": place}
        row |= {"word": one.words[place].text, "pos": tags[place]}
        rows.append(row | {f"coverage at {tau}": round(coverage(fine, tau), 5) for tau in TAUS})
    return rows


def _values(items: Sequence[dict[str, Any]], tag: str, tau: float) -> Any:
    return np.array([item[f"coverage at {tau}"] for item in items if item["pos"] == tag])


def _interval(items: Sequence[dict[str, Any]], tag: str, tau: float) -> Interval:
    owners = [(item["prompt"], item["seed"]) for item in items if item["pos"] == tag]
    return bootstrap(_values(items, tag, tau), groups=owners)


def _gap(items: Sequence[dict[str, Any]], tag: str, tau: float) -> Interval:
    """By how much words of a tag cover more than the words outside both pairs: means over prompts that have both."""
    own: dict[tuple[str, int], list[float]] = {}
    others: dict[tuple[str, int], list[float]] = {}
    for item in items:
        table = own if item["pos"] == tag else others if item["pos"] not in (*LOW, *HIGH) else None
        if table is not None:
            table.setdefault((item["prompt"], item["seed"]), []).append(item[f"coverage at {tau}"])
    return bootstrap([np.mean(own[key]) - np.mean(others[key]) for key in own if key in others])


def _side(gap: Interval | None, *, below: bool) -> Decision:
    """Whether a part of speech is an outlier on one side; open where no prompt has it."""
    if gap is None:
        return None
    return lies(gap, below=0) if below else lies(gap, above=0)


def _at(held: dict[float, list[Decision]]) -> str:
    taus = [f"{tau:g}" for tau, sides in held.items() if every(sides)]
    return f"{len(taus)} of {len(held)} thresholds" + (f" ({', '.join(taus)})" if taus else "")


def _row(items: Sequence[dict[str, Any]], tag: str, gap: Interval | None) -> dict[str, Any]:
    return {
        "part of speech": NAMES[tag],
        "coverage": _interval(items, tag, TAU),
        "more than other words": gap,
        "in the source": PRINTED.get(tag, "" if tag == "x" else "28 to 32%"),
    }
