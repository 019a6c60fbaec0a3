"""DF-CAM: where were the denoiser's features active that drove a step's output?

Source: Park et al. 2024, "Explaining generative diffusion models via visual analysis for interpretable decision-making
process". The released code mixes both guidance branches and runs one generation for each layer; here the conditional
branch by default, and all layers in one forward and one backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from sfumato.errors import ModelError, OptionError
from sfumato.generation.feature_layers import chosen, layers_of
from sfumato.generation.generate import generate
from sfumato.methods.costs import runs
from sfumato.methods.masks import mask_of, on_latent
from sfumato.models.model import Model
from sfumato.models.words import find, without
from sfumato.option_values import STEPS
from sfumato.progress import Progress
from sfumato.registry import method
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.saliency.cam import LAYERS, cam, on_grid
from sfumato.saliency.nodes import NODES, saliency_node
from sfumato.saliency.recovering import Recovery, steps_at


@dataclass(frozen=True)
class DfCamOptions:
    """Options of ``df_cam``."""

    at: tuple[int, ...] = field(
        default=(),
        metadata=STEPS | {"help": "steps (from 0); without any, a quarter, a half and three quarters of the run"},
    )
    layers: tuple[str, ...] = field(
        default=(),
        metadata={"pattern": "glob", "help": "layers (names or globs) whose maps are summed; the source's choice"},
    )
    branch: Literal["conditional", "mix"] = field(
        default="conditional", metadata={"help": "the conditional branch, or both mixed by the guidance, as published"}
    )
    mask: str | None = field(
        default=None,
        metadata={"disk": "mask", "help": "count only the output inside: a region, or a black and white PNG"},
    )
    word: str | None = field(
        default=None, metadata={"help": "count the output along what this word changes in it, such as red or circle#2"}
    )


def _cost(model: Model, request: CompletedRequest, options: DfCamOptions) -> str:
    steps, each = len(steps_at(model, request, options.at)), 1 + len(model.branches(request).names)
    return f"{runs(model, request)}, then {each * steps} calls at {steps} steps, one of each backwards"


@method(
    "df_cam",
    summary="Where were the features active that drove a step's output? Gradient-weighted activations",
    options=DfCamOptions,
    needs=("replay",),
    cost=_cost,
    paper="Park et al. 2024, Explaining generative diffusion models via visual analysis: DF-CAM",
)
def df_cam(
    model: Model, requests: Sequence[CompletedRequest], options: DfCamOptions, progress: Progress
) -> list[Explanation]:
    """Weigh the features of every request's chosen steps."""
    return [_explained(model, request, options, progress) for request in requests]


def _explained(model: Model, request: CompletedRequest, options: DfCamOptions, progress: Progress) -> Explanation:
    if request.images != 1:
        raise OptionError("df_cam looks at one image; explain each seed by itself")
    steps = steps_at(model, request, options.at)
    inside = None if options.mask is None else on_latent(mask_of(model, request, options.mask), model, request)
    lacking = None if options.word is None else _lacking(model, request, options.word)
    known = layers_of(model, request)
    names = [layer.name for layer in chosen(options.layers or _usual(known), known)]
    trace = generate(model, request, record=set(steps), progress=progress)
    recoveries = [Recovery(trace, step) for step in steps]
    maps, of_layers = [], []
    for number, recovery in enumerate(recoveries):
        weights = None
        if lacking is not None:
            with_word = trace.replay(recovery.step)
            condition, pooled = lacking
            weights = with_word - trace.replay(recovery.step, condition=condition.to(with_word), pooled=pooled)
            recovery.calls += 2
        if inside is not None:
            mask = torch.from_numpy(inside).to(recovery.sample)
            weights = mask if weights is None else weights * mask
        mix = request.guidance if options.branch == "mix" else None
        found = [on_grid(one, recovery.grid) for one in cam(recovery, names, weights, mix=mix).values()]
        of_layers.append(torch.stack(found).numpy())
        maps.append(of_layers[-1].sum(0))
        progress("steps", number + 1, len(steps))
    node = saliency_node(
        recoveries,
        maps,
        {"layer_map": (("step", "layer", "y", "x"), np.stack(of_layers))},
        method="df_cam",
        branch=options.branch,
        denoiser_calls=sum(one.calls for one in recoveries),
    ).assign_coords(layer=("layer", names))
    return trace.explanation(0, {f"{NODES}/df_cam": node})


def _usual(known: Sequence[Any]) -> list[str]:
    """The source's layers, those of them that this denoiser has; else all."""
    found = []
    for pattern in LAYERS:
        try:
            found += [layer.name for layer in chosen([pattern], known)]
        except OptionError:
            continue
    return found or ["**"]


def _lacking(model: Model, request: CompletedRequest, word: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The condition of the prompt without a word, and what goes with it."""
    if "words" not in model.features:
        raise ModelError(f"{model.source.name} reads no words; leave out word={word}")
    rest = [without(request.prompt, find(model.tokens(request.prompt).words, word))]
    return model.encode(rest), model.pooled(rest)
