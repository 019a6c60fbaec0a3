"""How far does the map of a word lie within that of its head? mIoD, mIoH and IoU by relation (Tang et al. 2023).

The two shares of a pair have one numerator, so "the head dominates" (mIoD above mIoH) says that the head's hard map is
the larger one. That depends on the threshold: two published analyses disagree in sign for amod, nsubj, obj and nmod.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import RequestError, SfumatoWarning
from sfumato.metrics import Decision, Interval, bootstrap, lies, overlap, some, verdict_of
from sfumato.models.lexicon import pos
from sfumato.models.model import Model
from sfumato.models.words import split
from sfumato.plots.studies import threshold_sheet
from sfumato.progress import Progress
from sfumato.results.hard_maps import TAU
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, Claim, Cost, Item, ModelFacts, Record, Records, task
from sfumato.studio.scenes import held_out_captions
from sfumato.tasks.shared.parsing import Parse
from sfumato.tasks.shared.word_maps import (
    TAUS,
    Mapped,
    Sampling,
    TaggedOptions,
    costs_of_maps,
    measured_maps,
    or_nan,
    parser_named,
    tagged_items,
    warn_of_one,
)

UNLINKED = "unlinked words"
MEASURES = ("iod", "ioh", "iou")
CLAIM = Claim(
    "Which of head and dependent has the larger map depends on the threshold; two published analyses disagree.",
    paper="Tang et al. 2023",
)


@task(
    "relations",
    question="How far does a word's map lie within that of its head, and which of the two is larger?",
    options=TaggedOptions,
    cost=Cost("an explanation by the method for each image (daam: one generation)", costs_of_maps),
    needs=("words",),
    claim=CLAIM,
    prompts=Captions(held_out_captions, usual=200),
)
class Relations:
    """The overlap of every dependent with its head at nine thresholds, next to that of words that are not linked.

    A word dominates at a threshold where the 95% interval over prompts of mIoD - mIoH excludes zero. The finding is
    replicated if for some relation the head dominates at one threshold and the dependent at another, and not replicated
    if for every relation one of the two dominates at all thresholds.
    """

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: TaggedOptions) -> Iterator[Item]:
        """An item for each image of each row.

        Raises:
            RequestError: No word depends on another, by the tagger.
        """
        linked, tags = False, ""
        for item in tagged_items(facts, rows, options):
            prompt = item.request.prompt
            linked = linked or bool(parser_named(item.about["tagger"])(prompt, split(prompt, pos)).dependents)
            tags = item.about["tags"]
            yield item
        if tags and not linked:
            raise RequestError(
                f"the tagger ({tags}) finds no word that depends on another; the lexicon knows the scenes' captions "
                "alone, for other prompts give a spaCy model with a parser: --tagger en_core_web_sm"
            )

    def measure(
        self, model: Model, items: Sequence[Item], options: TaggedOptions, progress: Progress
    ) -> Sequence[Record]:
        """Explain a batch and measure the overlap of every pair of words."""
        found = measured_maps(model, items, options.method, progress)
        return [
            pairs_record(one, parser_named(item.about["tagger"])(one.request.prompt, one.words))
            for item, one in zip(items, found, strict=True)
        ]

    def conclude(self, records: Records, options: TaggedOptions, about: Mapping[str, Any]) -> Finding:
        """Means by relation with intervals over prompts, and at which thresholds which word dominates.

        The intervals rest on every pair, so the measures of all of them stay in memory: 216 bytes for each.
        """
        warn_of_one(len(records))
        pairs = _Pairs(records)
        linked = sorted(set(pairs.relations) - {UNLINKED}, key=lambda name: (-pairs.relations.count(name), name))
        names = [*linked, UNLINKED] if UNLINKED in pairs.relations else linked
        signs = {name: {tau: pairs.difference(name, tau) for tau in TAUS} for name in names}
        flips = [name for name in linked if _turns(signs[name])]
        turns = some(_turns(signs[name]) for name in linked) if linked else None
        heads = [name for name in linked if _dominates(signs[name], 1) and name not in flips]
        dependents = [name for name in linked if _dominates(signs[name], -1) and name not in flips]
        near, far = pairs.interval(linked, "iou"), pairs.interval([UNLINKED], "iou")
        sentence = (
            f"Between thresholds 0.1 and 0.9 the sign turns for {_listed(flips)}. Wherever one of the two maps is "
            f"larger, it is the head's for {_listed(heads)}, the dependent's for {_listed(dependents)}. A word and its "
            f"head overlap with an IoU of {near} at {TAU:g}"
            + (f", unlinked words of a prompt with {far}." if far.n else ".")
        )
        bars = {name: signs[name][TAU] for name in names}
        curves = {name: np.array([signs[name][tau].mean for tau in TAUS]) for name in names}
        figure = threshold_sheet(bars, TAUS, curves, f"mIoD - mIoH, tau {TAU:g}", "threshold tau", mark=TAU)
        if pairs.without:
            warnings.warn(
                f"in {pairs.without} of {len(records)} prompts the tagger ({pairs.about['tags']}) finds no word that "
                "depends on another; the numbers are of the others",
                SfumatoWarning,
                stacklevel=2,
            )
        rows = [_row(pairs, name, signs[name]) for name in names]
        told = {**about, "method": options.method} | pairs.about
        return Finding("relations", CLAIM.text, verdict_of(turns), sentence, rows, figure, told)


def pairs_record(one: Mapped, parse: Parse) -> Record:
    """A row for each dependent and head, and for each pair of words of which neither is the other's head."""
    linked = {(pair.dependent, pair.head): pair.relation for pair in parse.dependents}
    known = {frozenset(pair) for pair in linked}
    seen = one.seen
    pairs = {pair: name for pair, name in linked.items() if set(pair) <= set(seen)}
    if linked:  # in a prompt that nobody parsed, nothing is known to be unlinked
        pairs |= {(b, a): UNLINKED for a in seen for b in seen if a < b and frozenset((a, b)) not in known}
    fine = {place: one.fine(place) for pair in pairs for place in pair}
    rows = []
    for (dependent, head), relation in pairs.items():
        row: dict[str, Any] = {"relation": relation}
        row |= {"dependent": one.words[dependent].text, "head": one.words[head].text}
        for tau in TAUS:
            found = overlap(fine[dependent], fine[head], tau)
            row |= {f"{name} at {tau}": round(getattr(found, name), 5) for name in MEASURES}
        rows.append(row)
    unknown = sum(parse.tags[place] == "x" for place in seen)
    return Record({"without_heads": not linked, "unknown_words": unknown}, rows=rows)


