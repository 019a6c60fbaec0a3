"""Label or prompt switch: from which step on does the condition no longer matter?

Source: the thesis on an XAI interface for diffusion models, section 5.3.2 and figure 5.17: the generation starts with
one label and goes on with another from step s; normalised SSIM compares the outcome with those of either label alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from PIL import Image

from sfumato.bounds import shown
from sfumato.errors import OptionError
from sfumato.generation.generate import generate
from sfumato.generation.interventions.conditions import SwitchCondition
from sfumato.methods.costs import runs
from sfumato.metrics.structure import normalised_ssim
from sfumato.models.model import Model
from sfumato.models.schedulers import schedule_of
from sfumato.option_values import INNER_SHARE, STEPS
from sfumato.progress import Progress
from sfumato.registry import method
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.results.images import single
from sfumato.results.meaning import Meaning

BATCH = 8
SWITCHES = 10


@dataclass(frozen=True)
class SwitchOptions:
    """Options of ``switch``."""

    to: str | None = field(default=None, metadata={"prompt": True, "help": "the other label or prompt"})
    at: tuple[int, ...] = field(
        default=(),
        metadata=STEPS | {"help": "steps at which to switch (from 1 to the last but one); about ten, evenly spread"},
    )
    alike: float = field(
        default=0.9,
        metadata=INNER_SHARE
        | {"help": "normalised SSIM from which on the outcome counts as that of the first condition"},
    )

    def __post_init__(self) -> None:
        """Put the steps in order, each once."""
        object.__setattr__(self, "at", tuple(sorted(set(self.at))))


def _cost(model: Model, request: CompletedRequest, options: SwitchOptions) -> str:
    return runs(model, request, (len(switched_at(model, request, options)) + 2) * request.images)


@method(
    "switch",
    summary="From which step on does the prompt or label no longer matter? It is switched on the way",
    options=SwitchOptions,
    needs=("words or label", "replay"),
    cost=_cost,
    paper="An XAI interface for diffusion models (thesis), section 5.3.2: label switch and predetermination",
    version=2,
)
def switch(
    model: Model, requests: Sequence[CompletedRequest], options: SwitchOptions, progress: Progress
) -> list[Explanation]:
    """Switch in the generation of every request, each of its seeds."""
    return [_explained(model, request, options, progress) for request in requests]


def _explained(model: Model, request: CompletedRequest, options: SwitchOptions, progress: Progress) -> Explanation:
    if options.to is None:
        raise OptionError("switch needs the other label or prompt; give it: to=0100 or to='a blue square'")
    if options.to == (request.prompt if "words" in model.features else request.label):
        raise OptionError(f"to is {shown(options.to)}, as in the request; give another")
    model.encode([options.to])  # a wrong label is refused before the first image
    places = switched_at(model, request, options)
    steps: list[int | None] = [None, 0, *places]
    made: dict[tuple[int, int], Image.Image] = {}
    jobs = [(number, which) for number in range(request.images) for which in range(1, len(steps))]
    plain = generate(model, request, progress=progress)  # the first condition alone
    made |= {(number, 0): image for number, image in enumerate(plain.images)}
    for start in range(0, len(jobs), BATCH):
        some = jobs[start : start + BATCH]
        alone = [request.of_image(number) for number, _ in some]
        change = SwitchCondition(options.to, tuple(steps[which] for _, which in some))
        images = generate(model, alone, attachments=[change]).images
        made |= dict(zip(some, images, strict=True))
        progress("switches", min(start + BATCH, len(jobs)), len(jobs))
    pictures = np.stack(
        [
            np.stack([np.asarray(made[number, which].convert("RGB")) for which in range(len(steps))])
            for number in range(request.images)
        ]
    )  # (image, run, y, x, channel)
    first = np.array([[normalised_ssim(_planes(one), _planes(runs[0])) for one in runs[2:]] for runs in pictures])
    second = np.array([[normalised_ssim(_planes(one), _planes(runs[1])) for one in runs[2:]] for runs in pictures])
    schedule = schedule_of(model, request)
    settled = [_settled(row, places, model.steps(request), options.alike) for row in first]
    node = xr.Dataset(
        {
            "picture": (("image", "switch", "row", "column", "channel"), pictures[:, 2:]),
            "first": (("image", "row", "column", "channel"), pictures[:, 0]),
            "second": (("image", "row", "column", "channel"), pictures[:, 1]),
            "normalised_ssim_to_first": (("image", "switch"), first, Meaning("curve").attrs),
            "normalised_ssim_to_second": (("image", "switch"), second, Meaning("curve").attrs),
            "settled": ("image", settled),
        },
        coords={
            "step": ("switch", places),
            "timestep": ("switch", [schedule[place] for place in places]),
        },
        attrs={"method": "switch", "to": options.to, "alike": options.alike},
    )
    return plain.explanation(0, {"switch": single(node)})


def switched_at(model: Model, request: CompletedRequest, options: SwitchOptions) -> list[int]:
    """The steps of a completed request's run at which its condition is switched.

    Raises:
        OptionError: The run has fewer than 3 steps, or not all that are asked for.
    """
    count = model.steps(request)
    if count < 3:
        raise OptionError(f"this run has {count} steps; switching needs 3 or more")
    if wrong := [step for step in options.at if not 1 <= step <= count - 2]:
        raise OptionError(
            f"at has {wrong[0]}; switch from step 1 to step {count - 2}: step 0 is the other condition alone, and "
            "at the last hardly anything is left to change"
        )
    if options.at:
        return list(options.at)
    return sorted({max(1, min(count - 2, round(i * count / SWITCHES))) for i in range(1, SWITCHES)})


def _settled(row: Sequence[float], places: Sequence[int], count: int, alike: float) -> float:
    """The share of the run after which a switch leaves the outcome as it was: the place from which on all are alike."""
    late = [place for number, place in enumerate(places) if all(value >= alike for value in row[number:])]
    return late[0] / count if late else 1.0


def _planes(picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return picture.transpose(2, 0, 1).astype(np.float64)
