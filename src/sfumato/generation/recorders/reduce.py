"""Streaming sums of attention maps on the model's device, with as many axes kept as asked for, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from sfumato.errors import BudgetExceeded, CannotWatch
from sfumato.generation.context import GenerationContext
from sfumato.generation.recorders.attention import Attention
from sfumato.generation.recorders.tapping import tap_attention
from sfumato.models.model import Site

Axis = Literal["step", "layer", "head"]
Read = Callable[[Attention, slice], Iterator[tuple[slice, torch.Tensor]]]
Weigh = Callable[[int, int, str, int], npt.NDArray[np.float64]]
"""From a step, the number of steps, a layer and the number of its heads to a weight for each head."""


@dataclass(frozen=True)
class GridMaps:
    """Attention maps of one grid, averaged over every axis that was not kept.

    Attributes:
        maps: (item, step, layer, head, token, y, x) mean attention probability, tokens in the order asked for; axes not
            kept have length 1.
        weights: (step, layer, head) how many maps each mean is made of; 0 where a layer has fewer heads.
        steps: Kept steps.
        layers: Kept layers by module path.
    """

    maps: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float64]
    steps: tuple[int, ...]
    layers: tuple[str, ...]


def check_batch(attention: Attention, run: GenerationContext) -> None:
    """Refuse a call of the denoiser whose rows are not those of all images and branches.

    Raises:
        CannotWatch: The message says how many rows there were.
    """
    expected = run.items * run.branches.blocks
    if attention.batch != expected:
        raise CannotWatch(
            f"the denoiser was called with {attention.batch} rows where {expected} were expected "
            f"({run.items} images, branches {', '.join(run.branches.names)}); its batch is not known"
        )


class AttentionSums:
    """Sums the attention that the first tokens of one guidance branch receive at some sites.

    The sums stay on the device while the pipeline runs; nothing is copied to the host before ``grids`` is called.

    Args:
        sites: Where to look.
        branch: Which guidance branch.
        tokens: Which tokens, by their places in the context, rising.
        keep: Axes that are not summed over.
        steps: Count only these steps, or None for all.
        budget: Bytes of kept maps allowed for each image.
        read: How maps (row, head, place, token) are read off the rows of a call, by groups of heads; by default they
            are the probabilities of the tokens.
        weigh: By what the maps of each head are multiplied; by default 1.

    Raises:
        BudgetExceeded: During the run, before the memory is taken.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        branch: str,
        tokens: Sequence[int],
        keep: Collection[Axis] = (),
        steps: Collection[int] | None = None,
        budget: float = 256e6,
        read: Read | None = None,
        weigh: Weigh | None = None,
    ) -> None:
        self._sites, self._branch, self._tokens, self._keep = tuple(sites), branch, tuple(tokens), frozenset(keep)
        self._steps, self._budget = None if steps is None else frozenset(steps), budget
        self._read, self._weigh = read or self._probabilities, weigh
        self._sums: dict[tuple[tuple[int, int], int, str], torch.Tensor] = {}  # (item, head, query, token)
        self._weights: dict[tuple[tuple[int, int], int, str], int] = {}
        self._counted: set[tuple[tuple[int, int], str]] = set()
        self._needed = 0.0

    def install(self, run: GenerationContext) -> None:
        """Begin summing."""

        def see(attention: Attention) -> None:
            rows = run.rows(self._branch)
            if rows is None or attention.order or (self._steps is not None and run.clock.step not in self._steps):
                return
            check_batch(attention, run)
            self._add(attention, rows, run)

        tap_attention(run, self._sites, see)

    def _add(self, attention: Attention, rows: slice, run: GenerationContext) -> None:
        key = (
            attention.grid,
            run.clock.step if "step" in self._keep else -1,
            attention.site.name if "layer" in self._keep else "",
        )
        weights = None
        if self._weigh is not None:
            found = self._weigh(run.clock.step, run.clock.steps, attention.site.name, attention.heads)
            weights = torch.from_numpy(found)
        for heads, maps in self._read(attention, rows):
            maps = maps.detach()
            if weights is not None:
                maps = maps * weights[heads].to(maps)[None, :, None, None]
            if key not in self._sums:
                self._sums[key] = self._room(key, attention, maps, run)
                self._weights[key] = 0
            if "head" in self._keep:
                self._sums[key][:, heads] += maps
            else:
                self._sums[key][:, 0] += maps.sum(1)
        self._weights[key] += 1 if "head" in self._keep else attention.heads

    def _probabilities(self, attention: Attention, rows: slice) -> Iterator[tuple[slice, torch.Tensor]]:
        if self._tokens[-1] >= attention.keys:
            raise CannotWatch(
                f"attention at {attention.site.name} reads {attention.keys} tokens, but the prompt has one at place "
                f"{self._tokens[-1]}: tokenizer and text encoder do not match; load the model with its own tokenizer"
            )
        return attention.by_heads(rows, self._tokens)

    def _room(
        self, key: tuple[tuple[int, int], int, str], attention: Attention, maps: torch.Tensor, run: GenerationContext
    ) -> torch.Tensor:
        heads, tokens = attention.heads if "head" in self._keep else 1, len(self._tokens)
        positions = attention.positions
        if (key[0], key[2]) not in self._counted:  # all steps of a layer are counted when its first one comes
            steps = (len(self._steps) if self._steps is not None else run.clock.steps) if "step" in self._keep else 1
            self._counted.add((key[0], key[2]))
            self._needed += 4.0 * heads * positions * tokens * max(1, steps)
        if self._needed > self._budget:
            raise BudgetExceeded(
                f"keeping {', '.join(sorted(self._keep)) or 'sums'} needs more than {self._needed / 1e6:.1f} MB an "
                f"image; the budget is {self._budget / 1e6:.1f} MB; keep fewer axes, choose layers or steps, "
                "or raise the budget"
            )
        return torch.zeros(maps.shape[0], heads, positions, tokens, device=maps.device)

    def grids(self) -> dict[tuple[int, int], GridMaps]:
        """The means by grid, on the host, largest grid first.

        Raises:
            CannotWatch: Nothing was seen.
        """
        if not self._sums:
            raise CannotWatch("no attention was seen at the chosen layers and steps; choose others")
        found = {}
        for grid in sorted({key[0] for key in self._sums}, reverse=True):
            keys = [key for key in self._sums if key[0] == grid]
            steps = tuple(sorted({key[1] for key in keys}))
            layers = tuple(dict.fromkeys(key[2] for key in keys))
            first = self._sums[keys[0]]
            heads = max(self._sums[key].shape[1] for key in keys)
            maps = np.zeros((first.shape[0], len(steps), len(layers), heads, first.shape[3], *grid), np.float32)
            weights = np.zeros((len(steps), len(layers), heads))
            for key in keys:
                at = (steps.index(key[1]), layers.index(key[2]))
                count = self._sums[key].shape[1]
                mean = (self._sums[key] / self._weights[key]).to("cpu").numpy()
                maps[:, at[0], at[1], :count] = mean.swapaxes(-1, -2).reshape(*mean.shape[:2], mean.shape[3], *grid)
                weights[at[0], at[1], :count] = self._weights[key]
            found[grid] = GridMaps(maps, weights, steps, layers)
        return found
