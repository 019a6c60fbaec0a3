"""When two conditions part: the same noise with two labels or prompts, side by side (figures 5.14 to 5.16)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato.changing.conditions import SwitchCondition
from sfumato.errors import OptionError
from sfumato.experiments.experiment import Setting, about, over_time
from sfumato.layers import attention_layers, layers_of
from sfumato.metrics import bootstrap, lies, verdict_of
from sfumato.metrics.divergence import APART
from sfumato.metrics.structure import frobenius, normalised_ssim
from sfumato.models.schedulers import schedule_of
from sfumato.plots.curves import curves_sheet
from sfumato.request import Request
from sfumato.runs.finding import Finding
from sfumato.trace import generate
from sfumato.watching.activations import Activations, attention_sum
from sfumato.watching.samples import Samples

PARTS = (650, 950)
"""The timesteps between which "about t = 800" lies."""

SOURCE = (
    "Samples of two labels from one seed are alike until about t = 800, part gradually to a plateau, and grow more "
    "different in the last 100 steps; their attention maps part at about t = 700."
)


def run(given: Setting) -> Finding:
    """Generate both conditions of every seed as one batch of two.

    Raises:
        OptionError: Both conditions are the same.
    """
    first = given.requests[0]
    if given.other == (first.label or first.prompt):
        raise OptionError(f"other is {given.other!r}, as in the request; give another")
    names = [layer.name for layer in attention_layers(given.model, layers_of(given.model, first))]
    grid = given.model.latent_grid(first)

    def work(request: Request) -> dict[str, NDArray[Any]]:
        alike: list[float] = []
        attention: dict[int, torch.Tensor] = {}

        def take(step: int, samples: torch.Tensor) -> None:
            one, other = samples.float().cpu().numpy()
            alike.append(normalised_ssim(one, other))

        def add(name: str, step: int, maps: torch.Tensor) -> None:
            scaled = attention_sum(maps, grid)
            attention[step] = attention.get(step, torch.zeros_like(scaled)) + scaled

        watch = [Activations(names, add)] if names else []
        change = SwitchCondition(given.other, (None, 0))
        trace = generate(given.model, [request, request], attachments=[Samples(take), *watch, change])
        take(-1, trace.latents)
        apart = [frobenius(maps[0].cpu(), maps[1].cpu()) for _, maps in sorted(attention.items())]
        return {"ssim": np.array(alike), "attention": np.array(apart)}

    entries = given.each("divergence", work, other=given.other, attention=names)
    times = schedule_of(given.model, first)
    later = np.array([*times, 0.0])
    alike = np.stack([entry["ssim"] for entry in entries])  # (seed, step)
    parted = [float(later[np.argmax(row < APART)]) if (row < APART).any() else 0.0 for row in alike]
    when = bootstrap(parted)
    late = int(np.abs(later - 100).argmin())
    drop = bootstrap(alike[:, late] - alike[:, -1])
    final = bootstrap(alike[:, -1])
    verdict = verdict_of(lies(when, above=PARTS[0], below=PARTS[1]), lies(drop, above=0))
    sentence = (
        f"Samples of {len(parted) - parted.count(0.0)} of {len(parted)} seeds fall below a normalised SSIM of {APART} "
        f"before the end, on average at t = {when.mean:.0f} [{when.low:.0f}, {when.high:.0f}] (0 where they do not); "
        f"from t = 100 to the end normalised SSIM falls by {drop}, to {final}."
    )
    panels: dict[str, Any] = {"normalised SSIM of the samples of both conditions": (later, {"": alike})}
    if names:
        panels["distance of the attention maps"] = (later[:-1], {"": np.stack([e["attention"] for e in entries])})
    marks = (int(np.abs(later - t).argmin()) for t in (1000, 900, 800, 700, 600, 400, 200, 100, 50, 0))
    table = over_time(later, alike, marks)
    return Finding(
        "divergence", SOURCE, verdict, sentence, table, curves_sheet(panels), about(given) | {"other": given.other}
    )
