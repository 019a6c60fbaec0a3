"""How the image emerges: normalised SSIM of every sample with the one before, over seeds (figure 5.6 of the thesis)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato.errors import OptionError
from sfumato.generation.generate import generate
from sfumato.generation.recorders.samples import Samples
from sfumato.inputs.schedule import MAX_STEPS
from sfumato.metrics import bootstrap, lies, verdict_of
from sfumato.metrics.structure import normalised_ssim
from sfumato.models.model import Model
from sfumato.models.schedulers import schedule_of
from sfumato.plots.curves import curves_sheet
from sfumato.progress import Progress
from sfumato.request import CompletedRequest
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Claim, CompletedItem, Cost, Item, ModelFacts, Record, Records, task
from sfumato.tasks.shared.over_seeds import OverSeedsOptions, first_request, items_of, over_time, sampling_of_seeds

CLAIM = Claim(
    "Normalised SSIM of consecutive samples rises for about 750 of 1,000 steps, has a plateau near t = 250, then a dip "
    "and a rise in the last 100 steps, alike for all seeds.",
    paper="the thesis on the diffusion profile, figure 5.6",
)


@dataclass(frozen=True)
class EmergenceOptions(OverSeedsOptions):
    """Options of the task."""

    steps: int | None = field(
        default=None, metadata={"least": 1, "most": MAX_STEPS, "help": "Denoising steps, 20 or more; the model's own."}
    )


@task(
    "emergence",
    question="How does the image emerge: how similar are consecutive samples?",
    options=EmergenceOptions,
    cost=Cost("one generation for each seed"),
    claim=CLAIM,
    model="studio/faces",
    shard=1,
)
class Emergence:
    """The normalised SSIM of consecutive samples along the trajectory of every seed."""

    def check(self, model: Model, options: EmergenceOptions) -> None:
        """Refuse a run with too few steps to be judged.

        Raises:
            OptionError: No step ends in the first 100 timesteps, or none near t = 250.
        """
        later = _later(model, model.complete(first_request(model, options)))
        if not (_start(later).any() and _plateau(later).any()):
            raise OptionError(
                f"this run has {len(later)} steps, none of which ends in the first 100 timesteps or near t = 250; take "
                "20 steps or more"
            )

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: EmergenceOptions) -> Iterator[Item]:
        """An item for each seed."""
        return items_of(facts, options)

    def measure(
        self, model: Model, items: Sequence[CompletedItem], options: EmergenceOptions, progress: Progress
    ) -> Sequence[Record]:
        """Follow one trajectory after the other."""
        return [_followed(model, one.request) for one in items]

    def conclude(self, records: Records, options: EmergenceOptions, about: Mapping[str, Any]) -> Finding:
        """The rise to the plateau, the dip and the rise after it, over seeds."""
        found = [(item.request, record.arrays["timestep"], record.arrays["ssim"]) for item, record in records]
        later = found[0][1]
        values = np.stack([ssim for _, _, ssim in found])  # (seed, step)
        start, plateau = _start(later), _plateau(later)
        early, last = later > 250, later <= 100
        mean = values.mean(0)
        rise = bootstrap(values[:, plateau].mean(1) - values[:, start].mean(1))
        dip = bootstrap(values[:, plateau].mean(1) - values[:, last].min(1))
        back = bootstrap(values[:, -1] - values[:, last].min(1))
        verdict = verdict_of(*(lies(change, above=0) for change in (rise, dip, back)))
        rising = float((np.diff(mean[early]) > 0).mean()) if early.sum() > 1 else float("nan")
        sentence = (
            f"From the first 100 timesteps to the plateau around t = 250 normalised SSIM changes by {rise}; in the "
            f"last 100 it falls by {dip} below the plateau and comes back by {back}. Before the plateau {rising:.0%} "
            "of the steps rise."
        )
        marks = [0, *(int(np.abs(later - t).argmin()) for t in (750, 500, 250, 100, 50)), len(later) - 1]
        figure = curves_sheet({"normalised SSIM of a sample with the one before": (later, {"": values})})
        told = sampling_of_seeds([request for request, _, _ in found], about)
        return Finding("emergence", CLAIM.text, verdict, sentence, over_time(later, values, marks), figure, told)


def _later(model: Model, request: CompletedRequest) -> NDArray[np.float64]:
    """The timestep of the sample after each step of a run."""
    return np.array([*schedule_of(model, request)[1:], 0.0])


def _start(later: NDArray[np.float64]) -> NDArray[np.bool_]:
    return later >= 900


def _plateau(later: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (later <= 350) & (later >= 150)


def _followed(model: Model, request: CompletedRequest) -> Record:
    """The similarity of every sample of a run with the one before."""
    found: list[float] = []
    before: list[NDArray[Any]] = []

    def take(step: int, sample: torch.Tensor) -> None:
        values = sample[0].float().cpu().numpy()
        if before:
            found.append(normalised_ssim(values, before.pop()))
        before.append(values)

    trace = generate(model, request, attachments=[Samples(take)])
    take(-1, trace.latents[:1])
    return Record(arrays={"ssim": np.array(found), "timestep": _later(model, request)})
