"""How many coalitions does each estimator need? Error against distinct coalitions, on games with interactions.

Three kinds of games whose Shapley values are computed exactly beside them: saturating ones (the first words say most),
ones with pairs that help or hinder each other, and thresholds (nothing until enough words are there). Run as

    .venv/bin/python benchmarks/estimators.py [--players 6 8 10 12] [--games 20]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import OptionError
from sfumato.games import plan, play
from sfumato.games.coalitions import every
from sfumato.games.estimators.exact import shapley

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


def needed(kind: str, players: int, name: str, games: int) -> dict[str, int | None]:
    """The least budget from which the median error over games stays below each limit."""
    made = [KINDS[kind](players, np.random.default_rng([players, seed])) for seed in range(games)]
    truths = [shapley(value(every(players)), players) for value in made]
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
    parser.add_argument("--players", type=int, nargs="+", default=[6, 8, 10, 12])
    parser.add_argument("--games", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    results: list[dict[str, Any]] = []
    for kind in KINDS:
        if not given.json:
            print(f"\n{kind}: coalitions until the median error over {given.games} games is below 5% / 1%")
            print("| players (all) | " + " | ".join(ESTIMATORS) + " |\n|" + " --- |" * (len(ESTIMATORS) + 1))
        for players in given.players:
            row = {name: needed(kind, players, name, given.games) for name in ESTIMATORS}
            results.append({"kind": kind, "players": players, "needed": row})
            if not given.json:
                cells = [f"{found['5%']} / {found['1%']}" for found in row.values()]
                print(f"| {players} ({2**players}) | " + " | ".join(cells) + " |", flush=True)
    if given.json:
        print(json.dumps(results, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
