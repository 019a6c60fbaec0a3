"""How well do methods say which words mattered? Studio prompts, against what the reader sees change without each word.

The causal truth of a word: the image is made again without it, same seed and starting noise, and the reader says
which facts of the scene no longer hold (colour of the background; shape, colour and place of each object). A word's
true share is its share of all such changes. It is a truth about this generation, as exact as the reader, and knows no
similarity.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from sfumato.bounds import checked_int
from sfumato.cache import Cache, default_folder
from sfumato.errors import OptionError
from sfumato.explain import explain
from sfumato.games import Played, plan, play
from sfumato.games.players import Player, players_of
from sfumato.games.values import PromptValue
from sfumato.generations import Generator
from sfumato.methods.word_games import shares
from sfumato.metrics import bootstrap, rank_correlation, ranks_aligned, rmse
from sfumato.models.model import Model
from sfumato.option_values import COUNT
from sfumato.progress import Progress, silent
from sfumato.request import Request
from sfumato.results.rows import plain_rows
from sfumato.similarity import similarity
from sfumato.studio.reader import Reading, SeenThing, read
from sfumato.studio.scenes import held_out_captions

MOST_WORDS = 6
FACTS = 3
"""Of each object: shape, colour, place."""

FAR = 16.0
"""Pixels between centres from which an object is at another place."""

SIMILARITIES = ("clip", "vae", "latent", "ssim")
HALVED = ("kernel", "leverage", "permutation", "monte-carlo", "lime", "leave-one-out")
"""Estimators that are tried with half of the coalitions."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ImportanceBench:
    """Shares of importance against the causal truth, by method.

    Attributes:
        model: Name of the model.
        prompts: How many prompts had a truth.
        scores: Per method, one value per prompt: ``ranks aligned``, ``RMSE``, ``like shapley`` and ``like daam``
            (Spearman's correlation with the exact Shapley values by CLIP, and with DAAM's coverage), ``images`` that
            were needed, ``seconds`` beyond the images that all share, and of estimates ``error`` (of the worths,
            relative to the exact ones).
    """

    model: str
    prompts: int
    scores: Mapping[str, Mapping[str, Sequence[float]]]

    @property
    def title(self) -> str:
        """One line for people."""
        return (
            f"importance of words on {self.prompts} held-out prompts of {self.model}, against what a reader sees change"
        )

    def rows(self) -> list[dict[str, Any]]:
        """One row per method; every measure as the mean over words with its interval."""
        rows = []
        for name, found in self.scores.items():
            cells: dict[str, Any] = {measure: bootstrap(values) for measure, values in found.items()}
            rows.append({"method": name} | cells)
        return rows

    def to_json(self) -> str:
        """Everything as JSON text."""
        plain = {
            name: {measure: [None if np.isnan(v) else v for v in values] for measure, values in found.items()}
            for name, found in self.scores.items()
        }
        about = {"model": self.model, "prompts": self.prompts}
        return json.dumps(about | {"rows": plain_rows(self.rows()), "scores": plain}, indent=2)


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


