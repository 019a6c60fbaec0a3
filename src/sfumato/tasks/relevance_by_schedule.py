"""Subject, relation, object: where does relevance go when steps are spent early or late?

Park et al. 2024 print sums over 100 prompts of 30 steps: uniform 2117, 423 and 1800 for subject, relation and object,
late 2021, 424 and 1754, early 1777, 474 and 1890. So early sampling moves relevance from the subject to the object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.generation.generate import generate
from sfumato.metrics import bootstrap, lies, verdict_of
from sfumato.models.model import Model
from sfumato.plots.curves import bars_sheet
from sfumato.progress import Progress
from sfumato.request import Request
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, Claim, Cost, Item, ModelFacts, NoOptions, Record, Records, task
from sfumato.tasks.shared.captions import Part, by_part, relation_captions, word_scores
from sfumato.tasks.shared.clean_estimates import relation_items
from sfumato.tasks.shared.word_maps import Sampling

SCHEDULES = ("uniform", "late", "early")
THREE: tuple[Part, ...] = ("subject", "relation", "object")
PRINTED = {"uniform": (2117, 423, 1800), "late": (2021, 424, 1754), "early": (1777, 474, 1890)}
"""Sums in the paper."""
STEPS = 30
"""Denoising steps of each schedule where none are asked for, as in the paper."""
CLAIM = Claim(
    "Early sampling moves relevance from the subject to the object; the relation has the least.",
    paper="Park et al. 2024, cross-attention mapping",
)


@task(
    "relevance_by_schedule",
    question="Does relevance move from the subject to the object when steps are spent early?",
    options=NoOptions,
    cost=Cost("three generations and a call with gradients at each of their steps, for each image"),
    needs=("words",),
    claim=CLAIM,
    prompts=Captions(relation_captions, usual=30),
)
class RelevanceBySchedule:
    """The relevance of the words of subject, relation and object, summed over the steps of three schedules.

    At every step the words' scores are brought to 0 to 1, as in the paper, before they are summed. The finding is
    replicated if from uniform to early sampling the subject's share falls and the object's rises, each with a 95%
    interval over prompts that excludes zero.
    """

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: NoOptions) -> Iterator[Item | Row]:
        """An item for each image of each row whose prompt is a caption of two objects and a relation."""
        for item in relation_items(rows):
            if isinstance(item, Item) and item.request.steps is None:
                item = replace(item, request=item.request.with_(steps=STEPS))
            yield item

    def measure(self, model: Model, items: Sequence[Item], options: NoOptions, progress: Progress) -> Sequence[Record]:
        """Follow the trajectories of the three schedules of each item."""
        return [
            Record(arrays={"sums": np.stack([_summed(model, one.request.with_(schedule=name)) for name in SCHEDULES])})
            for one in items
        ]

    def conclude(self, records: Records, options: NoOptions, about: Mapping[str, Any]) -> Finding:
        """Sums and shares of the three parts under each schedule, over prompts."""
        sampling = Sampling()
        found: list[NDArray[np.float64]] = []
        for item, record in records:
            sampling.add(item.request)
            found.append(record.arrays["sums"])
        sums = np.stack(found, axis=1)  # (schedule, prompt, part)
        share = sums / sums.sum(-1, keepdims=True)
        rows = []
        for place, schedule in enumerate(SCHEDULES):
            printed = np.array(PRINTED[schedule]) / sum(PRINTED[schedule])
            rows += [
                {
                    "schedule": schedule,
                    "part": part,
                    "sum": round(float(sums[place, :, number].sum()), 1),
                    "share": bootstrap(share[place, :, number]),
                    "share in the paper": round(float(printed[number]), 3),
                }
                for number, part in enumerate(THREE)
            ]
        uniform, early = SCHEDULES.index("uniform"), SCHEDULES.index("early")
        lost = bootstrap(share[uniform, :, 0] - share[early, :, 0])
        won = bootstrap(share[early, :, 2] - share[uniform, :, 2])
        sentence = (
            f"From uniform to early sampling the subject's share falls by {lost} and the object's rises by {won} (in "
            "the paper by 0.059 and 0.042)."
        )
        names = [f"{schedule}: {part}" for schedule in SCHEDULES for part in THREE]
        values: NDArray[Any] = share.transpose(1, 0, 2).reshape(len(found), -1)
        figure = bars_sheet(names, values, "share of relevance")
        verdict = verdict_of(lies(lost, above=0), lies(won, above=0))
        told = {**about, **sampling.about}
        return Finding("relevance_by_schedule", CLAIM.text, verdict, sentence, rows, figure, told)


def _summed(model: Model, request: Request) -> NDArray[np.float64]:
    """The relevance of each of the three parts, summed over the steps: (part,)."""
    trace = generate(model, request, record=True)
    total = np.zeros(len(THREE))
    for step in trace.steps:
        scores = word_scores(trace, step)
        spread = np.ptp(scores)
        scores = (scores - scores.min()) / (spread if spread > 0 else 1)
        total += by_part(scores, request.prompt, THREE)
    return total
