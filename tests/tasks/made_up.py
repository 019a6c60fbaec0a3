"""Images and word maps that nobody generated, so that what a study makes of them is known beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.models.lexicon import pos
from sfumato.models.words import split
from sfumato.request import Request
from sfumato.runs.finding import Finding
from sfumato.studio.scenes import SIZE, Scene, scene_of
from sfumato.tasks.shared.word_maps import Mapped

Maps = NDArray[np.float32]

MODEL: Any = SimpleNamespace(
    source=SimpleNamespace(name="made up"),
    family="drawn",
    features=frozenset({"words"}),
    complete=lambda request: request.with_(height=SIZE, width=SIZE),
)


def covering(share: float, side: int = 10) -> Maps:
    """A map that is 1 on so much of the image, in reading order, and 0 elsewhere."""
    return (np.arange(side * side) < round(share * side * side)).astype(np.float32).reshape(side, side)


def fading(side: int = 10) -> Maps:
    """A map whose rows fall from 1 to nearly 0: at a threshold of t tenths, 10 - t of its ten rows are left."""
    rows = np.array([1.0, *((side - 0.5 - np.arange(1, side)) / side)], np.float32)
    return np.repeat(rows[:, None], side, 1)


def made(
    prompt: str, maps: Sequence[Maps], *, seed: int = 0, image: NDArray[np.uint8] | None = None, cut: int = 0
) -> Mapped:
    """One image with the maps of its prompt's words, the last ``cut`` of which the model did not see."""
    words = split(prompt, pos)
    assert len(words) == len(maps), (prompt, len(maps))
    seen = len(words) - cut
    values = np.stack([one if place < seen else np.full_like(one, np.nan) for place, one in enumerate(maps)])
    picture = np.zeros((*values.shape[1:], 3), np.uint8) if image is None else image
    request = Request(prompt, seed=seed, steps=2, scheduler="ddim", guidance=2.0)
    return Mapped(request, picture, tuple(replace(word, seen=word.index < seen) for word in words), values)


def by_word(prompt: str, maps: dict[str, Maps], *, rest: Maps, **more: Any) -> Mapped:
    """The same with the maps by the text of the word, and one map for all other words."""
    return made(prompt, [maps.get(word.text, rest) for word in split(prompt, pos)], **more)


def drawn(prompt: str, seed: int = 0, scene: Scene | None = None) -> Mapped:
    """A drawn scene whose maps are the true masks of the prompt's words."""
    scene = scene or scene_of(prompt, seed)
    return made(prompt, list(scene.masks.astype(np.float32)), seed=seed, image=scene.image)


def blank(prompt: str, seed: int = 0) -> Mapped:
    """An image that shows nothing, with maps that are the same everywhere."""
    grey = np.full((SIZE, SIZE, 3), 128, np.uint8)
    return by_word(prompt, {}, rest=np.ones((SIZE, SIZE), np.float32), seed=seed, image=grey)


@dataclass(frozen=True)
class Concluded(Finding):
    """A finding with the rows of the records that it was made from."""

    items: Sequence[Mapping[str, Any]] = ()


def with_items(found: Finding, items: Sequence[Mapping[str, Any]]) -> Concluded:
    """A finding with the rows that it was made from."""
    return Concluded(**{part.name: getattr(found, part.name) for part in fields(Finding)}, items=items)
