"""What tasks share that follow the steps of a run: the clean estimates, and numbers of each step of each prompt."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import SfumatoWarning
from sfumato.generation.generate import generate
from sfumato.models.model import Model
from sfumato.request import Request
from sfumato.runs.prompts import Row
from sfumato.runs.task import Item, Records
from sfumato.saliency.recovering import Recovery
from sfumato.studio.grammar import ScenePlan
from sfumato.tasks.shared.scene_images import caption_items
from sfumato.tasks.shared.word_maps import Sampling


@dataclass(frozen=True)
class Estimates:
    """The clean estimates of one trajectory.

    Attributes:
        pictures: Of each step, (y, x, 3) of uint8.
        last: The final image, likewise.
        timesteps: Of each step.
    """

    pictures: list[NDArray[np.uint8]]
    last: NDArray[np.uint8]
    timesteps: NDArray[np.float64]


def estimates(model: Model, request: Request) -> Estimates:
    """Generate an image and decode the clean estimate of every step."""
    trace = generate(model, request, record=True)
    return Estimates(
        [Recovery(trace, step).picture for step in trace.steps],
        np.asarray(trace.images[0].convert("RGB")),
        np.array([trace.call(step).timestep for step in trace.steps], np.float64),
    )


def relation_items(rows: Iterable[Row]) -> Iterator[Item | Row]:
    """An item for each image of each row whose prompt is a caption of two objects and a relation."""
    return caption_items(rows, _fault)


def _fault(plan: ScenePlan) -> str:
    if plan.kind == "relation":
        return ""
    return "it names no relation between two objects; expected a caption such as: a red circle left of a blue square"


class Trajectories:
    """Numbers of every step of every prompt.

    Args:
        records: Of the run; those at other timesteps than the first are left out, and counted.
        name: Of the array (step, number) of each record.

    Attributes:
        values: (prompt, step, number).
        timesteps: Of the steps.
        sampling: How the images were generated.
    """

    def __init__(self, records: Records, name: str) -> None:
        self.sampling, left_out = Sampling(), 0
        found: list[NDArray[np.float64]] = []
        self.timesteps: NDArray[np.float64] = np.empty(0)
        for item, record in records:
            if not found:
                self.timesteps = record.arrays["timestep"]
            if not np.array_equal(record.arrays["timestep"], self.timesteps):
                left_out += 1
                continue
            self.sampling.add(item.request)
            found.append(record.arrays[name])
        if left_out:
            note = f"{left_out} prompts with other steps than the first are left out; give all rows the same steps"
            warnings.warn(note, SfumatoWarning, stacklevel=2)
        self.values = np.stack(found)
