"""Parameter randomisation: with random weights from the output to the input, does the explanation fall apart?

Source: Adebayo et al. 2018, cascading randomisation. A map that stays as it was when the network knows nothing any more
did not come from what the network knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from sfumato.errors import ModelError, NonFinite
from sfumato.generation.context import GenerationContext
from sfumato.generation.feature_layers import first_call
from sfumato.judging.again import again
from sfumato.judging.checks import CheckResult, by_chance, measured
from sfumato.judging.maps import named_maps
from sfumato.metrics import rank_correlation
from sfumato.models.model import Model
from sfumato.models.turns import alone
from sfumato.progress import Progress, silent
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation

NODE = "randomisation"
STAGES = 6


def randomisation(
    model: Model, explanation: Explanation, *, stages: int = STAGES, progress: Progress = silent
) -> tuple[list[CheckResult], xr.Dataset]:
    """Explain again with ever more blocks of the denoiser random, and compare the maps with those of the whole model.

    Args:
        model: The one that made the explanation; its weights are as before afterwards, whatever happens.
        explanation: Of one image, with maps.
        stages: In how many parts the denoiser is randomised, the last blocks first.
        progress: Told about every stage.

    Raises:
        SfumatoError: There is no map.
        ModelError: The weights are kept elsewhere, so they cannot be exchanged.
    """
    request = model.complete(explanation.request)
    maps = named_maps(explanation)
    blocks = blocks_with_weights(model, request)[::-1]
    ends = sorted({round(len(blocks) * (stage + 1) / stages) for stage in range(stages)} - {0})
    chance = np.array([by_chance(one, request.seed) for one in maps.values()])
    likeness = np.full((len(ends) + 1, len(maps)), np.nan)
    likeness[0] = [1.0 if np.ptp(one) else np.nan for one in maps.values()]
    images = [np.asarray(explanation.image.convert("RGB"))]
    done = 0
    with ExitStack() as stack:
        stack.enter_context(alone(model.pipeline))
        for stage, end in enumerate(ends):
            stack.enter_context(permuted([model.denoiser.get_submodule(name) for name in blocks[done:end]], stage))
            done = end
            try:
                found = again(model, explanation, request)
            except NonFinite:  # random weights may blow up; what has no image has no map
                images.append(np.zeros_like(images[0]))
            else:
                now = named_maps(found)
                alike = [rank_correlation(maps[name], now[name]) if name in now else np.nan for name in maps]
                likeness[stage + 1] = alike
                images.append(np.asarray(found.image.convert("RGB")))
            progress("random weights", stage + 1, len(ends))
    number = "rank agreement with random weights"
    row = measured(NODE, number, list(likeness[-1]), "random maps", list(chance), "like")
    node = xr.Dataset(
        {
            "likeness": (("stage", "map"), likeness),
            "control": ("map", chance),
            "pixels": (("stage", "y", "x", "channel"), np.stack(images)),
        },
        coords={
            "stage": ("stage", [0, *ends]),
            "map": ("map", list(maps)),
            "channel": ("channel", ["R", "G", "B"]),
        },
        attrs={"blocks": len(blocks)},
    )
    return [row], node


def blocks_with_weights(model: Model, request: CompletedRequest) -> list[str]:
    """The parts of the denoiser that hold weights, in order of execution: its children, those in lists one by one."""
    names = [name for name, part in _parts(model.denoiser) if any(True for _ in part.parameters())]
    order: dict[str, None] = {}

    def look(run: GenerationContext) -> None:
        for name in names:
            see = _noted(order, name)
            run.hooks.after(run.model.denoiser.get_submodule(name), see)

    first_call(model, request, look)
    return [name for name in names if name not in order] + list(order)


def _parts(module: nn.Module, above: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Children by their paths; a list is called by nobody, so what it holds stands for it, lists in lists as well."""
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList):
            yield from _parts(child, f"{above}{name}.")
        else:
            yield above + name, child


@contextmanager
def permuted(modules: Sequence[nn.Module], seed: int) -> Iterator[None]:
    """The values of every weight in another order, so their distribution stays; undone at the end.

    Raises:
        ModelError: A weight is kept elsewhere by accelerate.
    """
    weights = list(dict.fromkeys(p for module in modules for p in module.parameters() if p.is_floating_point()))
    if any(weight.is_meta for weight in weights):
        raise ModelError("the weights are offloaded, so they cannot be exchanged; load the model without offloading")
    generator = torch.Generator().manual_seed(seed)
    before: list[torch.Tensor] = []
    try:
        for weight in weights:
            before.append(weight.detach().clone())
            order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
            _write(weight, before[-1].flatten()[order].view_as(weight))
        yield
    finally:
        for weight, values in reversed(list(zip(weights, before, strict=False))):  # two may share their memory
            _write(weight, values)


@torch.no_grad()
def _write(weight: torch.Tensor, values: torch.Tensor) -> None:
    """Not through ``.data``: whoever keeps a digest of the weights must see that they changed."""
    weight.copy_(values)


def _noted(order: dict[str, None], name: str) -> Any:
    def see(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        order.setdefault(name)

    return see
