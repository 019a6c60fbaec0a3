"""Random masks of a latent: every place by itself, or a coarse grid, upsampled and shifted."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F

from sfumato.errors import OptionError

Masking = Literal["iid", "grid"]


class Masks:
    """An endless row of masks that follows from a seed, however many are drawn at a time.

    Args:
        kind: "iid" (Park et al. 2024: 0 or 1 at every place by itself) or "grid" (Petsiuk et al. 2018, RISE: a coarse
            grid of 0 and 1, upsampled bilinearly and shifted at random).
        shape: Height and width.
        keep: Probability of 1.
        cells: Cells of the coarse grid along the shorter side.
        seed: Of the masks.

    Raises:
        OptionError: The grid is finer than the latent.
    """

    def __init__(self, kind: Masking, shape: tuple[int, int], keep: float, cells: int, seed: int) -> None:
        if kind == "grid" and cells > min(shape):
            raise OptionError(
                f"grid is {cells}; the latent has {shape[0]} x {shape[1]} places, give {min(shape)} or fewer"
            )
        self._kind, self._shape, self._keep = kind, shape, keep
        self._cell = -(-min(shape) // cells)
        self._generator = torch.Generator().manual_seed(seed % 2**63)

    def draw(self, count: int) -> torch.Tensor:
        """The next masks (mask, y, x), from 0 to 1."""
        return torch.stack([self._one() for _ in range(count)])

    def _one(self) -> torch.Tensor:
        height, width = self._shape
        if self._kind == "iid":
            return (torch.rand(height, width, generator=self._generator) < self._keep).float()
        cell = self._cell
        down, across = -(-height // cell) + 1, -(-width // cell) + 1
        coarse = (torch.rand(1, 1, down, across, generator=self._generator) < self._keep).float()
        top, left = torch.randint(cell, (2,), generator=self._generator).tolist()
        fine = F.interpolate(coarse, (down * cell, across * cell), mode="bilinear", align_corners=False)[0, 0]
        return fine[top : top + height, left : left + width]
