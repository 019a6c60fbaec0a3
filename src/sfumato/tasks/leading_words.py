"""Which words lead in the relevance of each step: those of the subject, the relation, the object or the background?

The second research question of Park et al. 2024.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.generation.generate import generate
from sfumato.metrics import bootstrap, lies, verdict_of
from sfumato.models.model import Model
from sfumato.plots.curves import curves_sheet
from sfumato.progress import Progress
from sfumato.request import Request
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, Claim, Cost, Item, ModelFacts, NoOptions, Record, Records, task
from sfumato.tasks.shared.captions import PARTS, by_part, relation_captions, word_scores
from sfumato.tasks.shared.clean_estimates import Trajectories, relation_items

CLAIM = Claim(
    "Which words lead changes from step to step; the relation has the smallest share.",
    paper="Park et al. 2024, research question 2",
)


@task(
    "leading_words",
    question="Which words lead in the relevance of each step: subject, relation, object or background?",
    options=NoOptions,
    cost=Cost("one generation and a call with gradients at each of its steps, for each image"),
    needs=("words",),
    claim=CLAIM,
    prompts=Captions(relation_captions, usual=30),
)
class LeadingWords:
    """The share of each part of the prompt in the relevance of its words, step by step.

    The finding is replicated if the relation has less of it than the subject and less than the object, each with a 95%
    interval over prompts that excludes zero.
    """

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: NoOptions) -> Iterator[Item | Row]:
        """An item for each image of each row whose prompt is a caption of two objects and a relation."""
        return relation_items(rows)

    def measure(self, model: Model, items: Sequence[Item], options: NoOptions, progress: Progress) -> Sequence[Record]:
        """Follow one trajectory after the other."""
        return [_followed(model, one.request) for one in items]

    def conclude(self, records: Records, options: NoOptions, about: Mapping[str, Any]) -> Finding:
        """The shares over all steps and in both halves of the run, over prompts."""
        found = Trajectories(records, "relevance")
        return words_finding(found.values, found.timesteps, {**about, **found.sampling.about})


def words_finding(led: NDArray[np.float64], times: NDArray[np.float64], about: Mapping[str, Any]) -> Finding:
    """What the relevance (prompt, step, part) at timesteps (step) shows."""
    shown = [part for part in range(len(PARTS)) if led[:, :, part].any()]
    total = led[:, :, shown].sum(-1, keepdims=True)
    share = led[:, :, shown] / np.where(total > 0, total, 1)
    half = times >= times.max() / 2
    rows = [
        {
            "part": PARTS[part],
            "share, first half": bootstrap(share[:, half, index].mean(1)),
            "share, second half": bootstrap(share[:, ~half, index].mean(1)),
        }
        for index, part in enumerate(shown)
    ]
    moved = bootstrap(share[:, half, 0].mean(1) - share[:, ~half, 0].mean(1))
    whole = led[:, :, :3] / np.where(total > 0, total, 1)  # subject, relation, object
    margins = [bootstrap((whole[:, :, other] - whole[:, :, 1]).mean(1)) for other in (0, 2)]
    means = share.mean((0, 1))
    leader = PARTS[shown[int(means.argmax())]]
    sentence = (
        f"Over all steps the {leader} leads with {means.max():.0%} of the relevance; the relation has {margins[0]} "
        f"less than the subject and {margins[1]} less than the object. The subject's share is {moved} larger in the "
        "first half of the run than in the second."
    )
    curves: dict[str, NDArray[Any]] = {PARTS[part]: share[:, :, index] for index, part in enumerate(shown)}
    figure = curves_sheet({"share of each part's words in the relevance": (times, curves)})
    verdict = verdict_of(*(lies(margin, above=0) for margin in margins))
    return Finding("leading_words", CLAIM.text, verdict, sentence, rows, figure, about)


def _followed(model: Model, request: Request) -> Record:
    """The relevance of each part's words: (step, part)."""
    trace = generate(model, request, record=True)
    led = np.array([by_part(word_scores(trace, step), request.prompt, PARTS) for step in trace.steps])
    return Record(arrays={"relevance": led, "timestep": np.array([trace.call(step).timestep for step in trace.steps])})
