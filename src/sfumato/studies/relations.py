"""How far does the map of a word lie within that of its head? mIoD, mIoH and IoU by relation (Tang et al. 2023).

The two shares of a pair have one numerator, so "the head dominates" (mIoD above mIoH) says that the head's hard map is
the larger one. That depends on the threshold: two published analyses disagree in sign for amod, nsubj, obj and nmod.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import RequestError, SfumatoWarning
from sfumato.mapped import METHOD, Mapped
from sfumato.metrics import Decision, Interval, bootstrap, lies, overlap, some, verdict_of
from sfumato.models.model import Model
from sfumato.plots.studies import sweep_sheet
from sfumato.progress import Progress, silent
from sfumato.results.summary import TAU
from sfumato.runs.finding import Finding
from sfumato.studies.asking import TAUS, about, asked
from sfumato.studies.parsing import Parse, parser_of

UNLINKED = "unlinked words"
MEASURES = ("iod", "ioh", "iou")
SOURCE = "Which of head and dependent has the larger map depends on the threshold; two published analyses disagree."


def study_relations(
    model: Model,
    prompts: Sequence[str],
    *,
    seed: int = 0,
    steps: int | None = None,
    method: str = METHOD,
    tagger: str = "auto",
    progress: Progress = silent,
) -> Finding:
    """Measure the overlap of every dependent with its head at nine thresholds, beside words that are not linked.

    A word dominates at a threshold where the 95% interval over prompts of mIoD - mIoH excludes zero. The finding is
    replicated if for some relation the head dominates at one threshold and the dependent at another, and not replicated
    if for every relation one of the two dominates at all thresholds.

    Args:
        model: Any that reads words.
        prompts: What to generate; prompt i starts from ``seed + i``.
        seed: Of the first prompt.
        steps: Denoising steps; the model's own.
        method: One that makes the node ``words``.
        tagger: See `sfumato.studies.parsing.parser_of`.
        progress: Told about every prompt.

    Raises:
        RequestError: No word depends on another, as far as the tagger can tell.
    """
    parser = parser_of(tagger, prompts)
    seeds = range(seed, seed + len(prompts))
    found = asked(model, prompts, seeds=seeds, method=method, steps=steps, progress=progress)
    parses = [parser(one.request.prompt, one.words) for one in found]
    items = [item for one, parse in zip(found, parses, strict=True) for item in _items(one, parse)]
    relations = {item["relation"] for item in items} - {UNLINKED}
    names = sorted(relations, key=lambda name: (-_count(items, name), name))
    if not names:
        raise RequestError(
            f"the tagger ({parser.name}) finds no word that depends on another; the lexicon knows the scenes' captions "
            "alone, for other prompts give a spaCy model with a parser: --tagger en_core_web_sm"
        )
    linked = [*names]
    if _count(items, UNLINKED):
        names.append(UNLINKED)
    signs = {name: {tau: _difference(items, name, tau) for tau in TAUS} for name in names}
    flips = [name for name in linked if _turns(signs[name])]
    turns = some(_turns(signs[name]) for name in linked)
    heads = [name for name in linked if _dominates(signs[name], 1) and name not in flips]
    dependents = [name for name in linked if _dominates(signs[name], -1) and name not in flips]
    near = bootstrap(_values(items, linked, TAU, "iou"), groups=_owners(items, linked))
    far = bootstrap(_values(items, [UNLINKED], TAU, "iou"), groups=_owners(items, [UNLINKED]))
    sentence = (
        f"Between thresholds 0.1 and 0.9 the sign turns for {_listed(flips)}. Wherever one of the two maps is larger, "
        f"it is the head's for {_listed(heads)}, the dependent's for {_listed(dependents)}. A word and its head "
        f"overlap with an IoU of {near} at {TAU:g}" + (f", unlinked words of a prompt with {far}." if far.n else ".")
    )
    bars = {name: signs[name][TAU] for name in names}
    curves = {name: np.array([signs[name][tau].mean for tau in TAUS]) for name in names}
    figure = sweep_sheet(bars, TAUS, curves, f"mIoD - mIoH, tau {TAU:g}", "threshold tau", mark=TAU)
    without = sum(not parse.dependents for parse in parses)
    if without:
        warnings.warn(
            f"in {without} of {len(found)} prompts the tagger ({parser.name}) finds no word that depends on another; "
            "the numbers are of the others",
            SfumatoWarning,
            stacklevel=2,
        )
    told = about(
        model,
        found,
        method=method,
        tags=parser.name,
        pairs=len(items),
        unknown_words=sum(
            parse.tags[place] == "x" for one, parse in zip(found, parses, strict=True) for place in one.seen
        ),
        prompts_without_heads=without,
    )
    rows = [_row(items, name, signs[name]) for name in names]
    return Finding("relations", SOURCE, verdict_of(turns), sentence, rows, figure, told, items)


def _items(one: Mapped, parse: Parse) -> list[dict[str, Any]]:
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
        row: dict[str, Any] = {"prompt": one.request.prompt, "seed": one.request.seed, "relation": relation}
        row |= {"dependent": one.words[dependent].text, "head": one.words[head].text}
        for tau in TAUS:
            found = overlap(fine[dependent], fine[head], tau)
            row |= {f"{name} at {tau}": round(getattr(found, name), 5) for name in MEASURES}
        rows.append(row)
    return rows


def _chosen(items: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    return [item for item in items if item["relation"] in names]


def _count(items: Sequence[dict[str, Any]], name: str) -> int:
    return len(_chosen(items, [name]))


def _values(items: Sequence[dict[str, Any]], names: Sequence[str], tau: float, measure: str) -> NDArray[np.float64]:
    return np.array([item[f"{measure} at {tau}"] for item in _chosen(items, names)])


def _owners(items: Sequence[dict[str, Any]], names: Sequence[str]) -> list[tuple[str, int]]:
    return [(item["prompt"], item["seed"]) for item in _chosen(items, names)]


def _difference(items: Sequence[dict[str, Any]], name: str, tau: float) -> Interval:
    values = _values(items, [name], tau, "iod") - _values(items, [name], tau, "ioh")
    return bootstrap(values, groups=_owners(items, [name]))


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


def _row(items: Sequence[dict[str, Any]], name: str, signs: dict[float, Interval]) -> dict[str, Any]:
    owners = _owners(items, [name])
    shown = {
        f"m{measure[:2].capitalize()}{measure[2].upper()}": bootstrap(
            _values(items, [name], TAU, measure), groups=owners
        )
        for measure in MEASURES
    }
    sides = {side: ", ".join(f"{tau:g}" for tau in _dominates(signs, side)) for side in (1, -1)}
    return {"relation": name} | shown | {"head larger at tau": sides[1], "dependent larger at tau": sides[-1]}
