"""How far can the explanations of many prompts be trusted?

`sfumato judge RESULT` checks explanations that are stored and adds the answers to them; this task makes explanations of
many prompts, checks each in the same way (`sfumato.judging.evaluation`), and keeps the numbers alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sfumato.judging.checks import CheckResult, measured
from sfumato.judging.evaluation import CheckOptions, evaluate
from sfumato.judging.trust import node_of
from sfumato.models.model import Model
from sfumato.plots.trust import checks_sheet
from sfumato.progress import Progress
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.results.joining import join
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, Cost, Item, ModelFacts, Record, Records, task
from sfumato.studio.scenes import held_out_captions
from sfumato.tasks.explain import MethodOptions, check_methods, costs_of_methods, explanations_of, of_each_image

VERDICTS = ("passed", "failed", "inconclusive")


@dataclass(frozen=True)
class JudgeOptions(CheckOptions, MethodOptions):
    """Options of the task."""


def _costs(model: Model, request: CompletedRequest, items: int, options: JudgeOptions) -> list[str]:
    *methods, each = costs_of_methods(model, request, items, options)
    checks = (
        f"checks: an image without each word, and the methods {options.stages} times on randomised weights and "
        f"{options.repeats} times on other seeds and on other noise, where these checks fit; the games come on top"
    )
    return [*methods, checks, each]


@task(
    "judge",
    question="How far can the explanations of many prompts be trusted?",
    options=JudgeOptions,
    cost=Cost("an explanation by each method for each image, and what its checks repeat", _costs),
    prompts=Captions(held_out_captions, usual=20),
)
class Judge:
    """The checks of every explanation, a row for each number, and their means over images."""

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: JudgeOptions) -> Iterator[Item]:
        """An item for each image of each row."""
        check_methods(options, facts)
        return of_each_image(rows)

    def measure(
        self, model: Model, items: Sequence[Item], options: JudgeOptions, progress: Progress
    ) -> Sequence[Record]:
        """Explain a batch, then check one explanation after the other."""
        made = explanations_of(model, items, options, progress)
        return [_checked(model, join(list(one)), options, progress) for one in made]

    def conclude(self, records: Records, options: JudgeOptions, about: Mapping[str, Any]) -> Finding:
        """Each number's mean over images with its interval, its verdict, and how many images passed by themselves.

        The intervals rest on one pair of numbers for each image and check, which stay in memory.
        """
        found: dict[tuple[str, str, str, Any], list[Mapping[str, Any]]] = {}
        left_out: Counter[str] = Counter()
        for _, record in records:
            left_out.update(record.values["left_out"])
            for row in record.rows:
                key = (row["check"], row["number"], row["control"], row["wanted"])
                found.setdefault(key, []).append({name: row[name] for name in ("value", "its value", "verdict")})
        pooled: list[CheckResult] = []
        rows: list[dict[str, Any]] = []
        for (check, number, control, wanted), own in found.items():
            values, controls = (
                [np.nan if one[name] is None else one[name] for one in own] for name in ("value", "its value")
            )
            one = measured(check, number, values, control, controls, wanted)
            counts = Counter(row["verdict"] for row in own)
            pooled.append(one)
            rows.append(one.row() | {f"{verdict} alone": counts[verdict] for verdict in VERDICTS})
        told = {**about, "left_out": dict(left_out)}
        figure = checks_sheet(node_of(pooled)) if pooled else None
        return Finding("judge", "", None, _sentence(pooled, len(records)), rows, figure, told)


def _checked(model: Model, explanation: Explanation, options: JudgeOptions, progress: Progress) -> Record:
    found = evaluate(model, [explanation], options, progress)
    notes = list(found.games.notes) if found.games else []
    return Record({"left_out": list(found.left_out), "notes": notes}, rows=[_row(one) for one in found.measured()])


def _row(one: CheckResult) -> dict[str, Any]:
    """A number of one image, its intervals over maps as plain columns."""
    return one.row() | {
        "value": one.value.mean,
        "its value": one.control.mean,
        "difference": one.gain.mean,
        "difference low": one.gain.low,
        "difference high": one.gain.high,
        "n": one.gain.n,
        "wanted": one.wanted,
    }


def _sentence(pooled: Sequence[CheckResult], images: int) -> str:
    counts = Counter(one.verdict for one in pooled)
    return f"Over {images:,} images, of {len(pooled)} numbers {', '.join(f'{counts[one]} {one}' for one in VERDICTS)}."
