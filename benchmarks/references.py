"""Is our default estimator as good as those of shap and captum? Error at the same number of distinct coalitions.

    .venv/bin/python benchmarks/references.py [--players 6 8 10] [--games 20] [--json]

Each contender gets the games of ``estimators.py`` and as many distinct coalitions as a quarter and a half of all.
shap's and captum's Kernel SHAP take a number of samples, captum's ``ShapleyValueSampling`` one of permutations: each
gets the largest number that stays within the budget, so none is charged for a coalition that it asks for twice.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks import peers
from benchmarks.estimators import KINDS, Value
from sfumato.errors import OptionError
from sfumato.games import plan, play
from sfumato.games.coalitions import all_coalitions
from sfumato.games.estimators.exact import shapley_values

Floats = NDArray[np.float64]
SHARES = (0.25, 0.5)
EXACT = 1e-9
"""Up to here an error is rounding: a paired regression finds games of pairs exactly, and no ratio means anything."""


class Counted:
    """A game that counts the distinct coalitions that it was asked for."""

    def __init__(self, value: Value) -> None:
        self.value = value
        self.asked: set[bytes] = set()

    def __call__(self, rows: Any) -> Floats:
        """Values of rows of 0 and 1."""
        members = np.asarray(rows).reshape(-1, np.shape(rows)[-1]) > 0.5
        self.asked |= {row.tobytes() for row in members}
        return self.value(members)


def sfumato_kernel(game: Counted, players: int, samples: int, seed: int) -> Floats:
    """Ours: the default estimator above 6 players."""
    phi: Floats = play(game, plan(players, estimator="kernel", budget=samples, seed=seed), batch=1 << 16).estimate.phi
    return phi


def shap_kernel(game: Counted, players: int, samples: int, seed: int) -> Floats:
    """``shap.KernelExplainer`` with all regularisation off."""
    import shap

    np.random.seed(seed)  # shap draws from the global state
    explainer = shap.KernelExplainer(game, np.zeros((1, players)))
    found = explainer.shap_values(np.ones((1, players)), nsamples=samples, l1_reg=False, silent=True)
    return np.asarray(found).reshape(-1)


def captum_kernel(game: Counted, players: int, samples: int, seed: int) -> Floats:
    """``captum.attr.KernelShap``."""
    from captum.attr import KernelShap

    return _captum(KernelShap, game, players, samples, seed)


def captum_permutations(game: Counted, players: int, samples: int, seed: int) -> Floats:
    """``captum.attr.ShapleyValueSampling``; a sample is a permutation."""
    from captum.attr import ShapleyValueSampling

    return _captum(ShapleyValueSampling, game, players, samples, seed)


def _captum(sampler: Any, game: Counted, players: int, samples: int, seed: int) -> Floats:
    import torch

    def forward(rows: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(game(rows.numpy()))

    torch.manual_seed(seed)
    here = torch.ones(1, players, dtype=torch.float64)
    found = sampler(forward).attribute(here, baselines=torch.zeros_like(here), n_samples=samples)
    return np.asarray(found.numpy(), np.float64).reshape(-1)


CONTENDERS: dict[str, Callable[[Counted, int, int, int], Floats]] = {
    "sfumato kernel": sfumato_kernel,
    "shap KernelExplainer": shap_kernel,
    "captum KernelShap": captum_kernel,
    "captum ShapleyValueSampling": captum_permutations,
}


def error(contender: str, value: Value, players: int, budget: int, seed: int) -> float:
    """The relative error with the largest number of samples whose distinct coalitions stay within the budget."""
    truth = shapley_values(value(all_coalitions(players)), players)
    call = CONTENDERS[contender]
    best = np.inf
    low, high = 1, 4 * budget
    while low <= high:  # distinct coalitions grow with the samples
        samples = (low + high) // 2
        game = Counted(value)
        try:
            phi = call(game, players, samples, seed)
        except OptionError:  # too few samples for ours
            low = samples + 1
            continue
        if len(game.asked) <= budget:
            best = float(np.linalg.norm(phi - truth) / np.linalg.norm(truth))
            low = samples + 1
        else:
            high = samples - 1
    return best


def main() -> int:
    """Compare, in the environment of the peers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--players", type=int, nargs="+", default=[6, 8, 10])
    parser.add_argument("--games", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if find_spec("shap") is None:
        environment = peers.prepare(Console(stderr=True).print)
        for wanted, failure in environment.failures.items():
            print(f"{wanted} does not install: {failure}", file=sys.stderr)
        return peers.run(environment, "benchmarks.references", *sys.argv[1:])
    warnings.simplefilter("ignore")
    logging.getLogger("shap").setLevel(logging.ERROR)
    rows = []
    for kind, make in KINDS.items():
        for players in given.players:
            for share in SHARES:
                budget = round(share * 2**players)
                row: dict[str, Any] = {"game": kind, "players": players, "coalitions": budget}
                for name in CONTENDERS:
                    games = [make(players, np.random.default_rng([players, seed])) for seed in range(given.games)]
                    errors = [error(name, game, players, budget, seed) for seed, game in enumerate(games)]
                    row[name] = float(np.median(errors))
                rows.append(row)
                print(f"{kind}, {players} players, {budget} coalitions", file=sys.stderr)
    if given.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = Table(title=f"Median error over {given.games} games, and as a multiple of ours")
    for heading in ("game", "players", "coalitions", *CONTENDERS):
        table.add_column(heading, justify="left" if heading == "game" else "right")
    for row in rows:
        ours = row["sfumato kernel"]
        cells = [f"{row[name]:.1%}" + (f" ({row[name] / ours:.1f})" if ours > EXACT else "") for name in CONTENDERS]
        table.add_row(row["game"], str(row["players"]), str(row["coalitions"]), *cells)
    Console(width=None if sys.stdout.isatty() else 130).print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
