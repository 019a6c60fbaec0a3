"""Is an explanation steady? The same request from other seeds, and from a starting noise that is hardly another one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sfumato.judging.again import again
from sfumato.judging.checks import Measured, alike, by_chance, measured
from sfumato.judging.maps import named_maps, shares_of
from sfumato.models.model import Model
from sfumato.progress import Progress, silent
from sfumato.request import SEEDS
from sfumato.results.explanation import Explanation

REPEATS = 4
STRENGTH = 0.05
"""Of the variation that a small change of the noise is; see `sfumato.Request`."""

Maps = Mapping[str, NDArray[np.float64]]


def other_seeds(model: Model, explanation: Explanation, repeats: int, progress: Progress = silent) -> list[Explanation]:
    """The explanation made again from the seeds that follow its own."""
    request = model.complete(explanation.request)
    found = []
    for number in range(repeats):
        seed = (request.seed + 1 + number) % (SEEDS - 1)
        found.append(again(model, explanation, request.with_(seed=seed)))
        progress("other seeds", number + 1, repeats)
    return found


def seeds(explanation: Explanation, others: Sequence[Explanation]) -> tuple[list[Measured], dict[str, xr.Dataset]]:
    """How much words' shares, and maps, differ from seed to seed.

    Shares: the mean deviation of a word's share from its mean over seeds, against that of the words' means from each
    other. Maps: the rank correlation of a map with that of another seed, against the maps of other words (or, where
    there is one map alone, against random maps).
    """
    every = [explanation, *others]
    rows, nodes = [], {}
    known = [shares_of(one) for one in every]
    if known[0] and all(list(one) == list(known[0]) for one in known):
        shares = np.array([list(one.values()) for one in known])  # (seed, word)
        mean = shares.mean(0)
        within, between = np.abs(shares - mean).mean(0), np.abs(mean - mean.mean())
        number = "how far shares move by seed"
        rows.append(measured("seeds", number, list(within), "how far words are apart", list(between), "below"))
        nodes["shares_by_seed"] = xr.Dataset(
            {"share": (("seed", "word"), shares)},
            coords={"seed": [one.request.seed for one in every], "word": list(known[0])},
        )
    maps = [named_maps(one) for one in every]
    own, control, groups = [], [], []
    names = [name for name in maps[0] if all(name in one for one in maps)]
    for first, second in itertools.combinations(range(len(every)), 2):
        table = alike(*([maps[seed][name] for name in names] for seed in (first, second)))
        for place, name in enumerate(names):
            own.append(float(table[place, place]))
            wrong = np.delete(table[place], place)
            fitting = wrong[np.isfinite(wrong)]
            control.append(float(fitting.mean()) if fitting.size else by_chance(maps[first][name], second))
            groups.append(name)
    several = "maps of other words" if "words" in explanation.tree.children else "the other maps"
    against = several if len(names) > 1 else "random maps"
    number = "rank agreement by seed"
    rows.append(measured("seeds", number, own, against, control, "above", groups if len(names) > 1 else None))
    return rows, nodes


def noise(
    model: Model,
    explanation: Explanation,
    others: Sequence[Explanation],
    *,
    repeats: int = REPEATS,
    strength: float = STRENGTH,
    progress: Progress = silent,
) -> list[Measured]:
    """The largest change of a map under small changes of the starting noise (max-sensitivity, Yeh et al. 2019).

    Args:
        model: The one that made the explanation.
        explanation: Of one image, with maps.
        others: The same from other seeds: the control, since there the noise is another one altogether.
        repeats: How many small changes.
        strength: Of each.
        progress: Told about every one.
    """
    request = model.complete(explanation.request)
    maps = named_maps(explanation)
    moved = []
    for turn in range(repeats):
        changed = request.with_(variation=((request.seed + 1 + turn) % (SEEDS - 1), strength))
        moved.append(named_maps(again(model, explanation, changed)))
        progress("changed noise", turn + 1, repeats)
    known = [named_maps(one) for one in others]
    small, large = ([_largest(maps, name, runs) for name in maps] for runs in (moved, known))
    number = f"largest change at {strength:g} of the noise"
    return [measured("noise", number, small, "noise of another seed", large, "below")]


def _largest(maps: Maps, name: str, runs: Sequence[Maps]) -> float:
    size = float(np.linalg.norm(maps[name]))
    found = [float(np.linalg.norm(run[name] - maps[name])) / size for run in runs if name in run] if size else []
    return max(found, default=float("nan"))
