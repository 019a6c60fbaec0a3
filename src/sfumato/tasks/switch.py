"""Predetermination: from which step on a switch of the condition no longer changes the image (figure 5.17)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sfumato.explain import explain
from sfumato.methods.switch import SwitchOptions as MethodOptions
from sfumato.methods.switch import switched_at
from sfumato.metrics import bootstrap, lies, verdict_of
from sfumato.models.model import Model
from sfumato.plots.curves import curves_sheet
from sfumato.progress import Progress
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Claim, CompletedItem, Cost, Item, ModelFacts, Record, Records, task
from sfumato.tasks.shared.over_seeds import (
    OTHER,
    OverSeedsOptions,
    first_request,
    items_of,
    other_of,
    sampling_of_seeds,
)

CLAIM = Claim(
    "Switching the label within the first 200 to 300 of 1,000 steps gives the image of the new label; after 400 steps "
    "normalised SSIM to the original is at least 0.9, and a switch in the last 100 hardly matters.",
    paper="the thesis on the diffusion profile, figure 5.17",
)


@dataclass(frozen=True)
class SwitchOptions(OverSeedsOptions):
    """Options of the task."""

    other: str | None = field(default=None, metadata=OTHER)


@task(
    "switch",
    question="When is the image settled: from which step on does another condition no longer change it?",
    options=SwitchOptions,
    cost=Cost("a generation for each of about ten switches and two more, for each seed"),
    needs=("words or label", "replay"),
    claim=CLAIM,
    model="studio/faces",
    shard=1,
)
class Switch:
    """Switches at about ten steps of every seed."""

    def check(self, model: Model, options: SwitchOptions) -> None:
        """Refuse a condition that cannot be switched to, and a run with too few steps.

        Raises:
            OptionError: Both conditions are the same, or there are fewer than 3 steps.
            ModelError: The model does not take one of them.
        """
        request = model.complete(first_request(model, options))
        model.encode([other_of(model, options, options.other)])
        switched_at(model, request, MethodOptions())

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: SwitchOptions) -> Iterator[Item]:
        """An item for each seed."""
        return items_of(facts, options, {"other": other_of(facts, options, options.other)})

    def measure(
        self, model: Model, items: Sequence[CompletedItem], options: SwitchOptions, progress: Progress
    ) -> Sequence[Record]:
        """Switch in one generation after the other."""
        return [_record(model, one, progress) for one in items]

    def conclude(self, records: Records, options: SwitchOptions, about: Mapping[str, Any]) -> Finding:
        """The similarity of the outcome to both conditions by the time of the switch, over seeds."""
        found = list(records)
        arrays = [record.arrays for _, record in found]
        first = np.stack([one["ssim_to_first"] for one in arrays])  # (seed, switch)
        second = np.stack([one["ssim_to_second"] for one in arrays])
        times = arrays[0]["timestep"]
        settled = bootstrap([record.values["settled"] for _, record in found])
        early = int(np.abs(times - 800).argmin())
        late = int(np.abs(times - 100).argmin())
        nearer = bootstrap(second[:, early] - first[:, early])
        end = bootstrap(first[:, late])
        verdict = verdict_of(lies(nearer, above=0), lies(end, above=0.9))
        sentence = (
            f"After {settled:.0%} of the run a switch leaves normalised SSIM to the first condition at 0.9 or more. "
            f"Switched at t = {times[early]:.0f}, the outcome is nearer to the new condition by {nearer}; switched at "
            f"t = {times[late]:.0f}, normalised SSIM to the old one is {end}."
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
        told = sampling_of_seeds([item.request for item, _ in found], about) | {"other": found[0][0].about["other"]}
        return Finding("switch", CLAIM.text, verdict, sentence, table, figure, told)


def _record(model: Model, item: CompletedItem, progress: Progress) -> Record:
    """The similarity to both conditions (switch,), the timesteps of the switches, and when the image is settled."""
    found = explain(model, item.request, "switch", to=item.about["other"], progress=progress)
    data = found.tree["switch"].to_dataset()
    similarity = {f"ssim_to_{which}": data[f"normalised_ssim_to_{which}"].values for which in ("first", "second")}
    return Record({"settled": data["settled"].item()}, similarity | {"timestep": data["timestep"].values})