class _Pairs:
    """The pairs of words of all records as arrays.

    Args:
        records: Of the run.

    Attributes:
        relations: Of each pair.
        without: How many prompts have no linked words.
        about: What the numbers depend on.
    """

    def __init__(self, records: Records) -> None:
        self.relations: list[str] = []
        self.without = 0
        self._owners: list[tuple[str, int]] = []
        values: list[list[float]] = []
        sampling, unknown, tags = Sampling(), 0, ""
        for item, record in records:
            sampling.add(item.request)
            tags = item.about["tags"]
            self.without += record.values["without_heads"]
            unknown += record.values["unknown_words"]
            for row in record.rows:
                self.relations.append(row["relation"])
                self._owners.append((item.request.prompt, item.request.seed))
                values.append([or_nan(row[f"{name} at {tau}"]) for tau in TAUS for name in MEASURES])
        self._values = np.array(values, np.float64).reshape(-1, len(TAUS), len(MEASURES))
        self.about: dict[str, Any] = sampling.about | {
            "tags": tags,
            "pairs": len(values),
            "unknown_words": unknown,
            "prompts_without_heads": self.without,
        }

    def interval(self, names: Sequence[str], measure: str) -> Interval:
        """The mean of a measure over the pairs of some relations at the usual threshold, over whole prompts."""
        return self._mean(names, self._values[:, TAUS.index(TAU), MEASURES.index(measure)])

    def difference(self, name: str, tau: float) -> Interval:
        """The mean of IoD - IoH over the pairs of a relation."""
        at = self._values[:, TAUS.index(tau)]
        return self._mean([name], at[:, MEASURES.index("iod")] - at[:, MEASURES.index("ioh")])

    def _mean(self, names: Sequence[str], values: NDArray[np.float64]) -> Interval:
        chosen = np.flatnonzero([name in names for name in self.relations])
        return bootstrap(values[chosen], groups=[self._owners[index] for index in chosen.tolist()])


def _dominates(signs: dict[float, Interval], side: int) -> list[float]:
    """The thresholds at which the head (1) or the dependent (-1) has the larger map."""
    return [tau for tau, one in signs.items() if lies(one, above=0) is (side > 0)]


def _turns(signs: dict[float, Interval]) -> Decision:
    """Whether the head dominates at one threshold and the dependent at another; False if one does at all."""
    heads = {lies(one, above=0) for one in signs.values()}
    if {True, False} <= heads:
        return True
    return None if None in heads else False


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "no relation"


def _row(pairs: _Pairs, name: str, signs: dict[float, Interval]) -> dict[str, Any]:
    shown = {
        f"m{measure[:2].capitalize()}{measure[2].upper()}": pairs.interval([name], measure) for measure in MEASURES
    }
    sides = {side: ", ".join(f"{tau:g}" for tau in _dominates(signs, side)) for side in (1, -1)}
    return {"relation": name} | shown | {"head larger at tau": sides[1], "dependent larger at tau": sides[-1]}
