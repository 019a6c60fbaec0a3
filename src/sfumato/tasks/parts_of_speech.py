"""How much of the image does each part of speech cover, as in figure 5 of Tang et al. 2022?

In the paper numerals and determiners cover 16 to 19% of the image, coordinating conjunctions and punctuation 37 to 44%,
all others 28 to 32%, over 500 captions at a threshold of 0.4.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.metrics import Decision, Interval, bootstrap, every, lies, verdict_of
from sfumato.models.model import Model
from sfumato.plots.studies import threshold_sheet
from sfumato.progress import Progress
from sfumato.results.hard_maps import TAU, coverage
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, Claim, Cost, Item, ModelFacts, Record, Records, task
from sfumato.studio.scenes import held_out_captions
from sfumato.tasks.shared.parsing import Parser
from sfumato.tasks.shared.word_maps import (
    TAUS,
    Mapped,
    Sampling,
    TaggedOptions,
    costs_of_maps,
    measured_maps,
    parser_named,
    tagged_items,
    warn_of_one,
)

LOW, HIGH = ("num", "det"), ("cconj", "punct")
"""The paper's two pairs of outliers."""
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
CLAIM = Claim(
    "Numerals and determiners cover the least of the image, conjunctions and punctuation the most.",
    paper="Tang et al. 2022, figure 5",
)
COVERAGE = {tau: f"coverage at {tau}" for tau in TAUS}
"""Columns by their threshold."""


@task(
    "parts_of_speech",
    question="How much of the image does each part of speech cover?",
    options=TaggedOptions,
    cost=Cost("an explanation by the method for each image (daam: one generation)", costs_of_maps),
    needs=("words",),
    claim=CLAIM,
    prompts=Captions(held_out_captions, usual=200),
)
class PartsOfSpeech:
    """The coverage of every word's map at nine thresholds; parts of speech are compared within each prompt.

    A part of speech is an outlier where its words cover less (or more) than the prompt's other words outside the two
    pairs, with a 95% interval over prompts that excludes zero. The finding is replicated if all four are outliers on
    their side at a threshold of 0.4, and not replicated if one of them lies on the other side.
    """

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: TaggedOptions) -> Iterator[Item]:
        """An item for each image of each row; all prompts together decide which tagger reads them."""
        return tagged_items(facts, rows, options)

    def measure(
        self, model: Model, items: Sequence[Item], options: TaggedOptions, progress: Progress
    ) -> Sequence[Record]:
        """Explain a batch and measure what every word covers."""
        found = measured_maps(model, items, options.method, progress)
        return [word_record(one, parser_named(item.about["tagger"])) for item, one in zip(items, found, strict=True)]

    def conclude(self, records: Records, options: TaggedOptions, about: Mapping[str, Any]) -> Finding:
        """Means by part of speech with intervals over prompts.

        The intervals rest on every word, so the coverage of all of them stays in memory: 72 bytes for each.
        """
        warn_of_one(len(records))
        words = _Words(records)
        present = [tag for tag in NAMES if (words.tags == tag).any()]
        gaps = {tau: {tag: words.gap(tag, tau) for tag in (*LOW, *HIGH) if tag in present} for tau in TAUS}
        covered = {tag: words.interval(tag, TAU) for tag in present}
        low = {tau: [_side(gaps[tau].get(tag), below=True) for tag in LOW] for tau in TAUS}
        high = {tau: [_side(gaps[tau].get(tag), below=False) for tag in HIGH] for tau in TAUS}
        measured = ", ".join(f"{ONE[tag]} covers {gap} more of the image" for tag, gap in gaps[TAU].items())
        sentence = (
            (f"Against the other words of the same prompt {measured}" if measured else "No prompt has any of the four")
            + f". Numerals and determiners are both low at {_at(low)}, "
            + f"conjunctions and punctuation both high at {_at(high)}."
        )
        rows = [
            {
                "part of speech": NAMES[tag],
                "coverage": covered[tag],
                "more than other words": gaps[TAU].get(tag),
                "in the paper": PRINTED.get(tag, "" if tag == "x" else "28 to 32%"),
            }
            for tag in present
        ]
        curves = {NAMES[tag]: np.array([words.values(tag, tau).mean() for tau in TAUS]) for tag in present}
        bars = {NAMES[tag]: interval for tag, interval in covered.items()}
        figure = threshold_sheet(
            bars, TAUS, curves, f"share of the image covered, tau {TAU:g}", "threshold tau", mark=TAU
        )
        verdict = verdict_of(*low[TAU], *high[TAU])
        told = {**about, "method": options.method} | words.about
        return Finding("parts_of_speech", CLAIM.text, verdict, sentence, rows, figure, told)


