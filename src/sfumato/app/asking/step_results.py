"""What the tab Steps shows: maps of the chosen steps under each schedule, and the games that check one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sfumato.app.asking.step_requests import StepsAsked
from sfumato.app.server.workers import Job
from sfumato.errors import SfumatoError
from sfumato.explain import explain
from sfumato.generation.feature_layers import layers_of
from sfumato.generation.generate import generate
from sfumato.judging.games import GAMES, judge_of, perturbation_curves
from sfumato.judging.judge import CONTROLS, PlayedCurve, Verdict
from sfumato.judging.maps import saliencies
from sfumato.methods.costs import runs
from sfumato.metrics.controls import control_map
from sfumato.models.model import Model
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.results.joining import join
from sfumato.results.meaning import GRID, IMAGE, STEP, Declared, declared, heat_of
from sfumato.saliency.recovering import Recovery, rows_within
from sfumato.saliency.similarities import LOCAL_SSIM
from sfumato.similarity import clip_for

POINTS = 16
BATCH_MB = 400.0
"""Feature maps of a batch: small, so that progress is told, and a cancellation heard, every few seconds."""
BATCHED = ("df_rise", "step_baselines")
MEASURES = {"local_ssim": "structure, 1 − local SSIM", "features": "features of CLIP, 1 − cosine"}
"""Distances that the games can be played on."""
PICTURE, OCCURRENCE = "picture", "occurrence"
"""What goes with maps of steps: the picture that each step recovers, and which of the same words a word is."""


def looked(model: Model, asked: StepsAsked, job: Job[Any]) -> list[Explanation]:
    """An explanation for each schedule, with the nodes of all methods.

    Raises:
        SfumatoError: Something cannot be asked.
    """
    job.cost = asked.cost(model)
    found = []
    for kind, request in zip(asked.kinds, asked.requests(model), strict=True):
        before = f"{kind}, " if asked.other else ""
        memory = enough(model, request)
        parts = []
        for name, options in asked.options(model, request).items():

            def told(what: str, done: int, total: int, said: str = f"{before}{name}") -> None:
                job.progress(f"{said}: {what}", done, total)

            more: dict[str, Any] = {"memory": memory} if name in BATCHED else {}
            parts.append(explain(model, request, name, progress=told, **options, **more))
        found.append(join(parts))
    return found


def games_of(
    model: Model, explanation: Explanation, name: str, step: int, measure: str, job: Job[Any], points: int = POINTS
) -> Verdict:
    """Deletion and insertion on one map of one step, beside the controls random and centre.

    Args:
        model: The one that made the explanation.
        explanation: Of one image.
        name: Of the map.
        step: From 0.
        measure: One of `MEASURES`.
        job: Told of progress and cost.
        points: In how many parts places are taken away.

    Raises:
        SfumatoError: There is no such map or measure, or the map has no order.
    """
    if measure not in MEASURES:
        raise SfumatoError(f"there is no measure {measure!r}; choose from: {', '.join(MEASURES)}")
    maps = {one.name: one for one in saliencies(explanation)}
    if name not in maps:
        raise SfumatoError(f"there is no map {name!r} here; its maps are: {', '.join(maps)}")
    clip = None if measure == LOCAL_SSIM else clip_for(model, None, instead=MEASURES[LOCAL_SSIM])
    request = model.complete(explanation.request)
    job.cost = games_cost(model, request, points)
    trace = generate(model, request, record={step}, progress=job.progress)
    recovery = Recovery(trace, step, rows=rows_within(model, request, enough(model, request)))
    own = maps[name].at(step, recovery.grid)
    if own is None:
        raise SfumatoError(f"{name} has no map at step {step}; choose another step")
    judge = judge_of(recovery, "", clip, (measure,))
    played: list[PlayedCurve] = []
    orders = {name: own} | {control: control_map(control, recovery.grid, request.seed, step) for control in CONTROLS}
    for place, (label, values) in enumerate(orders.items()):
        for number, game in enumerate(GAMES):
            job.progress("games", len(GAMES) * place + number, len(GAMES) * len(orders))
            played += [
                PlayedCurve(0, step, label, curve)
                for curve in perturbation_curves(recovery, values, game, judge, points)
            ]
    return Verdict(tuple(played))


def enough(model: Model, request: CompletedRequest) -> float:
    """Megabytes that a batch may take: `BATCH_MB`, or as much as one call of the denoiser needs."""
    return max(BATCH_MB, math.ceil(sum(layer.bytes for layer in layers_of(model, request)) / 1e6))


def games_cost(model: Model, request: CompletedRequest, points: int = POINTS) -> str:
    """What a check costs, in words."""
    calls = (1 + len(CONTROLS)) * len(GAMES) * (points + 1) * len(model.branches(request).names)
    return f"{runs(model, request)}, then {calls} calls for the games, batched"


def areas(verdict: Verdict) -> list[dict[str, Any]]:
    """A row for each game: the area under the curve of every map, and whether the first beats both others."""
    found = []
    for game, measure in verdict.pairs():
        curves = {name: played[0].curve for name, played in verdict.chosen(game, measure).items()}
        names = list(curves)
        higher = curves[names[0]].higher_is_better
        values = {name: curve.auc for name, curve in curves.items()}
        own, rest = values[names[0]], [values[name] for name in names[1:]]
        found.append(
            {
                "game": game,
                "higher": higher,
                "areas": values,
                "beaten": [
                    name
                    for name, other in zip(names[1:], rest, strict=True)
                    if (own > other if higher else own < other)
                ],
            }
        )
    return found


def sentence(verdict: Verdict, label: str) -> str:
    """The verdict in words.

    Args:
        verdict: Of one map and the controls.
        label: How the map is called.
    """
    parts, won = [], 0
    for row in areas(verdict):
        own, *others = row["areas"].items()
        beaten = row["beaten"]
        won += len(beaten) == len(others)
        said = (
            "beats both controls"
            if len(beaten) == len(others)
            else (f"beats {beaten[0]} alone" if beaten else "beats neither control")
        )
        numbers = " and ".join(f"{value:.2f} of {name}" for name, value in others)
        direction = "higher" if row["higher"] else "lower"
        parts.append(f"in {row['game']} it {said} (area {own[1]:.2f} against {numbers}; {direction} is better)")
    step = verdict.played[0].step
    judged = (
        "orders the places of this step rightly"
        if won == len(parts)
        else "does not clearly say more than a map that knows nothing"
        if not won
        else "is only half borne out"
    )
    return f"{label} at step {step} {judged}: {', and '.join(parts)}. This is one step of one image."


def panes_of(explanations: Sequence[Explanation]) -> list[dict[str, Any]]:
    """Of each explanation the steps with their pictures, and the maps by method: arrays still.

    Returns:
        A dictionary for each with "steps" (step, timestep, picture (y, x, 3)) and "rows" (name, node, choices), where
        choices are maps (step, y, x) by the name of the word, "" where there are no words.
    """
    found = []
    for explanation in explanations:
        steps: dict[int, tuple[float, Any]] = {}
        maps = [one for one in declared(explanation.tree, "map") if STEP in one.array.dims and len(one.labels) < 2]
        for one in maps:
            if PICTURE in one.node:
                data = one.node
                for place, step in enumerate(data[STEP].values.tolist()):
                    steps[step] = (float(data["timestep"].values[place]), data[PICTURE].values[place])
        rows = [_row(one, sorted(steps)) for one in sorted(maps, key=lambda one: len(one.labels))]
        rows = [row for row in rows if row["name"] not in CONTROLS]
        ordered = [
            {"step": step, "timestep": time, "picture": pixels} for step, (time, pixels) in sorted(steps.items())
        ]
        found.append({"steps": ordered, "rows": rows, "notes": explanation.notes})
    return found


def _row(one: Declared, steps: Sequence[int]) -> dict[str, Any]:
    """A map at its own steps if it has their pictures, else at those that others have; with labels each apart too."""
    data = one.node if PICTURE in one.node else one.node.sel({STEP: list(steps)})
    heat = heat_of(data[one.name]).isel({IMAGE: 0}, missing_dims="ignore")
    choices: dict[str, Any] = {}
    if one.labels:
        (label,) = one.labels
        names = data[label].values.tolist()
        if OCCURRENCE in data.coords:
            counts = data[OCCURRENCE].values.tolist()
            names = [name if n == 1 else f"{name} #{n}" for name, n in zip(names, counts, strict=True)]
        heat = heat.transpose(label, STEP, *GRID)
        choices = dict(zip(map(str, names), heat.values, strict=True))
        heat = heat.sum(label, skipna=False)
    return {
        "name": one.title.removeprefix("saliency/"),
        "data": data,
        "choices": {"": heat.transpose(STEP, *GRID).values} | choices,
    }
