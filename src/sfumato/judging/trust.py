"""How far can an explanation be trusted? Every check with its control, added to the explanation as nodes of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from sfumato.bounds import checked_int, checked_number
from sfumato.caching.cache import Cache, default_folder
from sfumato.caching.images import Generator
from sfumato.errors import OptionError, SfumatoError
from sfumato.judging import randomising, removal, steadiness
from sfumato.judging.again import methods_of
from sfumato.judging.checks import CheckResult
from sfumato.judging.judge import refuse_another
from sfumato.judging.maps import named_maps
from sfumato.models.model import Model
from sfumato.option_values import COUNT
from sfumato.progress import Progress, silent
from sfumato.results.explanation import Explanation

CHECKS = ("removal", "randomisation", "seeds", "noise")
NODE = "trust"
OWN = (NODE, removal.NODE, randomising.NODE, "shares_by_seed")
"""Nodes that checks add; those of earlier checks go, since their numbers go too."""


@dataclass(frozen=True)
class Trust:
    """What the checks gave.

    Attributes:
        explanation: The one that was checked, with a node "trust" and what the checks kept beside it.
        measured: Every number.
        left_out: Checks that do not fit, each with the reason.
    """

    explanation: Explanation
    measured: tuple[CheckResult, ...]
    left_out: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """A row for each number."""
        return [one.row() for one in self.measured]


def trust(
    model: Model,
    explanation: Explanation,
    checks: Sequence[str] | None = None,
    *,
    repeats: int = steadiness.REPEATS,
    stages: int = randomising.STAGES,
    strength: float = steadiness.STRENGTH,
    progress: Progress = silent,
) -> Trust:
    """Check an explanation.

    Args:
        model: The one that made it.
        explanation: Of one image.
        checks: Some of `CHECKS`; all that fit.
        repeats: How many other seeds, and how many small changes of the noise.
        stages: In how many parts the weights are randomised.
        strength: Of a small change of the noise, above 0, below 1.
        progress: Told about every image.

    Raises:
        OptionError: A check or a number is not possible.
        SfumatoError: The explanation is of another model, of several images, or has nothing that can be checked.
    """
    chosen, left_out = settled(model, explanation, checks, repeats, stages, strength)
    found: list[CheckResult] = []
    nodes: dict[str, xr.Dataset] = {}
    if "removal" in chosen:
        done = removal.removal(model, explanation, Generator(model, Cache(default_folder())), progress)
        found += done.measured()
        nodes[removal.NODE] = done.node()
    if "randomisation" in chosen:
        rows, nodes[randomising.NODE] = randomising.randomisation(model, explanation, stages=stages, progress=progress)
        found += rows
    if {"seeds", "noise"} & set(chosen):
        others = steadiness.other_seeds(model, explanation, repeats, progress)
        if "seeds" in chosen:
            rows, more = steadiness.seeds(explanation, others)
            found += rows
            nodes |= more
        if "noise" in chosen:
            found += steadiness.noise(model, explanation, others, repeats=repeats, strength=strength, progress=progress)
    nodes[NODE] = node_of(found)
    kept = {node.path: node.to_dataset(inherit=False) for node in explanation.tree.subtree}
    kept = {path: data for path, data in kept.items() if path.strip("/") not in OWN}
    tree = xr.DataTree.from_dict(kept | {f"/{name}": data for name, data in nodes.items()})
    settings = {"checks": list(chosen), "repeats": repeats, "stages": stages, "strength": strength}
    checked = Explanation(tree, explanation.request, explanation.provenance | {"checked": settings})
    return Trust(checked, tuple(found), left_out)


def settled(
    model: Model, explanation: Explanation, checks: Sequence[str] | None, repeats: int, stages: int, strength: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The checks that are made, and those that make no sense here, each with the reason; arguments as of ``trust``.

    Raises:
        OptionError: A check or a number is not possible.
        SfumatoError: The explanation cannot be checked, or not by a check that was asked for.
    """
    chosen = CHECKS if checks is None else tuple(dict.fromkeys(checks))
    if not chosen:
        raise OptionError(f"no check is chosen; choose from: {', '.join(CHECKS)}")
    if wrong := [name for name in chosen if name not in CHECKS]:
        raise OptionError(f"there is no check {wrong[0]!r}; choose from: {', '.join(CHECKS)}")
    for name, value in (("repeats", repeats), ("stages", stages)):
        checked_int(name, value, **COUNT, error=OptionError)
    checked_number("strength", strength, OptionError, above=0, below=1)
    if explanation.request.images != 1:
        raise SfumatoError(f"this explanation has {explanation.request.images} images; select one of them first")
    refuse_another(model, explanation)
    methods_of(explanation)
    named_maps(explanation)
    unfit = {name: reason for name, reason in _unfit(model, explanation).items() if name in chosen}
    if unfit and checks is not None:
        name = next(iter(unfit))
        raise SfumatoError(f"{name} cannot be checked: {unfit[name]}; leave it out")
    return tuple(name for name in chosen if name not in unfit), tuple(f"{name}: {why}" for name, why in unfit.items())


def _unfit(model: Model, explanation: Explanation) -> dict[str, str]:
    """Checks that make no sense for an explanation, each with the reason."""
    found = {}
    if not removal.mapped(model, explanation):
        found["removal"] = "the explanation has no maps of the prompt's words"
    if explanation.request.variation is not None:
        found["noise"] = "the explanation is of a variation, so its noise is changed already"
    return found


def cost(explanation: Explanation, model: Model, checks: Sequence[str], repeats: int, stages: int) -> str:
    """What the checks cost, in words."""
    words = len(removal.mapped(model, explanation))
    runs = stages * ("randomisation" in checks) + repeats * bool({"seeds", "noise"} & set(checks))
    runs += repeats * ("noise" in checks)
    images = words * ("removal" in checks)
    methods = " and ".join(name for name, _ in methods_of(explanation))
    return f"{images} images without a word and {runs} runs of {methods}"


def node_of(found: Sequence[CheckResult]) -> xr.Dataset:
    """The numbers with their intervals (number, end), ends being mean, low and high."""
    intervals: Mapping[str, list[Any]] = {
        name: [getattr(one, name) for one in found] for name in ("value", "control", "gain")
    }
    arrays: dict[str, Any] = {
        name: (("number", "end"), np.array([[one.mean, one.low, one.high] for one in some], np.float64).reshape(-1, 3))
        for name, some in intervals.items()
    }
    texts = {"check": "check", "number": "what", "against": "against", "wanted": "wanted", "verdict": "verdict"}
    arrays |= {new: ("number", [str(getattr(one, old)) for one in found]) for old, new in texts.items()}
    arrays["n"] = ("number", np.array([one.value.n for one in found], np.int64))
    return xr.Dataset(arrays, coords={"end": ["mean", "low", "high"]})