def bench_importance(
    model: Model, prompts: int = 50, *, seed: int = 0, steps: int | None = None, progress: Progress = silent
) -> ImportanceBench:
    """Judge every estimator and similarity, word gradients, DAAM's coverage and an even share.

    Args:
        model: A model of the scenes.
        prompts: How many held-out prompts of at most 6 words.
        seed: Prompt i starts from seed ``seed + i``.
        steps: Denoising steps; the model's own.
        progress: Told about every prompt.

    Raises:
        OptionError: No prompts are asked for, or leaving out words never changed a scene.
    """
    checked_int("prompts", prompts, **COUNT, error=OptionError)
    generator = Generator(model, Cache(default_folder()))
    measures = {name: similarity(name, model) for name in SIMILARITIES}
    scores: dict[str, dict[str, list[float]]] = {}
    counted = 0
    captions = short_captions(model, prompts)
    for number, caption in enumerate(captions):
        progress("prompts", number, len(captions))
        request = model.complete(Request(caption, seed=seed + number, steps=steps))
        players = _words(model, caption)
        values = {name: PromptValue(generator, request, players, measure) for name, measure in measures.items()}
        exact = {
            name: play(value, plan(len(players), estimator="exact"), progress=progress)
            for name, value in values.items()
        }
        truth = _truth(exact["clip"], values["clip"])
        if truth is None:
            continue
        counted += 1
        maps = explain(model, request, "daam").summary()["words"]
        covered = np.array([max(maps[place]["coverage"] or 0.0 for place in player.words) for player in players])
        known = {"shapley": exact["clip"].estimate.phi, "daam": covered}
        for name, played in exact.items():
            _note(scores, f"shapley ({name})", truth, known, played.estimate.phi, images=len(played.plan.coalitions))
        surrogate = play(values["clip"], plan(len(players), estimator="lime"))
        _note(scores, "lime (clip)", truth, known, surrogate.estimate.phi, images=len(surrogate.plan.coalitions))
        for name in HALVED:
            budget = max(2 * len(players), 2 ** (len(players) - 1))
            started = time.perf_counter()
            planned = plan(len(players), estimator=name, budget=budget, seed=number)
            played = play(values["clip"], planned, batch=64)
            spent = time.perf_counter() - started
            images, phi = len(planned.coalitions), played.estimate.phi
            label = f"{name}, half of the coalitions (clip)"
            _note(scores, label, truth, known, phi, images=images, seconds=spent, sampled=True)
        started = time.perf_counter()
        leaning = explain(model, request, "word_gradients", target="similarity")
        spent = time.perf_counter() - started
        phi = leaning.tree["word_gradients/word_importance"].to_dataset()["phi"].values
        _note(scores, "word_gradients (similarity)", truth, known, phi, images=1, seconds=spent)
        _note(scores, "daam coverage", truth, known, covered, images=1)
        _note(scores, "even share", truth, known, np.ones(len(players)), images=0)
    progress("prompts", len(captions), len(captions))
    if not counted:
        raise OptionError("leaving out words never changed a scene, so there is no truth; train the model longer")
    return ImportanceBench(model.source.name, counted, scores)


def _facts(one: SeenThing, other: SeenThing) -> int:
    """How many of the facts of two objects differ."""
    moved = np.hypot(one.x - other.x, one.y - other.y) > FAR
    return int(one.shape != other.shape) + int(one.colour != other.colour) + int(moved)


def _words(model: Model, caption: str) -> tuple[Player, ...]:
    return players_of(model.tokens(caption))


def _truth(played: Played, value: PromptValue) -> Floats | None:
    """Each word's share of what changes when it alone is left out; None if nothing does."""
    count = played.plan.coalitions.shape[1]
    whole = read(value.images[np.ones(count, bool).tobytes()].pixels)
    changes = [scene_change(whole, read(value.images[row.tobytes()].pixels)) for row in ~np.eye(count, dtype=bool)]
    total = sum(changes)
    return np.array(changes) / total if total > 0 else None


def short_captions(model: Model, wanted: int) -> list[str]:
    """Held-out captions of few words, as many as there are."""
    found: list[str] = []
    for asked in itertools.count(2 * wanted, 20):
        try:
            captions = held_out_captions(asked)
        except OptionError:  # there are not more
            break
        found = [caption for caption in captions if len(_words(model, caption)) <= MOST_WORDS]
        if len(found) >= wanted:
            break
    return found[:wanted]


def _note(
    scores: dict[str, dict[str, list[float]]],
    name: str,
    truth: Floats,
    known: Mapping[str, Floats],
    worths: Floats,
    *,
    images: int,
    seconds: float = 0.0,
    sampled: bool = False,
) -> None:
    share = shares(np.clip(worths, 0, None))  # a word that works against the image has no share of it
    shared = bool(np.isfinite(share).all())
    row = {
        "ranks aligned": ranks_aligned(truth, share) if shared else np.nan,
        "RMSE": rmse(truth, share) if shared else np.nan,
        **{f"like {other}": rank_correlation(theirs, worths) for other, theirs in known.items()},
        "images": float(images),
        "seconds": seconds,
    }
    if sampled:
        size = float(np.linalg.norm(known["shapley"]))
        row["error"] = float(np.linalg.norm(worths - known["shapley"])) / size if size else np.nan
    found = scores.setdefault(name, {measure: [] for measure in row})
    for measure, value in row.items():
        found[measure].append(float(value))
