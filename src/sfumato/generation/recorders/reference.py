"""Attention between generated places and reference tokens, by both of its softmaxes, summed while the model runs.

Source: I2AM (Park and Jang 2024). With scores S (generated place, token), forward is the softmax of S over generated
places, backward the ordinary one over tokens; either one's mean over its own softmax axis is uniform and says nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato.errors import BudgetExceeded, CannotWatch
from sfumato.generation.context import GenerationContext
from sfumato.generation.recorders.attention import CHUNK_BYTES, Attention
from sfumato.generation.recorders.reduce import check_batch
from sfumato.generation.recorders.tapping import tap_attention
from sfumato.models.model import ReferenceTokens

PairAxis = Literal["group", "head"]
PAIR_AXES: tuple[PairAxis, ...] = ("group", "head")


@dataclass(frozen=True)
class LayerMaps:
    """What one attention module saw, means over the steps of each group.

    Attributes:
        layer: Path of the module.
        forward: (item, group, head, y, x), the mean over tokens of the softmax over generated places.
        backward: (item, group, head, token), the mean over generated places of the softmax over tokens.
        rows: (item, group, head, y, x, token), the softmax over tokens; axes that were not kept have length 1.
        columns: The same of the softmax over generated places.
        weights: (group,) of how many calls each group's mean is made.
    """

    layer: str
    forward: NDArray[np.float32]
    backward: NDArray[np.float32]
    rows: NDArray[np.float32]
    columns: NDArray[np.float32]
    weights: NDArray[np.float64]


class ReferenceSums:
    """Sums the attention of one guidance branch on reference tokens.

    Args:
        tokens: Where the reference is read.
        branch: Which guidance branch.
        groups: In how many groups of steps, of equal length as far as possible.
        keep: Axes of the pairs of place and token that are not summed over; layers are always kept.
        budget: Bytes of kept pairs allowed for each image.

    Raises:
        BudgetExceeded: During the run, before the memory is taken.
    """

    def __init__(
        self,
        tokens: ReferenceTokens,
        branch: str,
        groups: int,
        keep: Collection[PairAxis] = (),
        budget: float = 256e6,
    ) -> None:
        self._tokens, self._branch, self._groups = tokens, branch, groups
        self._keep, self._budget, self._needed = frozenset(keep), budget, 0.0
        self._orders = dict(zip((site.name for site in tokens.sites), tokens.orders, strict=True))
        self._sums: dict[str, _Sums] = {}

    def install(self, run: GenerationContext) -> None:
        """Begin summing."""

        def see(attention: Attention) -> None:
            rows = run.rows(self._branch)
            if rows is None or attention.order != self._orders[attention.site.name]:
                return
            check_batch(attention, run)
            group = min(run.clock.step * self._groups // run.clock.steps, self._groups - 1)
            self._add(attention, rows, group, run.items)

        tap_attention(run, self._tokens.sites, see)

    def _add(self, attention: Attention, rows: slice, group: int, items: int) -> None:
        name = attention.site.name
        if name not in self._sums:
            self._sums[name] = self._room(attention, items)
        sums = self._sums[name]
        at, places = group if "group" in self._keep else 0, attention.grid[0] * attention.grid[1]
        each = max(1, min(attention.heads, CHUNK_BYTES // max(1, 8 * items * places * attention.keys)))
        for start in range(0, attention.heads, each):
            heads = slice(start, min(start + each, attention.heads))
            backward, forward = (one.detach() for one in attention.both_ways(rows, heads))
            sums.forward[:, group, heads] += forward.mean(-1)
            sums.backward[:, group, heads] += backward.mean(-2)
            for pairs, values in ((sums.rows, backward), (sums.columns, forward)):
                if "head" in self._keep:
                    pairs[:, at, heads] += values
                else:
                    pairs[:, at, 0] += values.sum(1) / attention.heads
        sums.counts[group] += 1

    def _room(self, attention: Attention, items: int) -> _Sums:
        places, keys, heads = attention.positions, attention.keys, attention.heads
        kept = (self._groups if "group" in self._keep else 1, heads if "head" in self._keep else 1)
        self._needed += 8.0 * kept[0] * kept[1] * places * keys
        if self._needed > self._budget:
            raise BudgetExceeded(
                f"keeping which place looks at which patch needs more than {self._needed / 1e6:.1f} MB an image; the "
                f"budget is {self._budget / 1e6:.1f} MB; keep fewer axes or raise the budget"
            )
        device = attention.device

        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(items, *shape, device=device)

        return _Sums(
            attention.grid,
            zeros(self._groups, heads, places),
            zeros(self._groups, heads, keys),
            zeros(*kept, places, keys),
            zeros(*kept, places, keys),
            [0] * self._groups,
        )

    def layers(self) -> list[LayerMaps]:
        """The means of every layer, on the host, in order of execution.

        Raises:
            CannotWatch: Nothing was seen.
        """
        if not self._sums:
            raise CannotWatch("no attention to a reference was seen; the model does not read it where it was expected")
        return [self._means(name, sums) for name, sums in self._sums.items()]

    def _means(self, name: str, sums: _Sums) -> LayerMaps:
        counts = torch.tensor(sums.counts, dtype=torch.float32).clamp(min=1)
        whole = counts if "group" in self._keep else torch.tensor([float(sum(sums.counts))])
        size = sums.grid

        def mean(part: torch.Tensor, by: torch.Tensor) -> NDArray[np.float32]:
            found: NDArray[np.float32] = (part.cpu() / by.view(1, -1, *[1] * (part.ndim - 2))).numpy()
            return found

        forward, rows, columns = mean(sums.forward, counts), mean(sums.rows, whole), mean(sums.columns, whole)
        return LayerMaps(
            name,
            forward.reshape(*forward.shape[:3], *size),
            mean(sums.backward, counts),
            rows.reshape(*rows.shape[:3], *size, -1),
            columns.reshape(*columns.shape[:3], *size, -1),
            np.asarray(sums.counts, np.float64),
        )


@dataclass
class _Sums:
    """Sums of one layer on the device; places and tokens are flat."""

    grid: tuple[int, int]
    forward: torch.Tensor
    backward: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    counts: list[int]
