"""When two conditions part: the same noise with two labels or prompts, side by side (figures 5.14 to 5.16)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from sfumato.generation.feature_layers import attention_layers, layers_of
from sfumato.generation.generate import generate
from sfumato.generation.interventions.conditions import SwitchCondition
from sfumato.generation.recorders.activations import Activations, attention_sum
from sfumato.generation.recorders.samples import Samples
from sfumato.metrics import bootstrap, lies, verdict_of
from sfumato.metrics.divergence import APART
from sfumato.metrics.structure import frobenius, normalised_ssim
from sfumato.models.model import Model
from sfumato.models.schedulers import schedule_of
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
    over_time,
    sampling_of_seeds,
)

PARTS = (650, 950)
"""The timesteps between which "about t = 800" lies."""
CLAIM = Claim(
    "Samples of two labels from one seed are alike until about t = 800, part gradually to a plateau, and grow more "
    "different in the last 100 steps; their attention maps part at about t = 700.",
    paper="the thesis on the diffusion profile, figures 5.14 to 5.16",
)


@dataclass(frozen=True)
class DivergenceOptions(OverSeedsOptions):
    """Options of the task."""

    other: str | None = field(default=None, metadata=OTHER)


@task(
    "divergence",
    question="When do two conditions part?",
    options=DivergenceOptions,
    cost=Cost("two generations for each seed"),
    needs=("words or label",),
    claim=CLAIM,
    model="studio/faces",
    shard=1,
)
class Divergence:
    """Both conditions of every seed, generated as one batch of two."""

    def check(self, model: Model, options: DivergenceOptions) -> None:
        """Refuse a condition that cannot be compared.

        Raises:
            OptionError: Both conditions are the same.
            ModelError: The model does not take one of them.
        """
        model.complete(first_request(model, options))
        model.encode([other_of(model, options, options.other)])

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: DivergenceOptions) -> Iterator[Item]:
        """An item for each seed."""
        return items_of(facts, options, {"other": other_of(facts, options, options.other)})

    def measure(
        self, model: Model, items: Sequence[CompletedItem], options: DivergenceOptions, progress: Progress
    ) -> Sequence[Record]:
        """Compare the conditions of one seed after the other."""
        first = items[0].request
        names = [layer.name for layer in attention_layers(model, layers_of(model, first))]
        return [_record(model, one, names) for one in items]

    def conclude(self, records: Records, options: DivergenceOptions, about: Mapping[str, Any]) -> Finding:
        """The timestep at which the samples part and the drop at the end, over seeds."""
        found = list(records)
        arrays = [record.arrays for _, record in found]
        later = arrays[0]["timestep"]
        alike = np.stack([one["ssim"] for one in arrays])  # (seed, step)
        parted = [float(later[np.argmax(row < APART)]) if (row < APART).any() else 0.0 for row in alike]
        when = bootstrap(parted)
        late = int(np.abs(later - 100).argmin())
        drop = bootstrap(alike[:, late] - alike[:, -1])
        final = bootstrap(alike[:, -1])
        verdict = verdict_of(lies(when, above=PARTS[0], below=PARTS[1]), lies(drop, above=0))
        sentence = (
            f"Samples of {len(parted) - parted.count(0.0)} of {len(parted)} seeds fall below a normalised SSIM of "
            f"{APART} before the end, on average at t = {when:.0f} (0 where they do not); from t = 100 to the end "
            f"normalised SSIM falls by {drop}, to {final}."
        )
        panels: dict[str, Any] = {"normalised SSIM of the samples of both conditions": (later, {"": alike})}
        if arrays[0]["attention"].size:
            apart = np.stack([one["attention"] for one in arrays])
            panels["distance of the attention maps"] = (later[:-1], {"": apart})
        marks = (int(np.abs(later - t).argmin()) for t in (1000, 900, 800, 700, 600, 400, 200, 100, 50, 0))
        table = over_time(later, alike, marks)
        told = sampling_of_seeds([item.request for item, _ in found], about) | {"other": found[0][0].about["other"]}
        return Finding("divergence", CLAIM.text, verdict, sentence, table, curves_sheet(panels), told)


def _record(model: Model, item: CompletedItem, names: Sequence[str]) -> Record:
    """The similarity of both samples before and after every step, and the distance of their attention maps.

    Args:
        model: The model.
        item: Its request is of the first condition.
        names: Of the attention layers; without any, there are no distances.
    """
    alike: list[float] = []
    attention: dict[int, torch.Tensor] = {}
    grid = model.latent_grid(item.request)

    def take(step: int, samples: torch.Tensor) -> None:
        one, other = samples.float().cpu().numpy()
        alike.append(normalised_ssim(one, other))

    def add(name: str, step: int, maps: torch.Tensor) -> None:
        scaled = attention_sum(maps, grid)
        attention[step] = attention.get(step, torch.zeros_like(scaled)) + scaled

    watch = [Activations(names, add)] if names else []
    change = SwitchCondition(item.about["other"], (None, 0))
    trace = generate(model, [item.request, item.request], attachments=[Samples(take), *watch, change])
    take(-1, trace.latents)
    apart = [frobenius(maps[0].cpu(), maps[1].cpu()) for _, maps in sorted(attention.items())]
    times = np.array([*schedule_of(model, item.request), 0.0])
    return Record(arrays={"ssim": np.array(alike), "attention": np.array(apart), "timestep": times})
