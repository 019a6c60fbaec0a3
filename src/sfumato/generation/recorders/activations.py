"""Outputs of layers while a generation runs, as feature maps, at chosen steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from sfumato.errors import CannotWatch
from sfumato.generation.context import GenerationContext
from sfumato.models.model import Model
from sfumato.request import CompletedRequest

Take = Callable[[str, int, torch.Tensor], None]
"""Told the layer, the step and the feature maps (item, channel, y, x) of the conditional branch."""


class Activations:
    """A watcher that hands on the outputs of layers.

    Args:
        layers: Paths of modules inside the denoiser.
        take: Told each output, before the next layer runs.
        steps: At which steps; None for all.
        raw: Hand on the output itself, of all rows, as the next layer gets it: what derivatives can be taken of.
    """

    def __init__(
        self, layers: Sequence[str], take: Take, steps: Collection[int] | None = None, *, raw: bool = False
    ) -> None:
        self._layers = tuple(layers)
        self._take = take
        self._steps = steps
        self._raw = raw

    def install(self, run: GenerationContext) -> None:
        """Register hooks on the layers."""
        maps = FeatureMaps(run.model, run.requests[0])
        for name in self._layers:
            run.hooks.after(run.model.denoiser.get_submodule(name), partial(self._see, run, maps, name))

    def _see(
        self,
        run: GenerationContext,
        maps: FeatureMaps,
        name: str,
        module: nn.Module,
        args: Any,
        kwargs: Any,
        output: Any,
    ) -> None:
        if self._steps is not None and run.clock.step not in self._steps:
            return
        features = maps.of(name, output)
        if features is None:
            raise CannotWatch(f"the output of {name} is no feature map; choose other layers")
        if self._raw:
            self._take(name, run.clock.step, tensor_of(output))
        elif (rows := run.rows("conditional")) is not None:
            self._take(name, run.clock.step, features[rows].detach())


def attention_sum(maps: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """The share of one layer in the attention map A_t: its channels summed, upsampled bilinearly; (item, y, x)."""
    summed = maps.float().sum(1, keepdim=True)
    return F.interpolate(summed, size=grid, mode="bilinear", align_corners=False)[:, 0]


def tensor_of(output: Any) -> Any:
    """The output itself, or the first entry of a tuple, or ``sample`` of an output class."""
    return output[0] if isinstance(output, tuple) and output else getattr(output, "sample", output)


class FeatureMaps:
    """Reads the outputs of a denoiser's modules as feature maps.

    Where text and image share a sequence, the part of the image is taken: a sequence of any other length than the
    image's is none of positions, unless it comes from an attention over both.

    Args:
        model: Whose denoiser.
        request: Completed; its size counts.
    """

    def __init__(self, model: Model, request: CompletedRequest) -> None:
        joint = {site.name: site for site in model.sites() if site.kind == "joint"}
        self._joint = joint
        self._grid = model.latent_grid(request)
        self._tokens = model.token_grid(request) if joint else None

    def of(self, name: str, output: Any) -> torch.Tensor | None:
        """The output of a module as (row, channel, y, x), or None where it is no feature map.

        Args:
            name: Path of the module.
            output: Of the module; of a tuple the first entry.
        """
        first = tensor_of(output)
        if self._tokens is None or not isinstance(first, torch.Tensor) or first.ndim != 3:
            return as_map(first, self._grid)
        positions, site = self._tokens[0] * self._tokens[1], self._joint.get(name)
        text = first.shape[1] - positions
        if text < 0 or (text and site is None):
            return None
        if site is not None:
            first = first[:, text:] if site.text_first else first[:, :positions]
        return _folded(first, self._tokens)


def as_map(output: Any, grid: tuple[int, int]) -> torch.Tensor | None:
    """A module's output as (row, channel, y, x), or None where it is no feature map.

    Args:
        output: Of a module; of a tuple the first entry.
        grid: Height and width of the latent, whose sides, divided by one factor, a sequence must fill.
    """
    first = tensor_of(output)
    if not isinstance(first, torch.Tensor) or not first.is_floating_point():
        return None
    if first.ndim == 4:
        return first
    if first.ndim != 3:
        return None
    sizes = ((-(-grid[0] // factor), -(-grid[1] // factor)) for factor in range(1, max(grid) + 1))
    found = next((size for size in sizes if size[0] * size[1] == first.shape[1]), None)
    if found is None:
        return None
    return _folded(first, found)


def _folded(sequence: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """A sequence (row, position, channel) as (row, channel, y, x)."""
    return sequence.transpose(1, 2).reshape(sequence.shape[0], sequence.shape[2], *grid)
