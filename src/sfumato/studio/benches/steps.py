"""Which saliency of a step says most? Deletion and insertion games for every method and control, on studio prompts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sfumato.cache import Cache, default_folder
from sfumato.errors import OptionError
from sfumato.experiments.experiment import remembered
from sfumato.explain import explain
from sfumato.judging.games import Curve
from sfumato.judging.judge import Played, Verdict, judge
from sfumato.models.model import Model
from sfumato.progress import Progress, silent
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.joining import join
from sfumato.studio.scenes import held_out_captions

POINTS = 16
MASKS = 200
SAMPLES = 200
DISTANCES = ("ssim", "features")
GRID = "saliency/df_rise (grid)"


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
        return json.dumps(
            {"model": self.model, "prompts": self.prompts, "steps": list(self.steps), "rows": self.rows()}, indent=2
        )


def bench_steps(
    model: Model, prompts: int = 30, *, seed: int = 0, masks: int = MASKS, progress: Progress = silent
) -> StepsBench:
    """Explain three steps of every prompt by every method, and play both games on every map.

    Results of a prompt are kept in the cache, so a run that was stopped goes on.

    Args:
        model: One that draws studio scenes.
        prompts: How many held-out prompts.
        seed: Of the first image; image i has ``seed + i``.
        masks: Random masks of DF-RISE, and coalitions of LIME.
        progress: Told about every prompt.

    Raises:
        OptionError: No prompt, or too few masks, are asked for.
    """
    if isinstance(prompts, bool) or prompts < 1:
        raise OptionError(f"prompts is {prompts}; expected a whole number, 1 or more")
    captions = held_out_captions(prompts)
    requests = [model.complete(Request(one, seed=seed + number)) for number, one in enumerate(captions)]
    count = model.steps(requests[0])
    steps = (count // 4, count // 2, 3 * count // 4)

    def work(request: Request) -> dict[str, NDArray[np.uint8]]:
        found = _played(model, request, steps, masks)
        return {"json": np.frombuffer(json.dumps(found).encode(), np.uint8)}

    cache, told = Cache(default_folder()), partial(progress, "prompts")
    entries = remembered(model, "bench steps", requests, work, cache, told, masks=masks, points=POINTS)
    played: list[Played] = []
    calls: dict[str, list[float]] = {}
    for number, entry in enumerate(entries):
        found = json.loads(entry["json"].tobytes())
        for one in found["curves"]:
            curve = Curve(one["game"], one["measure"], np.array(one["shares"]), np.array(one["values"]))
            played.append(Played(number, one["step"], one["map"], curve))
        for name, each in found["calls"].items():
            calls.setdefault(name, []).append(each)
    means = {name: float(np.mean(values)) for name, values in calls.items()}
    return StepsBench(model.source.name, prompts, steps, Verdict(tuple(played)), means)


def _played(model: Model, request: Request, steps: tuple[int, ...], masks: int) -> dict[str, Any]:
    """The curves of one prompt as plain numbers, and the calls that each map of a step took."""
    iid = explain(model, request, "df_rise", at=steps, masks=masks)
    grid = explain(model, request, "df_rise", at=steps, masks=masks, masking="grid", grid=5)
    renamed = {"/image": grid.tree["image"].to_dataset(), GRID: grid.tree["saliency/df_rise"].to_dataset()}
    rest = [
        explain(model, request, "df_cam", at=steps),
        explain(
            model,
            request,
            "step_baselines",
            at=steps,
            samples=masks,
            kinds=("lime", "gradient", "integrated_gradients", "attention"),
        ),
    ]
    both = [iid, Explanation(xr.DataTree.from_dict(renamed), grid.request, grid.provenance)]
    explained = join([*both, *rest])
    verdict = judge(model, [explained], at=steps, distances=DISTANCES, points=POINTS)
    nodes = explained.tree["saliency"].children
    calls = {name: node.attrs["denoiser_calls"] / len(steps) for name, node in nodes.items()}
    return {"curves": verdict.curves(), "calls": calls}
