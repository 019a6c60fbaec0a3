"""Is a word's share of the information its share in a game? Nats against exact Shapley values, and what both cost.

A Shapley value asks for the image of every part of a prompt; information asks one image, noised again, how well it is
predicted with and without a word. Both are shares of a prompt's whole, so words of many prompts can be ranked
together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.caching.cache import Cache, default_folder
from sfumato.caching.images import Generator
from sfumato.explain import explain
from sfumato.games import plan, play
from sfumato.games.players import Player, players_of
from sfumato.games.values import PromptValue
from sfumato.metrics import Interval, bootstrap, rank_correlation
from sfumato.metrics.intervals import percentile_ends, resampled
from sfumato.models.model import Model
from sfumato.option_values import COUNT
from sfumato.progress import Progress
from sfumato.registry import find
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, CompletedItem, Cost, Item, ModelFacts, Record, Records, task
from sfumato.similarity import similarity
from sfumato.similarity.measures import Similarity
from sfumato.studio.shapes import BACKGROUNDS, COLOURS
from sfumato.tasks.explain import check_method
from sfumato.tasks.shared.captions import check_few_words, of_each_prompt, short_captions
from sfumato.tasks.shared.contenders import SAMPLES
from sfumato.tasks.shared.word_maps import Mapped, mapped_in, with_nan

TENTH = 10
"""Information is also tried with as many samples as make its calls this part of Shapley's."""
SIMILARITIES = ("clip", "latent")
"""Similarities of the game: the attribution of a word is the gain in similarity with it, by CLIP or as a latent."""
KINDS = ("nouns", "colours", "nouns and colours", "all")
RESAMPLES = 1000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class WordSharesOptions:
    """Options of the task."""

    samples: int = field(default=SAMPLES, metadata=COUNT | {"least": 2, "help": "Noise samples of the information."})


@task(
    "word_shares",
    question="Do nats rank words as exact Shapley values do, and what do both cost?",
    options=WordSharesOptions,
    cost=Cost("a generation for each subset of an image's words, 64 at most, one with daam and three with information"),
    needs=("words",),
    prompts=Captions(short_captions, usual=50),
    shard=1,
)
class WordShares:
    """Shares of words by information, by leaving each out and by DAAM, next to their exact Shapley values."""

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: WordSharesOptions) -> Iterator[Item | Row]:
        """An item for each image of each row whose prompt has few words."""
        for name in ("information", "daam"):
            check_method(find(name), facts)
        return of_each_prompt(rows, check_few_words)

    def measure(
        self, model: Model, items: Sequence[CompletedItem], options: WordSharesOptions, progress: Progress
    ) -> Sequence[Record]:
        """Weigh the words of one prompt after the other; all parts of it are generated, or in the cache."""
        generator = Generator(model, Cache(default_folder()))
        measures = {name: similarity(name, model) for name in SIMILARITIES}
        return [_record(model, one, generator, measures, options.samples, progress) for one in items]

    def conclude(self, records: Records, options: WordSharesOptions, about: Mapping[str, Any]) -> Finding:
        """Correlations with the Shapley values by kind of word, with intervals over prompts, and calls.

        The intervals rest on every word, so the shares of all of them stay in memory.
        """
        words: list[dict[str, Any]] = []
        calls: dict[str, list[float]] = {}
        steps = None
        for number, (item, record) in enumerate(records):
            steps = item.request.steps
            words += [with_nan(row) | {"item": number} for row in record.rows]
            for name, count in record.values["calls"].items():
                calls.setdefault(name, []).append(count)
        rows = table(words, calls)
        return Finding("word_shares", "", None, _sentence(rows, len(records)), rows, None, {**about, "steps": steps})


def agreement(words: Sequence[Mapping[str, Any]], name: str, kind: str, measure: str = "clip") -> Interval:
    """Spearman's correlation of a method with the Shapley values over words, with its interval over prompts.

    Args:
        words: A row for each, with ``caption``, ``kind`` and its share by each method.
        name: Of the method.
        kind: Of the words, one of `KINDS`.
        measure: The similarity of the Shapley values.
    """
    rows = [one for one in words if kind == "all" or one["kind"] in kind]
    truth, values = ([one[column] for one in rows] for column in (_shapley(measure), name))
    return _pooled(truth, values, [one["caption"] for one in rows])


def within(words: Sequence[Mapping[str, Any]], name: str, measure: str = "clip") -> Interval:
    """The mean over images (``item``) of Spearman's correlation over their words, with its interval over prompts."""
    images: dict[int, list[Mapping[str, Any]]] = {}
    for one in words:
        images.setdefault(one["item"], []).append(one)
    found = [
        rank_correlation([one[_shapley(measure)] for one in rows], [one[name] for one in rows])
        for rows in images.values()
    ]
    return bootstrap(found, groups=[rows[0]["caption"] for rows in images.values()])


