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
from sfumato.findings import one_by_one, remembered
from sfumato.judging.games import Curve
from sfumato.judging.judge import Played, Verdict, judge
from sfumato.methods.df_rise import CHOICES
from sfumato.models.model import Model
from sfumato.option_values import COUNT
from sfumato.progress import Progress, silent
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.joining import join
from sfumato.results.rows import plain_rows
from sfumato.saliency.nodes import NODES
from sfumato.studio.scenes import held_out_captions

POINTS = 16
MASKS = 200
SAMPLES = 200
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
    """
    if compare == "similarities":
        return tuple(Contender("df_rise", {"masks": masks, "similarity": name}, name) for name in CHOICES["similarity"])
    kinds = ("lime", "gradient", "integrated_gradients", "attention")
    return (
        Contender("df_rise", {"masks": masks}),
        Contender("df_rise", {"masks": masks, "masking": "grid", "grid": 5}, "grid"),
        Contender("df_cam", {}),
        Contender("step_baselines", {"samples": masks, "kinds": kinds}),
    )


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

    Results of a prompt are kept in the cache, so a run that was stopped goes on.

    Args:
        model: One that draws studio scenes.
        prompts: How many held-out prompts.
        compare: See `contenders`.
        seed: Of the first image; image i has ``seed + i``.
        masks: Random masks of DF-RISE, and coalitions of LIME.
        progress: Told about every prompt.

    Raises:
        OptionError: No prompt, or too few masks, are asked for, or there is no such comparison.
    """
    checked_int("prompts", prompts, **COUNT, error=OptionError)
    if compare not in COMPARED:
        raise OptionError(f"compare is {compare!r}; choose from: {', '.join(COMPARED)}")
    captions = held_out_captions(prompts)
    requests = [model.complete(Request(one, seed=seed + number)) for number, one in enumerate(captions)]
    count = model.steps(requests[0])
    steps = (count // 4, count // 2, 3 * count // 4)
    known = contenders(compare, masks)

    def work(request: Request) -> dict[str, NDArray[np.uint8]]:
        found = _played(model, request, steps, known)
        return {"json": np.frombuffer(json.dumps(found).encode(), np.uint8)}

    cache, told = Cache(default_folder()), partial(progress, "prompts")
    name = "bench steps" if compare == "methods" else f"bench steps, {compare}"
    entries = remembered(model, name, requests, one_by_one(work), cache, told, masks=masks, points=POINTS)
    played: list[Played] = []
    calls: dict[str, list[float]] = {}
    for number, entry in enumerate(entries):
        found = json.loads(entry["json"].tobytes())
        for one in found["curves"]:
            curve = Curve(one["game"], one["measure"], np.array(one["shares"]), np.array(one["values"]))
            played.append(Played(number, one["step"], one["map"], curve))
        for label, each in found["calls"].items():
            calls.setdefault(label, []).append(each)
    means = {label: float(np.mean(values)) for label, values in calls.items()}
    return StepsBench(model.source.name, prompts, steps, Verdict(tuple(played)), means)


def _played(model: Model, request: Request, steps: tuple[int, ...], known: tuple[Contender, ...]) -> dict[str, Any]:
    """The curves of one prompt as plain numbers, and the calls that each map of a step took."""
    explained = join([_noted(explain(model, request, one.method, at=steps, **one.options), one.note) for one in known])
    verdict = judge(model, [explained], at=steps, distances=DISTANCES, points=POINTS)
    nodes = explained.tree["saliency"].children
    calls = {name: node.attrs["denoiser_calls"] / len(steps) for name, node in nodes.items()}
    return {"curves": verdict.curves(), "calls": calls}


def _noted(explanation: Explanation, note: str) -> Explanation:
    """An explanation whose maps carry a note in their names."""
    if not note:
        return explanation
    maps = explanation.tree[NODES].children
    nodes = {f"/{NODES}/{name} ({note})": node.to_dataset() for name, node in maps.items()}
    nodes["/image"] = explanation.tree["image"].to_dataset()
    return Explanation(xr.DataTree.from_dict(nodes), explanation.request, explanation.provenance)
