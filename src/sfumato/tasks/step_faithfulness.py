"""Which saliency of a step says most? Deletion and insertion games for every method and control, at three steps.

With `compare` "similarities", all methods are DF-RISE, each with another similarity: the ablation of Park et al. 2024,
figure 5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

import numpy as np
from PIL import Image

from sfumato.explain import explain
from sfumato.judging.games import GAMES, Curve
from sfumato.judging.judge import CONTROLS, PlayedCurve, Verdict, judge
from sfumato.methods.costs import runs
from sfumato.methods.df_rise import CHOICES
from sfumato.metrics import Decision, Interval, lies
from sfumato.models.model import Model
from sfumato.option_values import COUNT
from sfumato.plots.games import games_sheet
from sfumato.progress import Progress
from sfumato.registry import find
from sfumato.request import CompletedRequest, Request
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, CompletedItem, Cost, Item, ModelFacts, Record, Records, task
from sfumato.saliency.nodes import NODES
from sfumato.saliency.recovering import steps_at
from sfumato.studio.scenes import held_out_captions
from sfumato.tasks.explain import check_method, of_each_image
from sfumato.tasks.shared.contenders import Contender
from sfumato.tasks.shared.word_maps import Sampling

POINTS = 16
"""Parts in which places are taken away and given back."""
KINDS = ("lime", "gradient", "integrated_gradients", "attention")
"""Baselines that are compared."""
PUBLISHED, BASELINE = ("df_rise", "df_cam"), "lime"
"""What Park et al. 2024 play beside LIME in their figure 4; it prints no numbers, so no verdict is given."""
SCORE = "score"
"""The measure that is no distance."""


@dataclass(frozen=True)
class StepFaithfulnessOptions:
    """Options of the task."""

    compare: Literal["methods", "similarities"] = field(
        default="methods", metadata={"help": "All methods, or DF-RISE with each of its similarities."}
    )
    masks: int = field(
        default=200, metadata=COUNT | {"least": 4, "help": "Masks of DF-RISE at each step, and coalitions of LIME."}
    )

    @property
    def competing(self) -> tuple[Contender, ...]:
        """What is compared, and the controls; a contender with several maps gives each its own name."""
        controls = Contender("controls", "step_baselines", {"kinds": CONTROLS}, "image")
        rise: dict[str, Any] = {"masks": self.masks}
        if self.compare == "similarities":
            names = CHOICES["similarity"]
            own = (Contender(f"df_rise ({one})", "df_rise", rise | {"similarity": one}, "image") for one in names)
            return (*own, controls)
        return (
            Contender("df_rise", "df_rise", rise, "image"),
            Contender("df_rise (grid)", "df_rise", rise | {"masking": "grid", "grid": 5}, "image"),
            Contender("df_cam", "df_cam", {}, "image"),
            Contender("baselines", "step_baselines", {"samples": self.masks, "kinds": KINDS}, "image"),
            controls,
        )


def _costs(model: Model, request: CompletedRequest, items: int, options: StepFaithfulnessOptions) -> list[str]:
    """A line for each contender, one for the games, and for how many prompts."""
    steps, maps, lines = len(steps_at(model, request, ())), 0, []
    for one in options.competing:
        chosen = find(one.method)
        maps += len(one.options.get("kinds", (one.name,)))
        lines.append(f"{one.name}: {chosen.cost(model, request, chosen.configure(one.options))}")
    each = steps * len(GAMES) * (POINTS + 1) * len(model.branches(request).names)
    made, more = runs(model, request, len(lines)), maps * each
    return [
        *lines,
        f"games: {made}, then {more} calls for {maps} maps at {steps} steps, batched",
        f"all of it for each of {items // len(lines):,} prompts, less where it was measured before",
    ]


@task(
    "step_faithfulness",
    question="Which saliency of a step says most?",
    options=StepFaithfulnessOptions,
    cost=Cost("an explanation of three steps by each method for each prompt, and two games on each map", _costs),
    needs=("words", "replay"),
    prompts=Captions(held_out_captions, usual=30),
    shard=1,
)
class StepFaithfulness:
    """Curves of both games for every map of every prompt, at a quarter, a half and three quarters of its steps.

    The sentence counts in how many of the games and distances DF-RISE with single places, as published, and DF-CAM have
    a better area than LIME on the same step of the same image, with 95% intervals over prompts.
    """

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: StepFaithfulnessOptions) -> Iterator[Item]:
        """An item for each contender on each image of each row."""
        for one in options.competing:
            check_method(find(one.method), facts)
        return (
            replace(item, about={"contender": one.name}) for item in of_each_image(rows) for one in options.competing
        )

    def measure(
        self, model: Model, items: Sequence[CompletedItem], options: StepFaithfulnessOptions, progress: Progress
    ) -> Sequence[Record]:
        """Explain three steps by one contender after the other, and play both games on every map."""
        known = {one.name: one for one in options.competing}
        return [_record(model, one.request, known[one.about["contender"]], progress) for one in items]

    def conclude(self, records: Records, options: StepFaithfulnessOptions, about: Mapping[str, Any]) -> Finding:
        """Areas and slopes of every map with intervals over prompts, its gains, and what it cost.

        The intervals rest on every curve, so all of them stay in memory.
        """
        images: dict[str, int] = {}
        prompts: dict[str, int] = {}
        played: list[PlayedCurve] = []
        calls: dict[str, list[float]] = {}
        notes: dict[str, None] = {}
        left_out: Counter[str] = Counter()
        sampling = Sampling()
        for item, record in records:
            if item.request.key not in images:
                sampling.add(item.request)
            image = images.setdefault(item.request.key, len(images))
            prompt = prompts.setdefault(item.request.prompt, len(prompts))
            for row, shares, values in zip(record.rows, record.arrays["shares"], record.arrays["values"], strict=True):
                curve = Curve(row["game"], row["measure"], shares, values)
                played.append(PlayedCurve(image, row["step"], row["map"], curve, prompt))
            for name, each in record.values["calls"].items():
                calls.setdefault(name, []).append(each)
            notes |= dict.fromkeys(record.values["notes"])
            left_out.update(record.values["left_out"])
        verdict = Verdict(tuple(played))
        over = {pair: verdict.gains(*pair, BASELINE) for pair in verdict.pairs()}
        areas = verdict.rows()
        rows = [_row(row, over, calls) for row in areas]
        told = {**about, **sampling.about, "masks": options.masks, "left_out": dict(left_out), "notes": list(notes)}
        sentence, figure = _best(areas, len(images)), _figure(verdict)
        gains = [
            lies(found[name], above=0)
            for (_, measure), found in over.items()
            if measure != SCORE
            for name in PUBLISHED
            if name in found
        ]
        if gains:
            sentence = f"{sentence} {_beside_lime(gains)}"
        return Finding("step_faithfulness", "", None, sentence, rows, figure, told)


def _record(model: Model, request: Request, one: Contender, progress: Progress) -> Record:
    """A row for each curve, its points (curve, point), and the calls that each map of a step took."""
    explained = explain(model, request, one.method, progress=progress, **one.options)
    verdict = judge(model, [explained], points=POINTS, controls=(), progress=progress)
    nodes = explained.tree[NODES].children
    names = {name: name if len(nodes) > 1 else one.name for name in nodes}
    rows, shares, values = [], [], []
    for curve in verdict.curves():
        about = {name: curve[name] for name in ("step", "game", "measure")}
        points = np.array(curve["shares"]), np.array(curve["values"])
        found = Curve(curve["game"], curve["measure"], *points)
        rows.append({"map": names[curve["map"]]} | about | {"area": found.auc, "slope": found.slope})
        shares.append(points[0])
        values.append(points[1])
    calls = {names[name]: node.attrs["denoiser_calls"] / node.sizes["step"] for name, node in nodes.items()}
    told = {
        "calls": calls,
        "left_out": [f"{one.name}: {reason}" for reason in verdict.skipped],
        "notes": list(verdict.notes),
    }
    return Record(told, {"shares": np.array(shares), "values": np.array(values)}, rows)


def _row(
    row: Mapping[str, Any], over: Mapping[tuple[str, str], Mapping[str, Interval]], calls: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """A row of the table with the gain over LIME, where there is one, and the calls of the denoiser for each step."""
    name, gains = row["map"], over[row["game"], row["measure"]]
    more = {f"over {BASELINE}": gains[name]} if name in gains else {}
    return {**row, **more, "calls": round(float(np.mean(calls[name])), 1)}


def _best(rows: Sequence[Mapping[str, Any]], images: int) -> str:
    """The best method of each game and distance beside the best control; the rows are in order, the best first."""
    told = []
    for (game, measure, better), group in groupby(rows, itemgetter("game", "measure", "better")):
        ordered = list(group)
        methods = [row for row in ordered if row["map"] not in CONTROLS]
        controls = [row for row in ordered if row["map"] in CONTROLS]
        if measure != SCORE and methods:
            beside = [f"{row['map']} {row['area'].brief}" for row in (*methods[:1], *controls[:1])]
            told.append(f"{game} by {measure} ({better} is better) {', '.join(beside)}")
    if not told:
        return "No method had a map that could be played."
    return f"Areas of the best method and the best control over {images:,} images: {'; '.join(told)}."


def _beside_lime(gains: Sequence[Decision]) -> str:
    """In how many comparisons the published methods are better than LIME, and in how many worse, by the intervals."""
    better, worse = gains.count(True), gains.count(False)
    return f"Of {len(gains)} comparisons of DF-RISE and DF-CAM with LIME, {better} are better and {worse} worse."


def _figure(verdict: Verdict) -> Image.Image | None:
    """Mean curves of all maps by game and measure."""
    pairs = verdict.pairs()
    return games_sheet({pair: verdict.mean_curves(*pair) for pair in pairs}) if pairs else None
