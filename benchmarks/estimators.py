"""How many coalitions does each estimator need? Error against distinct coalitions, on games with interactions.

Three kinds of games whose Shapley values are computed exactly beside them: saturating ones (the first words say most),
ones with pairs that help or hinder each other, and thresholds (nothing until enough words are there). Run as

    .venv/bin/python benchmarks/estimators.py [--players 4 6 8 10 12 14] [--games 20]
    .venv/bin/python benchmarks/estimators.py --prompts 4 --players 6 7 8

The second plays real games instead: held-out prompts of the embedded model with so many words, all of whose images are
made (and kept in the cache), so that the true Shapley values are known.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sfumato
from sfumato.caching.cache import Cache, default_folder
from sfumato.caching.images import Generator
from sfumato.errors import OptionError
from sfumato.games import plan, play
from sfumato.games.coalitions import all_coalitions, numbers
from sfumato.games.estimators.exact import shapley_values
from sfumato.games.players import players_of
from sfumato.games.values import PromptValue
from sfumato.request import Request
from sfumato.similarity import similarity
from sfumato.studio.scenes import held_out_captions

ESTIMATORS = ("kernel", "leverage", "permutation", "monte-carlo")
LIMITS = (0.05, 0.01)
Value = Callable[[NDArray[np.bool_]], NDArray[np.float64]]


def saturating(players: int, draw: np.random.Generator) -> Value:
    """1 - exp(-sum of strengths): every word adds less, the more are there."""
    strength = draw.exponential(3 / players, players)
    return lambda s: np.asarray(1 - np.exp(-(s @ strength)))


def pairwise(players: int, draw: np.random.Generator) -> Value:
    """A sum of words and of pairs of words, of which some help and some hinder each other."""
    alone, pairs = draw.exponential(1, players), np.triu(draw.normal(0, 1, (players, players)), 1)
    scale = alone.sum()
    return lambda s: np.asarray((s @ alone + np.einsum("ni,ij,nj->n", s * 1.0, pairs, s * 1.0)) / scale)


def threshold(players: int, draw: np.random.Generator) -> Value:
    """A steep rise once half of the strength is there."""
    strength = draw.dirichlet(np.full(players, 2.0))
    return lambda s: np.asarray(1 / (1 + np.exp(-12 * (s @ strength - 0.5))))


KINDS = {"saturating": saturating, "pairs": pairwise, "threshold": threshold}


def error(value: Value, truth: NDArray[np.float64], name: str, budget: int, seed: int) -> tuple[float, int]:
    """The relative error of an estimate, and how many coalitions it took."""
    played = play(value, plan(len(truth), estimator=name, budget=budget, seed=seed), batch=1 << 16)
    miss = np.linalg.norm(played.estimate.phi - truth) / np.linalg.norm(truth)
    return float(miss), len(played.plan.coalitions)


def budgets(players: int) -> list[int]:
    """From the least that all estimators take to all coalitions, each a fifth larger."""
    found, budget = [], float(2 * players)
    while budget < 2**players:
        found.append(round(budget))
        budget *= 1.2
    return [*found, 2**players]


def drawn(kind: str, players: int, games: int) -> list[Value]:
    """Synthetic games of a kind."""
    return [KINDS[kind](players, np.random.default_rng([players, seed])) for seed in range(games)]


def of_prompts(players: int, games: int) -> list[Value]:
    """The games of held-out prompts with so many words, by CLIP similarity, read from a table of all coalitions."""
    model = sfumato.load()
    generator, measure = Generator(model, Cache(default_folder())), similarity("clip", model)
    found: list[Value] = []
    for seed, caption in enumerate(held_out_captions(240)):
        words = players_of(model.tokens(caption))
        if len(words) == players and len(found) < games:
            value = PromptValue(generator, model.complete(Request(caption, seed=seed)), words, measure)
            rows = all_coalitions(players)
            table = np.concatenate([value(rows[start : start + 8]) for start in range(0, len(rows), 8)])
            found.append(lambda s, table=table: table[numbers(s)])
            print(f"{caption!r}: {len(table)} coalitions", file=sys.stderr)
    return found


def needed(made: list[Value], players: int, name: str) -> dict[str, int | None]:
    """The least budget from which the median error over games stays below each limit."""
    truths = [shapley_values(value(all_coalitions(players)), players) for value in made]
    medians = []
    for budget in budgets(players):
        try:
            errors = [error(v, t, name, budget, seed)[0] for seed, (v, t) in enumerate(zip(made, truths, strict=True))]
        except OptionError:
            errors = [np.inf]
        medians.append((budget, float(np.median(errors))))
    found: dict[str, int | None] = {}
    for limit in LIMITS:
        above = [number for number, (_, median) in enumerate(medians) if median > limit]
        place = above[-1] + 1 if above else 0
        found[f"{limit:.0%}"] = medians[place][0] if place < len(medians) else None
    return found


def main(arguments: list[str]) -> int:
    """Print one table for each kind of game."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--players", type=int, nargs="+", default=[4, 6, 8, 10, 12, 14])
    parser.add_argument("--games", type=int, default=20)
    parser.add_argument("--prompts", type=int, help="play so many real prompts for each number of words")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    results: list[dict[str, Any]] = []
    for kind in KINDS if given.prompts is None else ["prompts"]:
        if not given.json:
            count = given.games if given.prompts is None else given.prompts
            print(f"\n{kind}: coalitions until the median error over {count} games is below 5% / 1%")
            print("| players (all) | " + " | ".join(ESTIMATORS) + " |\n|" + " --- |" * (len(ESTIMATORS) + 1))
        for players in given.players:
            made = drawn(kind, players, given.games) if given.prompts is None else of_prompts(players, given.prompts)
            row = {name: needed(made, players, name) for name in ESTIMATORS}
            results.append({"kind": kind, "players": players, "needed": row})
            if not given.json:
                cells = [f"{found['5%']} / {found['1%']}" for found in row.values()]
                print(f"| {players} ({2**players}) | " + " | ".join(cells) + " |", flush=True)
    if given.json:
        print(json.dumps(results, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