def word_record(one: Mapped, parser: Parser) -> Record:
    """A row for each word that the model saw, with its part of speech and what its map covers."""
    tags = parser(one.request.prompt, one.words).tags
    rows = []
    for place in one.seen:
        fine = one.fine(place)
        row: dict[str, Any] = {"place": place, "word": one.words[place].text, "pos": tags[place]}
        rows.append(row | {name: round(coverage(fine, tau), 5) for tau, name in COVERAGE.items()})
    return Record({"words_cut_off": len(one.words) - len(one.seen)}, rows=rows)


class _Words:
    """The words of all records as arrays.

    Args:
        records: Of the run.
    """

    def __init__(self, records: Records) -> None:
        tags: list[str] = []
        coverages: list[list[float]] = []
        self.owners: list[Hashable] = []
        sampling = Sampling()
        cut_off = 0
        item = None
        for item, record in records:
            sampling.add(item.request)
            cut_off += record.values["words_cut_off"]
            for row in record.rows:
                tags.append(row["pos"])
                coverages.append([row[name] for name in COVERAGE.values()])
                self.owners.append((item.request.prompt, item.request.seed))
        self.tags = np.array(tags, dtype=str)
        self._coverage = np.array(coverages, np.float64).reshape(-1, len(TAUS))
        self.about: dict[str, Any] = {} if item is None else sampling.about | {
            "tags": item.about["tags"],
            "words": len(tags),
            "unknown_words": tags.count("x"),
            "words_cut_off": cut_off,
        }  # fmt: skip

    def values(self, tag: str, tau: float) -> NDArray[np.float64]:
        """What the words of a tag cover at a threshold."""
        return np.asarray(self._coverage[self.tags == tag, TAUS.index(tau)])

    def interval(self, tag: str, tau: float) -> Interval:
        """Its mean, over whole prompts."""
        owners = [self.owners[place] for place in np.flatnonzero(self.tags == tag).tolist()]
        return bootstrap(self.values(tag, tau), groups=owners)

    def gap(self, tag: str, tau: float) -> Interval:
        """By how much words of a tag cover more than those outside both pairs: means over prompts that have both."""
        own: dict[Hashable, list[float]] = {}
        others: dict[Hashable, list[float]] = {}
        column = self._coverage[:, TAUS.index(tau)].tolist()
        for owner, other, value in zip(self.owners, self.tags.tolist(), column, strict=True):
            table = own if other == tag else others if other not in (*LOW, *HIGH) else None
            if table is not None:
                table.setdefault(owner, []).append(value)
        return bootstrap([np.mean(own[key]) - np.mean(others[key]) for key in own if key in others])


def _side(gap: Interval | None, *, below: bool) -> Decision:
    """Whether a part of speech is an outlier on one side; open where no prompt has it."""
    if gap is None:
        return None
    return lies(gap, below=0) if below else lies(gap, above=0)


def _at(held: dict[float, list[Decision]]) -> str:
    taus = [f"{tau:g}" for tau, sides in held.items() if every(sides)]
    return f"{len(taus)} of {len(held)} thresholds" + (f" ({', '.join(taus)})" if taus else "")