def table(words: Sequence[Mapping[str, Any]], calls: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """One row for each method but Shapley by CLIP, which all are compared with.

    Args:
        words: As for `agreement` and `within`.
        calls: Rows of the denoiser that a prompt takes, of each method and each prompt.
    """
    clip = _shapley("clip")
    found = []
    for name in (one for one in calls if one != clip):
        row: dict[str, Any] = {"method": name} | {kind: agreement(words, name, kind) for kind in KINDS}
        row["within a prompt"] = within(words, name)
        row["all, by latent"] = agreement(words, name, "all", "latent")
        row["calls"] = round(float(np.mean(calls[name])), 1)
        row["calls / Shapley's"] = round(float(np.sum(calls[name]) / np.sum(calls[clip])), 3)
        found.append(row)
    return found


def _record(
    model: Model,
    item: CompletedItem,
    generator: Generator,
    measures: Mapping[str, Similarity],
    samples: int,
    progress: Progress,
) -> Record:
    """A row for each word with its share by each method, and the calls of each method."""
    request = item.request
    tokens = model.tokens(request.prompt)
    players = players_of(tokens)
    one_image = model.steps(request) * len(model.branches(request).names)
    exact = plan(len(players), estimator="exact")
    found: dict[str, Floats] = {}
    calls: dict[str, float] = {}
    for name, measure in measures.items():
        game = PromptValue(generator, request, players, measure)
        found[_shapley(name)] = play(game, exact, progress=progress).estimate.phi
        calls[_shapley(name)] = len(exact.coalitions) * one_image
        if name == "clip":
            alone = plan(len(players), estimator="leave-one-out")
            found["leave one out"] = play(game, alone).estimate.phi
            calls["leave one out"] = len(alone.coalitions) * one_image
    words = len(tokens.words)
    few = max(2, int((calls[_shapley("clip")] / TENTH - one_image) / (words + 1)))
    for label, given, count in (
        ("information", "rest", samples),
        ("information, a tenth of the calls", "rest", few),
        ("information alone", "empty", samples),
    ):
        told = explain(model, request, "information", samples=count, given=given, progress=progress)
        found[label] = _sums(mapped_in(model, told), players)
        calls[label] = one_image + count * (words + 1 + (given == "empty"))
    found["information, both ways"] = found["information"] + found["information alone"]
    calls["information, both ways"] = calls["information"] + calls["information alone"] - one_image
    covered = mapped_in(model, explain(model, request, "daam", progress=progress))
    found["daam, sum of the map"], calls["daam, sum of the map"] = _sums(covered, players), one_image
    shares = {name: _share(values) for name, values in found.items()}
    rows = []
    for place, player in enumerate(players):
        word = tokens.words[player.words[0]]
        about = {"caption": request.prompt, "word": word.text, "kind": _kind(word.text, word.pos)}
        rows.append(about | {name: float(values[place]) for name, values in shares.items()})
    return Record({"calls": {name: float(count) for name, count in calls.items()}}, rows=rows)


def _shapley(measure: str) -> str:
    return f"shapley ({measure})"


def _sums(one: Mapped, players: Sequence[Player]) -> Floats:
    """The sum of the map of each player's word."""
    sums = one.maps.astype(np.float64).sum((1, 2))
    return np.array([sums[player.words[0]] for player in players])


def _share(values: Floats) -> Floats:
    """Of the prompt's whole; NaN where that is nothing."""
    total = np.abs(values).sum()
    return values / total if total > 0 else np.full(len(values), np.nan)


def _kind(word: str, pos: str) -> str:
    if word in COLOURS or word in BACKGROUNDS:
        return "colours"
    return "nouns" if pos == "noun" else "others"


def _pooled(truth: Sequence[float], values: Sequence[float], groups: Sequence[str]) -> Interval:
    """Spearman's correlation over all words, with an interval that draws whole prompts; NaN where there are none."""
    one, other = np.asarray(truth, np.float64), np.asarray(values, np.float64)
    known = np.isfinite(one) & np.isfinite(other)
    if not known.any():
        return Interval(np.nan, np.nan, np.nan, 0)
    one, other, owners = one[known], other[known], np.array(groups)[known].tolist()
    drawn = [rank_correlation(other[at], one[at]) for at in resampled(owners, RESAMPLES)]
    return Interval(rank_correlation(one, other), *percentile_ends(drawn), len(one), len(set(owners)))


def _sentence(rows: Sequence[Mapping[str, Any]], images: int) -> str:
    """How far information agrees with the Shapley values, next to leaving out each word, with the cost of both."""
    found = {row["method"]: row for row in rows}
    cost = "calls / Shapley's"
    told = [
        f"{name} {found[name]['all'].brief} at {found[name][cost]:.2f} of the calls"
        for name in ("information", "leave one out")
    ]
    what = f"Spearman's correlation with the Shapley values by CLIP over all words of {images:,} images"
    return f"{what}: {'; '.join(told)}."
