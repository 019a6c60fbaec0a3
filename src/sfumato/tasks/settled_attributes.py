"""Which attributes of the objects are settled when: position, colour, shape, texture?

The third research question of Park et al. 2024, on prompts of two objects that the reader finds in the final image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.metrics import Interval, bootstrap, lies, verdict_of
from sfumato.models.model import Model
from sfumato.plots.curves import bars_sheet
from sfumato.progress import Progress
from sfumato.request import Request
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, Claim, Cost, Item, ModelFacts, NoOptions, Record, Records, task
from sfumato.studio.grammar import expected
from sfumato.studio.reader import Reading, assign, read
from sfumato.tasks.shared.captions import relation_captions
from sfumato.tasks.shared.clean_estimates import Trajectories, estimates, relation_items
from sfumato.tasks.shared.scene_images import check_scene_size

NEAR = 8.0
"""An object is at its place when its centre is at most so many pixels from where it ends."""
ATTRIBUTES = ("position", "colour", "shape", "texture")
CLAIM = Claim(
    "Position and colour are settled early, shape and texture late.", paper="Park et al. 2024, research question 3"
)


@task(
    "settled_attributes",
    question="Which attributes of the objects are settled when: position, colour, shape, texture?",
    options=NoOptions,
    cost=Cost("one generation and each of its denoiser calls once more, for each image"),
    needs=("words",),
    claim=CLAIM,
    prompts=Captions(relation_captions, usual=30),
)
class SettledAttributes:
    """The attributes of the objects in the clean estimates, compared with those in the final image.

    An attribute is settled from the step after the last one at which it was not yet as at the end. The finding is
    replicated if shape and texture are both settled after position and colour, with 95% intervals over prompts.
    """

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: NoOptions) -> Iterator[Item | Row]:
        """An item for each image of each row whose prompt is a caption of two objects and a relation."""
        check_scene_size("settled_attributes", facts)
        return relation_items(rows)

    def measure(self, model: Model, items: Sequence[Item], options: NoOptions, progress: Progress) -> Sequence[Record]:
        """Follow one trajectory after the other."""
        return [_followed(model, one.request) for one in items]

    def conclude(self, records: Records, options: NoOptions, about: Mapping[str, Any]) -> Finding:
        """After which share of the run each attribute is settled, over prompts."""
        found = Trajectories(records, "alike")
        return settled_finding(found.values, {**about, **found.sampling.about})


def settled_finding(alike: NDArray[np.float64], about: Mapping[str, Any]) -> Finding:
    """What the shares of objects (prompt, step, attribute) show that are as at the end; NaN where none was found."""
    alike = alike[~np.isnan(alike).any((1, 2))]
    pending = alike < 1
    steps = alike.shape[1]
    last = np.where(pending.any(1), steps - pending[:, ::-1].argmax(1), 0)  # (prompt, attribute), in steps
    share = last / steps
    intervals = [bootstrap(share[:, index]) for index in range(len(ATTRIBUTES))]
    rows = [
        {"attribute": name, "settled after, as a share of the run": one}
        for name, one in zip(ATTRIBUTES, intervals, strict=True)
    ]
    order = sorted(range(len(ATTRIBUTES)), key=lambda index: intervals[index].mean)
    sentence = "Settled in this order: " + ", ".join(
        f"{ATTRIBUTES[index]} after {intervals[index].mean:.0%} of the run" for index in order
    )
    later = {(late, early): _later(share, late, early) for late in ("shape", "texture") for early in ATTRIBUTES[:2]}
    sentence += "".join(f"; {late} comes {gap} of the run after {early}" for (late, early), gap in later.items()) + "."
    figure = bars_sheet(ATTRIBUTES, share, "settled after this share of the run")
    verdict = verdict_of(*(lies(gap, above=0) for gap in later.values()))
    return Finding("settled_attributes", CLAIM.text, verdict, sentence, rows, figure, about)


def _later(share: NDArray[np.float64], late: str, early: str) -> Interval:
    """By how much of the run one attribute is settled after another, over prompts; shares are (prompt, attribute)."""
    return bootstrap(share[:, ATTRIBUTES.index(late)] - share[:, ATTRIBUTES.index(early)])


def _followed(model: Model, request: Request) -> Record:
    """Attributes as at the end: (step, attribute)."""
    found = estimates(model, request)
    end = read(found.last)
    alike = np.array([_alike(read(one), end, request.prompt) for one in found.pictures])
    return Record(arrays={"alike": alike, "timestep": found.timesteps})


def _alike(now: Reading, end: Reading, caption: str) -> list[float]:
    """The share of the final image's promised objects that have each attribute already."""
    promised = expected(caption)
    pairs = [
        (None if first is None else now.things[first], end.things[second])
        for first, second in zip(assign(now, promised), assign(end, promised), strict=True)
        if second is not None
    ]
    if not pairs:
        return [np.nan] * len(ATTRIBUTES)
    found = [
        (0.0, 0.0, 0.0, 0.0)
        if one is None
        else (
            float(np.hypot(one.x - other.x, one.y - other.y) <= NEAR),
            float(one.colour == other.colour),
            float(one.shape == other.shape),
            float(one.texture == other.texture),
        )
        for one, other in pairs
    ]
    return [float(value) for value in np.mean(found, axis=0)]
