"""Subject, relation, object: where does relevance go when steps are spent early or late?

Park et al. 2024 print sums over 100 prompts of 30 steps: uniform 2117, 423 and 1800 for subject, relation and object,
late 2021, 424 and 1754, early 1777, 474 and 1890. So early sampling moves relevance from the subject to the object.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.cache import Cache, default_folder
from sfumato.findings import one_by_one, remembered
from sfumato.metrics import bootstrap, lies, verdict_of
from sfumato.models.model import Model
from sfumato.plots.curves import bars_sheet
from sfumato.progress import Progress, silent
from sfumato.request import Request
from sfumato.runs.finding import Finding
from sfumato.studies.prompts import Part, by_part, relation_captions, word_scores
from sfumato.trace import generate

SCHEDULES = ("uniform", "late", "early")
THREE: tuple[Part, ...] = ("subject", "relation", "object")
PRINTED = {"uniform": (2117, 423, 1800), "late": (2021, 424, 1754), "early": (1777, 474, 1890)}
"""Sums in the source."""


def study_parts(
    model: Model, prompts: int = 30, *, seed: int = 0, steps: int = 30, progress: Progress = silent
) -> Finding:
    """Sum the relevance of the words of subject, relation and object over the steps, under three schedules.

    At every step the words' scores are brought to 0 to 1, as in the source, before they are summed.

    Args:
        model: One that draws studio scenes.
        prompts: How many held-out prompts of two objects and a relation.
        seed: Of the first image.
        steps: Denoising steps of each schedule.
        progress: Told about every prompt of every schedule.
    """
    captions = relation_captions(prompts)
    asked = [
        model.complete(Request(one, seed=seed + place, steps=steps, schedule=schedule))
        for schedule in SCHEDULES
        for place, one in enumerate(captions)
    ]
    cache, told = Cache(default_folder()), partial(progress, "prompts")
    found = remembered(model, "parts", asked, one_by_one(partial(_summed, model)), cache, told)
    sums = np.stack([entry["sums"] for entry in found]).reshape(len(SCHEDULES), prompts, len(THREE))
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
                "share in the source": round(float(printed[number]), 3),
            }
            for number, part in enumerate(THREE)
        ]
    uniform, early = SCHEDULES.index("uniform"), SCHEDULES.index("early")
    lost = bootstrap(share[uniform, :, 0] - share[early, :, 0])
    won = bootstrap(share[early, :, 2] - share[uniform, :, 2])
    sentence = (
        f"From uniform to early sampling the subject's share falls by {lost} and the object's rises by {won} (in the "
        "source by 0.059 and 0.042)."
    )
    names = [f"{schedule}: {part}" for schedule in SCHEDULES for part in THREE]
    values: NDArray[Any] = share.transpose(1, 0, 2).reshape(prompts, -1)
    about = {
        "model": model.source.name,
        "prompts": prompts,
        "steps": steps,
        "scheduler": asked[0].scheduler,
        "guidance": asked[0].guidance,
    }
    source = "Early sampling moves relevance from the subject to the object; the relation has the least."
    verdict = verdict_of(lies(lost, above=0), lies(won, above=0))
    return Finding("parts", source, verdict, sentence, rows, bars_sheet(names, values, "share of relevance"), about)


def _summed(model: Model, request: Request) -> dict[str, NDArray[Any]]:
    trace = generate(model, request, record=True)
    total = np.zeros(len(THREE))
    for step in sorted({call.step for call in trace.calls}):
        scores = word_scores(trace, step)
        spread = np.ptp(scores)
        scores = (scores - scores.min()) / (spread if spread > 0 else 1)
        total += by_part(scores, request.prompt, THREE)
    return {"sums": total}
