"""How well do methods say which words mattered? Against what a reader sees change without each word.

The causal truth of a word: the image is made again without it, same seed and starting noise, and the reader says
which facts of the scene no longer hold (colour of the background; shape, colour and place of each object). A word's
true share is its share of all such changes. It is a truth about this generation, as exact as the reader, and knows no
similarity.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from sfumato.caching.cache import Cache, default_folder
from sfumato.caching.images import Generator
from sfumato.explain import explain
from sfumato.games import Played, plan, play
from sfumato.games.players import players_of
from sfumato.games.values import PromptValue
from sfumato.methods.word_games import shares
from sfumato.metrics import bootstrap, rank_correlation, ranks_aligned, rmse
from sfumato.models.model import Model
from sfumato.progress import Progress
from sfumato.registry import find
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, Cost, Item, ModelFacts, Record, Records, task
from sfumato.similarity import similarity
from sfumato.similarity.measures import Similarity
from sfumato.studio.grammar import parsed
from sfumato.studio.reader import Reading, SeenThing, read
from sfumato.tasks.explain import check_method
from sfumato.tasks.shared.captions import check_few_words, of_each_prompt, short_captions
from sfumato.tasks.shared.scene_images import check_scene_size
from sfumato.tasks.shared.word_maps import or_nan

FACTS = 3
"""Of each object: shape, colour, place."""

FAR = 16.0
"""Pixels between centres from which an object is at another place."""

SIMILARITIES = ("clip", "vae", "latent", "ssim")
HALVED = ("kernel", "leverage", "permutation", "monte-carlo", "lime", "leave-one-out")
"""Estimators that are tried with half of the coalitions."""

EVEN = "even share"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class WordImportanceOptions:
    """Options of the task."""

    seconds: bool = field(
        default=False,
        metadata={"help": "Also measure seconds beyond the images that all share; no two runs have the same."},
    )


@task(
    "word_importance",
    question="Which words do methods call important, and which change the scene when they are left out?",
    options=WordImportanceOptions,
    cost=Cost("a generation for each subset of an image's words, 64 at most, one with daam and one with gradients"),
    needs=("words",),
    prompts=Captions(short_captions, usual=50),
    shard=1,
)
class WordImportance:
    """Every estimator and similarity, word gradients, coverage by DAAM and an even share, against the causal truth.

    A row has, for each method, ``ranks aligned``, ``RMSE``, ``like shapley`` and ``like daam`` (Spearman's correlation
    with the exact Shapley values by CLIP, and with DAAM's coverage), ``images`` that were needed, and of estimates
    ``error`` (of the values, relative to the exact ones).
    """

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: WordImportanceOptions) -> Iterator[Item | Row]:
        """An item for each image of each row whose prompt is a caption of few words."""
        for name in ("daam", "word_gradients"):
            check_method(find(name), facts)
        check_scene_size("word_importance", facts)
        return of_each_prompt(rows, parsed, check_few_words)

    def measure(
        self, model: Model, items: Sequence[Item], options: WordImportanceOptions, progress: Progress
    ) -> Sequence[Record]:
        """Judge all methods on one prompt after the other; all parts of a prompt are generated, or in the cache."""
        generator = Generator(model, Cache(default_folder()))
        measures = {name: similarity(name, model) for name in SIMILARITIES}
        return [_record(model, one, generator, measures, options, progress) for one in items]

    def conclude(self, records: Records, options: WordImportanceOptions, about: Mapping[str, Any]) -> Finding:
        """The mean of every measure over prompts by method, with intervals over prompts.

        The intervals rest on every prompt, so the measures of all of them stay in memory.
        """
        scores: dict[str, dict[str, list[float]]] = {}
        prompts: list[str] = []
        for item, record in records:
            if record.rows:
                prompts.append(item.about["caption"])
            for row in record.rows:
                found = scores.setdefault(row["method"], {})
                for measure, value in row.items():
                    if measure not in ("caption", "method"):
                        found.setdefault(measure, []).append(or_nan(value))
        rows: list[dict[str, Any]] = [
            {"method": name} | {measure: bootstrap(values, groups=prompts) for measure, values in found.items()}
            for name, found in scores.items()
        ]
        return Finding(
            "word_importance", "", None, _sentence(rows, len(prompts)), rows, None, {**about, "truths": len(prompts)}
        )


def scene_change(one: Reading, other: Reading) -> float:
    """The share of facts that differ between two images, from 0 (the same scene) to 1 (nothing in common).

    Facts are the background's colour, and the shape, colour and place of each object; objects are paired so that as few
    as possible differ, and all facts of an object without partner do.
    """
    count = max(len(one.things), len(other.things))
    different = float(one.background != other.background)
    if count:
        costs = np.full((count, count), float(FACTS))
        for i, a in enumerate(one.things):
            for j, b in enumerate(other.things):
                costs[i, j] = _facts(a, b)
        costs[len(one.things) :, len(other.things) :] = 0
        rows, columns = linear_sum_assignment(costs)
        different += float(costs[rows, columns].sum())
    return different / (1 + FACTS * count)


def _facts(one: SeenThing, other: SeenThing) -> int:
    """How many of the facts of two objects differ."""
    moved = np.hypot(one.x - other.x, one.y - other.y) > FAR
    return int(one.shape != other.shape) + int(one.colour != other.colour) + int(moved)


def _record(
    model: Model,
    item: Item,
    generator: Generator,
    measures: Mapping[str, Similarity],
    options: WordImportanceOptions,
    progress: Progress,
) -> Record:
    """A row for each method; none where leaving out words changed nothing, so that there is no truth."""
    request = item.request
    players = players_of(model.tokens(request.prompt))
    values = {name: PromptValue(generator, request, players, measure) for name, measure in measures.items()}
    exact = {
        name: play(value, plan(len(players), estimator="exact"), progress=progress) for name, value in values.items()
    }
    truth = _truth(exact["clip"], values["clip"])
    if truth is None:
        return Record({"truth": None})
    maps = explain(model, request, "daam").summary()["words"]
    covered = np.array([max(maps[place]["coverage"] or 0.0 for place in player.words) for player in players])
    judged = _Judged(request.prompt, truth, exact["clip"].estimate.phi, covered, seconds=options.seconds)
    for name, played in exact.items():
        judged.add(f"shapley ({name})", played.estimate.phi, images=len(played.plan.coalitions))
    surrogate = play(values["clip"], plan(len(players), estimator="lime"))
    judged.add("lime (clip)", surrogate.estimate.phi, images=len(surrogate.plan.coalitions))
    for name in HALVED:
        budget = max(2 * len(players), 2 ** (len(players) - 1))
        started = time.perf_counter()
        planned = plan(len(players), estimator=name, budget=budget, seed=request.seed)
        phi = play(values["clip"], planned, batch=64).estimate.phi
        spent = time.perf_counter() - started
        label = f"{name}, half of the coalitions (clip)"
        judged.add(label, phi, images=len(planned.coalitions), seconds=spent, sampled=True)
    started = time.perf_counter()
    leaning = explain(model, request, "word_gradients", target="similarity")
    spent = time.perf_counter() - started
    phi = leaning.tree["word_gradients/word_importance"].to_dataset()["phi"].values
    judged.add("word_gradients (similarity)", phi, images=1, seconds=spent)
    judged.add("daam coverage", covered, images=1)
    judged.add(EVEN, np.ones(len(players)), images=0)
    return Record({"truth": truth.tolist()}, rows=judged.rows)


def _truth(played: Played, value: PromptValue) -> Floats | None:
    """Each word's share of what changes when it alone is left out; None if nothing does."""
    count = played.plan.coalitions.shape[1]
    whole = read(value.images[np.ones(count, bool).tobytes()].pixels)
    changes = [scene_change(whole, read(value.images[row.tobytes()].pixels)) for row in ~np.eye(count, dtype=bool)]
    total = sum(changes)
    return np.array(changes) / total if total > 0 else None


class _Judged:
    """The rows of a prompt: what each method says of its words, measured against the truth.

    Args:
        prompt: The text.
        truth: Share of each word.
        exact: Their Shapley values by CLIP.
        covered: Their coverage by DAAM.
        seconds: Whether rows have a time.
    """

    def __init__(self, prompt: str, truth: Floats, exact: Floats, covered: Floats, *, seconds: bool) -> None:
        self.rows: list[dict[str, Any]] = []
        self._prompt, self._truth, self._seconds = prompt, truth, seconds
        self._known = {"shapley": exact, "daam": covered}

    def add(self, name: str, values: Floats, *, images: int, seconds: float = 0.0, sampled: bool = False) -> None:
        """Measure what a method says; `sampled` where it estimates the exact Shapley values."""
        share = shares(np.clip(values, 0, None))  # a word that works against the image has no share of it
        shared = bool(np.isfinite(share).all())
        row: dict[str, Any] = {
            "caption": self._prompt,
            "method": name,
            "ranks aligned": ranks_aligned(self._truth, share) if shared else np.nan,
            "RMSE": rmse(self._truth, share) if shared else np.nan,
            **{f"like {other}": rank_correlation(theirs, values) for other, theirs in self._known.items()},
            "images": float(images),
        }
        if self._seconds:
            row["seconds"] = seconds
        if sampled:
            exact = self._known["shapley"]
            size = float(np.linalg.norm(exact))
            row["error"] = float(np.linalg.norm(values - exact)) / size if size else np.nan
        self.rows.append(row)


def _sentence(rows: Sequence[Mapping[str, Any]], prompts: int) -> str:
    """The ranks aligned of the method that has most, next to those of an even share."""
    if not rows:
        return "Leaving out words never changed a scene, so there is no truth; train the model longer."
    *methods, even = rows
    best = max(methods, key=lambda row: float(np.nan_to_num(row["ranks aligned"].mean, nan=-1)))
    return (
        f"{prompts:,} prompts had a truth: ranks aligned {best['ranks aligned'].brief} by {best['method']}, "
        f"{even['ranks aligned'].brief} by an {EVEN}."
    )
