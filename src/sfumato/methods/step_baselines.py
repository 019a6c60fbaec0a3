"""Baselines for the saliency of a step: LIME, gradients, attention, and the controls random and centre.

LIME over superpixels is the source's baseline (Park et al. 2024); a map must beat the controls to say anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sfumato.errors import ModelError, OptionError
from sfumato.generation.generate import generate
from sfumato.generation.recorders.reduce import AttentionSums, Axis, GridMaps
from sfumato.generation.trace import Trace
from sfumato.methods.costs import runs
from sfumato.metrics.controls import control_map
from sfumato.models.model import Model
from sfumato.option_values import COUNT, MEGABYTES, STEPS
from sfumato.progress import Progress
from sfumato.registry import method
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.results.upscale import bicubic
from sfumato.saliency import baselines
from sfumato.saliency.nodes import NODES, saliency_node
from sfumato.saliency.recovering import Recovery, rows_within, steps_at

KINDS = ("lime", "gradient", "integrated_gradients", "attention", "random", "centre")


@dataclass(frozen=True)
class StepBaselinesOptions:
    """Options of ``step_baselines``."""

    kinds: tuple[str, ...] = field(
        default=(), metadata={"choices": KINDS, "help": "which: " + ", ".join(KINDS) + "; all that can be"}
    )
    at: tuple[int, ...] = field(
        default=(),
        metadata=STEPS | {"help": "steps (from 0); without any, a quarter, a half and three quarters of the run"},
    )
    samples: int = field(default=1000, metadata=COUNT | {"least": 4, "help": "coalitions of superpixels, for lime"})
    segments: int = field(
        default=baselines.SEGMENTS,
        metadata={
            "least": 2,
            "most": 10_000,
            "help": "about how many superpixels, for lime; at most half of the coalitions",
        },
    )
    memory: float = field(
        default=1000.0, metadata=MEGABYTES | {"help": "most memory for the feature maps of a batch, in MB"}
    )


def _kinds(model: Model, options: StepBaselinesOptions) -> tuple[str, ...]:
    able = tuple(kind for kind in KINDS if kind != "attention" or "words" in model.features)
    if wrong := [kind for kind in options.kinds if kind not in able]:
        raise ModelError(f"{model.source.name} has no attention on words; leave out {wrong[0]}")
    return options.kinds or able


def _cost(model: Model, request: CompletedRequest, options: StepBaselinesOptions) -> str:
    steps, kinds = len(steps_at(model, request, options.at)), _kinds(model, options)
    each = (1 + ("lime" in kinds) * options.samples) * len(model.branches(request).names)
    each += ("gradient" in kinds) + ("integrated_gradients" in kinds) * baselines.INTEGRATED
    return f"{runs(model, request)}, then up to {each * steps} calls at {steps} steps"


@method(
    "step_baselines",
    summary="Saliency of a step by LIME, gradients and attention, with the controls random and centre",
    options=StepBaselinesOptions,
    needs=("replay",),
    cost=_cost,
    paper="LIME on the latent: Park et al. 2024; integrated gradients: Sundararajan et al. 2017, arXiv 1703.01365",
)
def step_baselines(
    model: Model, requests: Sequence[CompletedRequest], options: StepBaselinesOptions, progress: Progress
) -> list[Explanation]:
    """Find every chosen baseline for every request."""
    return [_explained(model, request, options, progress) for request in requests]


def _explained(
    model: Model, request: CompletedRequest, options: StepBaselinesOptions, progress: Progress
) -> Explanation:
    if request.images != 1:
        raise OptionError("step_baselines looks at one image; explain each seed by itself")
    kinds, steps = _kinds(model, options), steps_at(model, request, options.at)
    rows = rows_within(model, request, options.memory)
    watch = [_attention_of(model, request, steps)] if "attention" in kinds else []
    trace = generate(model, request, record=set(steps), attachments=watch, progress=progress)
    nodes: dict[str, xr.Dataset] = {}
    recoveries = [Recovery(trace, step, rows=rows) for step in steps]
    for number, kind in enumerate(kinds):
        before = sum(one.calls for one in recoveries)
        if kind == "attention":
            maps = _attention_maps(watch[0].grids(), trace, len(steps))
        else:
            maps = []
            for place, recovery in enumerate(recoveries):
                maps.append(_map(kind, recovery, options, request.seed))
                progress("baselines", number * len(steps) + place + 1, len(kinds) * len(steps))
        calls = sum(one.calls for one in recoveries) - before
        nodes[f"{NODES}/{kind}"] = saliency_node(recoveries, maps, method=kind, denoiser_calls=calls)
    return trace.explanation(0, nodes)


def _map(kind: str, recovery: Recovery, options: StepBaselinesOptions, seed: int) -> NDArray[np.float32]:
    match kind:
        case "lime":
            return baselines.lime_map(recovery, options.samples, seed, options.segments)
        case "gradient":
            return baselines.gradient(recovery)
        case "integrated_gradients":
            return baselines.integrated_gradients(recovery)
        case control:
            return np.asarray(control_map(control, recovery.grid, seed, recovery.step), np.float32)


def _attention_of(model: Model, request: CompletedRequest, steps: Sequence[int]) -> AttentionSums:
    sites = [site for site in model.sites() if site.kind != "self"]
    keep: tuple[Axis] = ("step",)
    return AttentionSums(sites, "conditional", _spoken(model, request), keep, steps)


def _spoken(model: Model, request: CompletedRequest) -> list[int]:
    """Places of the words' tokens."""
    return sorted(place for word in model.tokens(request.prompt).words for place in word.tokens)


def _attention_maps(grids: dict[tuple[int, int], GridMaps], trace: Trace, steps: int) -> list[NDArray[np.float32]]:
    """At every step the attention on the prompt's words, averaged over heads and layers of all grids (DAAM)."""
    model, request = trace.model, trace.requests[0]
    latent = model.latent_grid(request)
    maps = []
    for step in range(steps):
        weight = sum(float(found.weights[step].sum()) for found in grids.values())
        total = sum(
            bicubic(found.maps[0, step, 0, 0].astype(np.float64).sum(0) * found.weights[step].sum(), latent)
            for found in grids.values()
        )
        maps.append(np.asarray(total / weight, np.float32))
    return maps
