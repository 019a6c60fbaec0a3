"""Which place of a generated image goes with which place of its reference: asked of kept pairs, without the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sfumato.errors import RequestError, SfumatoError
from sfumato.results.explanation import Explanation
from sfumato.results.pairs import NODE, looking_at, seen_from, seen_from_part

Side = Literal["image", "reference"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """A point of one picture, and what of the attention counts.

    Attributes:
        side: Where the point lies; on the image it asks what the place looked at, on the reference who looked at it.
        x: In pixels of that picture; None asks what all of the painted part looked at.
        y: Likewise.
        group: A group of steps, from 0; None for all.
        head: Likewise.
        layer: Of `layers`; None for all.
    """

    side: Side = "image"
    x: int | None = None
    y: int | None = None
    group: int | None = None
    head: int | None = None
    layer: str | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Question:
        """From what a script sent, which may be anything.

        Raises:
            RequestError: A value is of another kind.
        """
        side = data.get("side", "image")
        if side not in ("image", "reference"):
            raise RequestError(f"there is no picture {str(side)[:40]!r}; click the image or the reference")
        whole = {name: data.get(name) for name in ("x", "y", "group", "head")}
        if wrong := [name for name, value in whole.items() if value is not None and type(value) is not int]:
            raise RequestError(f"{wrong[0]} is {str(whole[wrong[0]])[:40]!r}; expected a whole number")
        layer = data.get("layer")
        return cls(side, **whole, layer=None if layer in (None, "") else str(layer)[:200])


@dataclass(frozen=True)
class Answer:
    """Where on the other picture the counterpart of a point is.

    Attributes:
        heat: (y, x) on the other picture, larger where more attention lies; on the reference shares of attention that
            sum to 1, on the image multiples of an even share.
        strongest: Left, upper, right and lower edge of the strongest place, as shares of the other picture's sides.
        peak: The heat there.
        times: The heat there as a multiple of what it would be if all places were alike.
    """

    heat: Floats
    strongest: tuple[float, float, float, float]
    peak: float
    times: float


class Pairs:
    """The pairs that an explanation kept.

    Args:
        explanation: Made by ``i2am``.

    Raises:
        SfumatoError: It was made by something else.
    """

    def __init__(self, explanation: Explanation) -> None:
        if NODE not in explanation.tree.children or "i2am" not in explanation.tree.children:
            raise SfumatoError("this result holds no pairs of image and reference; make it on the tab Reference")
        self.explanation = explanation
        self.grids = [node.to_dataset() for node in explanation.tree[NODE].children.values()]
        about = explanation.tree["i2am"].to_dataset()
        self.tokens = (about.sizes["ry"], about.sizes["rx"])
        self.latent = (about.sizes["y"], about.sizes["x"])
        self.patches = bool(about.attrs.get("patches", True))
        self.causal = bool(about.attrs.get("causal", True))

    @property
    def groups(self) -> int:
        """How many groups of steps were kept apart; 0 where none were."""
        return max((grid.sizes.get("group", 0) for grid in self.grids), default=0)

    @property
    def heads(self) -> int:
        """How many heads were kept apart; 0 where none were."""
        return max((grid.sizes.get("head", 0) for grid in self.grids), default=0)

    @property
    def layers(self) -> list[str]:
        """The attention modules, those of the finest grids first."""
        fine = sorted(self.grids, key=lambda grid: -grid.sizes["y"])
        return [str(name) for grid in fine for name in grid["layer"].values.tolist()]

    @property
    def inside(self) -> NDArray[np.bool_] | None:
        """(y, x) of the image, where it was painted; None where all of it was."""
        mask = self.explanation.request.mask
        return None if mask is None else mask.inside

    def answer(self, question: Question) -> Answer:
        """Where on the other picture the counterpart is.

        Raises:
            RequestError: The point lies outside the picture or outside what was painted, or an axis was not kept.
        """
        grids = self._narrowed(question)
        height, width = self.size(question.side)
        if question.x is None or question.y is None:
            inside = self.inside if self.inside is not None else np.ones(self.size("image"), bool)
            return _strongest(seen_from_part(grids, inside).reshape(self.tokens), None)
        x, y = question.x, question.y
        if not (0 <= x < width and 0 <= y < height):
            raise RequestError(f"the point {x}, {y} lies outside the picture of {width} x {height} pixels")
        if question.side == "image":
            if self.inside is not None and not self.inside[y, x]:
                raise RequestError("nothing was painted there: that part is the scene itself; click inside the outline")
            return _strongest(seen_from(grids, (y / height, x / width)).reshape(self.tokens), None)
        if self.tokens == (1, 1):
            raise RequestError("this model reads the reference as one token, so its places cannot be told apart")
        row, column = y * self.tokens[0] // height, x * self.tokens[1] // width
        heat = looking_at(grids, row * self.tokens[1] + column, self.latent)
        return _strongest(heat, None if self.inside is None else _on_grid(self.inside, self.latent))

    def patch_of(self, x: int, y: int) -> tuple[float, float, float, float]:
        """The patch of the reference that a point lies in, as shares of its sides: left, upper, right, lower."""
        height, width = self.size("reference")
        row, column = y * self.tokens[0] // height, x * self.tokens[1] // width
        return _cell(row, column, self.tokens)

    def size(self, side: Side) -> tuple[int, int]:
        """Height and width of a picture in pixels; of the reference, as the model read it."""
        request = self.explanation.request
        if side == "image" or request.reference is None:
            return int(request.height or 0), int(request.width or 0)
        return request.reference.height, request.reference.width

    def _narrowed(self, question: Question) -> list[xr.Dataset]:
        grids = self.grids
        for axis, place, count in (("group", question.group, self.groups), ("head", question.head, self.heads)):
            if place is None:
                continue
            if not 0 <= place < count:
                kept = f"0 to {count - 1}" if count else "none"
                raise RequestError(f"there is no {axis} {place} here; kept are: {kept}")
            grids = [grid.isel({axis: place}, drop=True) for grid in grids if place < grid.sizes.get(axis, 0)]
        if question.layer is not None:
            if question.layer not in self.layers:
                raise RequestError(f"there is no layer {question.layer!r} here; choose one of the list")
            named = [(grid, grid["layer"].values.tolist()) for grid in grids]
            grids = [grid.isel(layer=[names.index(question.layer)]) for grid, names in named if question.layer in names]
        return grids


def of_all(pairs: Pairs, question: Question, axis: Literal["group", "head"]) -> Sequence[Answer]:
    """The answers of every group of steps, or of every head, to the same question."""
    count = pairs.groups if axis == "group" else pairs.heads
    return [pairs.answer(_with(question, axis, place)) for place in range(count)]


def _with(question: Question, axis: str, place: int) -> Question:
    own = vars(question) | {axis: place}
    return Question(**own)


def _strongest(heat: Floats, allowed: NDArray[np.bool_] | None) -> Answer:
    values = heat if allowed is None or not allowed.any() else np.where(allowed, heat, -np.inf)
    row, column = np.unravel_index(int(values.argmax()), heat.shape)
    peak = float(heat[row, column])
    mean = float(heat.mean())
    return Answer(heat, _cell(int(row), int(column), heat.shape), peak, peak / mean if mean > 0 else math.nan)


def _cell(row: int, column: int, grid: tuple[int, ...]) -> tuple[float, float, float, float]:
    return column / grid[1], row / grid[0], (column + 1) / grid[1], (row + 1) / grid[0]


def _on_grid(inside: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.bool_]:
    """The cells of a grid of which half or more lies inside; those that touch it where there are none."""
    rows = np.arange(inside.shape[0]) * grid[0] // inside.shape[0]
    columns = np.arange(inside.shape[1]) * grid[1] // inside.shape[1]
    share, all_ = np.zeros(grid), np.zeros(grid)
    np.add.at(share, (rows[:, None], columns[None, :]), inside)
    np.add.at(all_, (rows[:, None], columns[None, :]), 1)
    half = share >= all_ / 2
    return np.asarray(half if half.any() else share > 0)
