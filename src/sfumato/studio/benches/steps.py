"""Which saliency of a step says most? Deletion and insertion games for every method and control, on studio prompts.

With `compare` "similarities", all contenders are DF-RISE, each with another similarity: the ablation of Park et al.
2024, figure 5.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sfumato.bounds import checked_int
from sfumato.cache import Cache, default_folder
from sfumato.errors import OptionError
from sfumato.explain import explain
from sfumato.findings import one_by_one, remembered, settings_of
from sfumato.judging.games import GAMES, Curve
from sfumato.judging.judge import CONTROLS, Played, Verdict, judge
from sfumato.methods.costs import runs
from sfumato.methods.df_rise import CHOICES
from sfumato.methods.step_baselines import StepBaselinesOptions
from sfumato.models.model import Model
from sfumato.option_values import COUNT
from sfumato.progress import Progress, silent
from sfumato.registry import find
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.rows import plain_rows
from sfumato.saliency.nodes import NODES
from sfumato.studio.scenes import held_out_captions

POINTS = 16
MASKS = 200
DISTANCES = ("local_ssim", "features")
Compare = Literal["methods", "similarities"]
COMPARED: tuple[Compare, ...] = ("methods", "similarities")


@dataclass(frozen=True)
class Contender:
    """A method with its options; `note` tells its maps from those of others of the same method."""

    method: str
    options: Mapping[str, Any]
    note: str = ""


def contenders(compare: Compare, masks: int) -> tuple[Contender, ...]:
    """What is compared.

    Args:
        compare: All methods, or DF-RISE with each of its similarities.
        masks: Random masks of DF-RISE, and coalitions of LIME.

    Raises:
        OptionError: There is no such comparison.
    """
    if compare not in COMPARED:
        raise OptionError(f"compare is {compare!r}; choose from: {', '.join(COMPARED)}")
    if compare == "similarities":
        return tuple(Contender("df_rise", {"masks": masks, "similarity": name}, name) for name in CHOICES["similarity"])
    kinds = ("lime", "gradient", "integrated_gradients", "attention")
    return (
        Contender("df_rise", {"masks": masks}),
        Contender("df_rise", {"masks": masks, "masking": "grid", "grid": 5}, "grid"),
        Contender("df_cam", {}),
        Contender("step_baselines", {"samples": masks, "kinds": kinds}),
    )


PLAIN = Contender("step_baselines", {"kinds": CONTROLS})
"""The controls, which every map is compared with."""


@dataclass(frozen=True)
class StepsBench:
    """The verdict, and what each map cost."""

    model: str
    prompts: int
    steps: tuple[int, ...]
    verdict: Verdict
    calls: dict[str, float]

    @property
    def title(self) -> str:
        """One line for people."""
        steps = ", ".join(map(str, self.steps))
        return f"saliency of steps {steps} on {self.prompts} held-out prompts of {self.model}: games in {POINTS} parts"

    def rows(self) -> list[dict[str, Any]]:
        """One row for each game, measure and map, with the cost in rows of the denoiser for each step."""
        return [row | {"calls": round(self.calls.get(row["map"], 0.0), 1)} for row in self.verdict.rows()]

    def to_json(self) -> str:
        """Everything as JSON text."""
        about = {"model": self.model, "prompts": self.prompts, "steps": list(self.steps)}
        return json.dumps(about | {"rows": plain_rows(self.rows())}, indent=2)


def bench_steps(
    model: Model,
    prompts: int = 30,
    *,
    compare: Compare = "methods",
    seed: int = 0,
    masks: int = MASKS,
    progress: Progress = silent,
) -> StepsBench:
    """Explain three steps of every prompt by every contender, and play both games on every map.

    What each method found for a prompt is kept in the cache, so a run that was stopped goes on within a prompt.

    Args:
        model: One that draws studio scenes.
        prompts: How many held-out prompts.
        compare: See `contenders`.
        seed: Of the first image; image i has ``seed + i``.
        masks: Random masks of DF-RISE, and coalitions of LIME.
        progress: Called after every mask, game and map.

    Raises:
        OptionError: No prompt, or too few masks, are asked for, or there is no such comparison.
    """
    checked_int("prompts", prompts, **COUNT, error=OptionError)
    requests, steps = _requests(model, prompts, seed)
    known = (*contenders(compare, masks), PLAIN)
    cache, total, quiet = Cache(default_folder()), prompts * len(known), partial(silent, "maps")
    entries = []
    for number, request in enumerate(requests):
        for place, one in enumerate(known):
            work = one_by_one(partial(_played, model, steps=steps, one=one, progress=progress))
            chosen = find(one.method)
            options = settings_of(chosen.configure({"at": steps, **one.options}))
            about: dict[str, Any] = {"methods": [chosen], "options": options, "note": one.note}
            (entry,) = remembered(model, "bench steps", [request], work, cache, quiet, points=POINTS, **about)
            entries.append((number, entry))
            progress("maps of all prompts", number * len(known) + place + 1, total)
    played: list[Played] = []
    calls: dict[str, list[float]] = {}
    for number, entry in entries:
        found = json.loads(entry["json"].tobytes())
        for one in found["curves"]:
            curve = Curve(one["game"], one["measure"], np.array(one["shares"]), np.array(one["values"]))
            played.append(Played(number, one["step"], one["map"], curve))
        for label, each in found["calls"].items():
            calls.setdefault(label, []).append(each)
    means = {label: float(np.mean(values)) for label, values in calls.items()}
    return StepsBench(model.source.name, prompts, steps, Verdict(tuple(played)), means)


def bench_cost(
    model: Model, prompts: int = 30, *, compare: Compare = "methods", seed: int = 0, masks: int = MASKS
) -> list[str]:
    """What the bench costs for each prompt, a line for each method and one for the games, and for all prompts."""
    requests, steps = _requests(model, prompts, seed)
    request, lines, maps = requests[0], [], 0
    known = (*contenders(compare, masks), PLAIN)
    for one in known:
        method = find(one.method)
        options = method.configure({"at": steps, **one.options})
        maps += len(options.kinds) if isinstance(options, StepBaselinesOptions) else 1
        lines.append(f"{one.method}{f' ({one.note})' if one.note else ''}: {method.cost(model, request, options)}")
    each = len(steps) * len(GAMES) * (POINTS + 1) * len(model.branches(request).names)
    lines.append(
        f"games: {runs(model, request, len(known))}, then {maps * each} calls for {maps} maps at {len(steps)} steps, "
        "batched"
    )
    return [*lines, f"all of it for each of {prompts} prompts, less where it was computed before"]


def _requests(model: Model, prompts: int, seed: int) -> tuple[list[Request], tuple[int, ...]]:
    """The completed requests, and the steps that are looked at."""
    captions = held_out_captions(prompts)
    requests = [model.complete(Request(one, seed=seed + number)) for number, one in enumerate(captions)]
    count = model.steps(requests[0])
    return requests, (count // 4, count // 2, 3 * count // 4)


def _played(
    model: Model, request: Request, *, steps: tuple[int, ...], one: Contender, progress: Progress
) -> dict[str, NDArray[np.uint8]]:
    """The curves of one method on one prompt, and the calls that each map of a step took, as JSON."""
    explained = _noted(explain(model, request, one.method, at=steps, progress=progress, **one.options), one.note)
    verdict = judge(model, [explained], at=steps, distances=DISTANCES, points=POINTS, controls=(), progress=progress)
    nodes = explained.tree["saliency"].children
    calls = {name: node.attrs["denoiser_calls"] / len(steps) for name, node in nodes.items()}
    found = {"curves": verdict.curves(), "calls": calls}
    return {"json": np.frombuffer(json.dumps(found).encode(), np.uint8)}


def _noted(explanation: Explanation, note: str) -> Explanation:
    """An explanation whose maps carry a note in their names."""
    if not note:
        return explanation
    maps = explanation.tree[NODES].children
    nodes = {f"/{NODES}/{name} ({note})": node.to_dataset() for name, node in maps.items()}
    nodes["/image"] = explanation.tree["image"].to_dataset()
    return Explanation(xr.DataTree.from_dict(nodes), explanation.request, explanation.provenance)
