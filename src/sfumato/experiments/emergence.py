"""How the image emerges: the SSIM of every sample with the one before, over seeds (the source's figure 5.6)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato.errors import OptionError
from sfumato.experiments.experiment import Setting, about, over_time
from sfumato.metrics import bootstrap, lies, verdict_of
from sfumato.metrics.structure import normalised_ssim
from sfumato.models.schedulers import schedule_of
from sfumato.plots.curves import curves_sheet
from sfumato.request import Request
from sfumato.runs.finding import Finding
from sfumato.trace import generate
from sfumato.watching.samples import Samples

SOURCE = (
    "SSIM of consecutive samples rises for about 750 of 1,000 steps, has a plateau near t = 250, then a dip and a rise "
    "in the last 100 steps, alike for all seeds."
)


def run(given: Setting) -> Finding:
    """Follow the trajectories of all seeds.

    Raises:
        OptionError: The run has too few steps to be judged.
    """
    first = given.requests[0]
    times = schedule_of(given.model, first)
    later = np.array([*times[1:], 0.0])
    start, plateau = later >= 900, (later <= 350) & (later >= 150)
    early, last = later > 250, later <= 100
    if not (start.any() and plateau.any()):
        raise OptionError(
            f"this run has {len(times)} steps, none of which ends in the first 100 timesteps or near t = 250; take 20 "
            "steps or more"
        )

    def work(request: Request) -> dict[str, NDArray[Any]]:
        found: list[float] = []
        before: list[NDArray[Any]] = []

        def take(step: int, sample: torch.Tensor) -> None:
            values = sample[0].float().cpu().numpy()
            if before:
                found.append(normalised_ssim(values, before.pop()))
            before.append(values)

        trace = generate(given.model, request, attachments=[Samples(take)])
        take(-1, trace.latents[:1])
        return {"ssim": np.array(found)}

    rows = np.stack([entry["ssim"] for entry in given.each("emergence", work)])  # (seed, step)
    mean = rows.mean(0)
    rise = bootstrap(rows[:, plateau].mean(1) - rows[:, start].mean(1))
    dip = bootstrap(rows[:, plateau].mean(1) - rows[:, last].min(1))
    back = bootstrap(rows[:, -1] - rows[:, last].min(1))
    verdict = verdict_of(*(lies(change, above=0) for change in (rise, dip, back)))
    rising = float((np.diff(mean[early]) > 0).mean()) if early.sum() > 1 else float("nan")
    sentence = (
        f"From the first 100 timesteps to the plateau around t = 250 normalised SSIM changes by {rise}; in the last "
        f"100 it falls by {dip} below the plateau and comes back by {back}. Before the plateau {rising:.0%} of the "
        "steps rise."
    )
    marks = [0, *(int(np.abs(later - t).argmin()) for t in (750, 500, 250, 100, 50)), len(later) - 1]
    table = over_time(later, rows, marks)
    figure = curves_sheet({"normalised SSIM of a sample with the one before": (later, {"": rows})})
    return Finding("emergence", SOURCE, verdict, sentence, table, figure, about(given))
