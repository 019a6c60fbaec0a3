"""Where the objects of a scene stand, so that what the caption says about them is clearly true."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sfumato.studio.grammar import DIRECTIONS, Group, ScenePlan
from sfumato.studio.shapes import SIZE, SUPERSAMPLE, stencil

MARGIN = 4.0
"""Least distance in pixels from an object to the edge of the picture."""

GAP = 5.0
"""Least distance in pixels between the bounding boxes of two objects that do not touch."""

_INNER_SHARE: dict[str, float] = {"circle": 0.46, "square": 0.50, "diamond": 0.36, "heart": 0.36, "ring": 0.36}
"""Radius of an object inside, as a share of the outer object's radius."""

_CONTACT = 1.0
"""How far touching objects are pushed into each other, in pixels, so that thin tips really meet."""


@dataclass(frozen=True)
class Thing:
    """One object of a scene.

    Attributes:
        shape: One of `SHAPES`.
        colour: One of `COLOURS`.
        size: "small", "large" or None where the caption does not say.
        texture: "striped", "dotted" or None.
        x: Centre of its bounding box from the left edge, in pixels.
        y: Centre of its bounding box from the upper edge, in pixels.
        radius: Half of its width in pixels (a square's half width is 0.85 of it).
    """

    shape: str
    colour: str
    size: str | None
    texture: str | None
    x: float
    y: float
    radius: float


def arrange(plan: ScenePlan, rng: random.Random) -> tuple[Thing, ...]:
    """Place the objects of a plan.

    Args:
        plan: The plan.
        rng: The source of positions and radii.

    Returns:
        The objects in the order of the caption.
    """
    if plan.relation == "inside":
        return _inside(plan, rng)
    if plan.relation == "touching":
        return _touching(plan, rng)
    groups = [group for group in plan.groups for _ in range(group.count)]
    if len(groups) == 1:
        low, high = {"small": (11.5, 14.5), None: (19.0, 25.0), "large": (31.0, 37.0)}[groups[0].size]
    else:
        low, high = {2: (16.0, 20.0), 3: (14.0, 17.0)}[len(groups)] if plan.relation is None else (17.0, 21.0)
    radii = [rng.uniform(low, high) for _ in groups]
    fits = _direction(plan.relation) if plan.relation in DIRECTIONS else _apart
    while True:
        places = [(_anywhere(radius, rng), _anywhere(radius, rng)) for radius in radii]
        if all(
            fits((*places[i], radii[i]), (*places[j], radii[j]))
            for i in range(len(groups))
            for j in range(i + 1, len(groups))
        ):
            return tuple(_thing(g, x, y, r) for g, (x, y), r in zip(groups, places, radii, strict=True))


_Place = tuple[float, float, float]


def _thing(group: Group, x: float, y: float, radius: float) -> Thing:
    return Thing(group.shape, group.colour, group.size, group.texture, x, y, radius)


def _anywhere(radius: float, rng: random.Random) -> float:
    return rng.uniform(MARGIN + radius, SIZE - MARGIN - radius)


def _apart(first: _Place, second: _Place) -> bool:
    reach = max(abs(first[0] - second[0]), abs(first[1] - second[1]))
    return reach >= first[2] + second[2] + GAP


def _direction(relation: str | None) -> Callable[[_Place, _Place], bool]:
    """Give the test of a direction: far enough along its axis, and at most half as far across."""
    axis, sign = {"left of": (0, 1), "right of": (0, -1), "above": (1, 1), "below": (1, -1)}[relation or ""]

    def fits(first: _Place, second: _Place) -> bool:
        along = sign * (second[axis] - first[axis])
        across = abs(second[1 - axis] - first[1 - axis])
        return along >= first[2] + second[2] + GAP and across <= 0.5 * along

    return fits


def _inside(plan: ScenePlan, rng: random.Random) -> tuple[Thing, ...]:
    inner, outer = plan.groups
    radius = rng.uniform(34.0, 42.0)
    x, y = _anywhere(radius, rng), _anywhere(radius, rng)
    lift = 0.03 * radius if outer.shape == "heart" else 0.0
    small = radius * _INNER_SHARE[outer.shape] * rng.uniform(0.92, 1.0)
    return (_thing(inner, x, y - lift, small), _thing(outer, x, y, radius))


def _touching(plan: ScenePlan, rng: random.Random) -> tuple[Thing, ...]:
    """Stand two objects side by side and push the right one to the left until they meet."""
    left_first = rng.random() < 0.5
    groups = plan.groups if left_first else plan.groups[::-1]
    radii = [rng.uniform(18.0, 22.0) for _ in groups]
    tilt = rng.uniform(-0.2, 0.2) * min(radii)
    half = SIZE / 2
    left = np.asarray(stencil(groups[0].shape, half, half, radii[0])) > 0  # (y, x), supersampled
    right = np.asarray(stencil(groups[1].shape, half, half + tilt, radii[1])) > 0
    rows = left.any(axis=1) & right.any(axis=1)
    right_end = left.shape[1] - 1 - left[rows, ::-1].argmax(axis=1)
    left_end = right[rows].argmax(axis=1)
    push = float((right_end - left_end).max() + 1) / SUPERSAMPLE - _CONTACT
    # The two together, as one box: from the left one's left side to the right one's right side.
    low = min(-radii[0], push - radii[1])
    high = max(radii[0], push + radii[1])
    x = rng.uniform(MARGIN - low, SIZE - MARGIN - high)
    y = rng.uniform(MARGIN + max(radii) + max(-tilt, 0), SIZE - MARGIN - max(radii) - max(tilt, 0))
    things = (
        _thing(groups[0], x, y, radii[0]),
        _thing(groups[1], x + push, y + tilt, radii[1]),
    )
    return things if left_first else things[::-1]
