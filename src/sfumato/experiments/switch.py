"""Predetermination: from which step on a switch of the condition no longer changes the image (figure 5.17)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.experiments.experiment import Setting, about
from sfumato.explain import explain
from sfumato.metrics import bootstrap, lies, verdict_of
from sfumato.plots.curves import curves_sheet
from sfumato.registry import find
from sfumato.request import Request
from sfumato.runs.finding import Finding

SOURCE = (
    "Switching the label within the first 200 to 300 of 1,000 steps gives the image of the new label; after 400 steps "
    "SSIM to the original is at least 0.9, and a switch in the last 100 hardly matters."
)


def run(given: Setting) -> Finding:
    """Switch at about ten steps of every seed."""

    def work(request: Request) -> dict[str, NDArray[Any]]:
        found = explain(given.model, request, "switch", to=given.other, progress=given.progress)
        data = found.tree["switch"].to_dataset()
        similarity = {f"ssim_to_{which}": data[f"normalised_ssim_to_{which}"].values for which in ("first", "second")}
        return similarity | {name: data[name].values for name in ("settled", "timestep")}

    entries = given.each("switch", work, methods=[find("switch")], other=given.other)
    first = np.stack([entry["ssim_to_first"] for entry in entries])  # (seed, switch)
    second = np.stack([entry["ssim_to_second"] for entry in entries])
    times = entries[0]["timestep"]
    settled = bootstrap([float(entry["settled"]) for entry in entries])
    early = int(np.abs(times - 800).argmin())
    late = int(np.abs(times - 100).argmin())
    nearer = bootstrap(second[:, early] - first[:, early])
    end = bootstrap(first[:, late])
    verdict = verdict_of(lies(nearer, above=0), lies(end, above=0.9))
    sentence = (
        f"After {settled.mean:.0%} [{settled.low:.0%}, {settled.high:.0%}] of the run a switch leaves normalised SSIM "
        f"to the first condition at 0.9 or more. Switched at t = {times[early]:.0f}, the outcome is nearer to the new "
        f"condition by {nearer}; switched at t = {times[late]:.0f}, normalised SSIM to the old one is {end}."
    )
    table = [
        {
            "timestep of the switch": float(time),
            "normalised ssim to the first": bootstrap(first[:, place]),
            "normalised ssim to the second": bootstrap(second[:, place]),
        }
        for place, time in enumerate(times)
    ]
    figure = curves_sheet(
        {"normalised SSIM of the outcome": (times, {"to the first alone": first, "to the second alone": second})}
    )
    return Finding("switch", SOURCE, verdict, sentence, table, figure, about(given) | {"other": given.other})
