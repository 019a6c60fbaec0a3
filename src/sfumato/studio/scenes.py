"""Procedural scenes of 128 x 128 pixels with a caption and an exact mask for every word of it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from sfumato.errors import OptionError
from sfumato.studio.grammar import (
    DIRECTIONS,
    KINDS,
    NUMERALS,
    OUTER_SHAPES,
    PHRASES,
    RELATIONS,
    Expectation,
    ExpectedThing,
    Group,
    Kind,
    Phrase,
    ScenePlan,
    caption_of,
    expected,
    held_out,
    held_out_plan,
    parse,
    parsed,
    plural,
    say,
)
from sfumato.studio.layout import Thing, arrange
from sfumato.studio.shapes import (
    BACKGROUNDS,
    COHYPONYMS,
    COLOURS,
    SHAPES,
    SIZE,
    SIZES,
    TEXTURES,
    paint,
)

__all__ = [
    "BACKGROUNDS",
    "COHYPONYMS",
    "COLOURS",
    "DIRECTIONS",
    "KINDS",
    "NUMERALS",
    "RELATIONS",
    "SHAPES",
    "SIZE",
    "SIZES",
    "TEXTURES",
    "Expectation",
    "ExpectedThing",
    "Group",
    "Scene",
    "ScenePlan",
    "Thing",
    "caption_of",
    "expected",
    "held_out",
    "held_out_captions",
    "parse",
    "plural",
    "scene",
    "scene_of",
    "scene_plan",
    "training_scene",
]

Mask = npt.NDArray[np.bool_]

_SEEDS_PER_INDEX = 64
"""Width of the stream of seeds that belongs to one training scene."""


@dataclass(frozen=True)
class Scene:
    """A picture, its caption, and which pixels each word speaks of.

    Attributes:
        caption: The caption.
        image: (y, x, channel) uint8.
        things: The objects, in the order of the caption.
        background: Name of the background colour, whether the caption says it or not.
        relation: One of `RELATIONS`, or None.
        words: The caption split into words and punctuation marks.
        masks: (word, y, x) bool. Nouns, colours, sizes, textures, numerals and determiners: the visible pixels of
            their object or objects; relations, verbs and conjunctions: those of the objects they link; "background",
            its colour and its determiner: the pixels of no object; the "on" before it, which links objects and
            background: every pixel; punctuation: none.
        thing_masks: (thing, y, x) bool, the visible pixels of each object; no two overlap.
    """

    caption: str
    image: npt.NDArray[np.uint8]
    things: tuple[Thing, ...]
    background: str
    relation: str | None
    words: tuple[str, ...]
    masks: Mask
    thing_masks: Mask


def scene_plan(seed: int) -> ScenePlan:
    """Draw the plan of the scene with this seed, without drawing the picture."""
    return _plan(random.Random(seed))


def scene(seed: int) -> Scene:
    """Draw the scene with this seed.

    Args:
        seed: Any whole number; the same seed gives the same scene, bit for bit.

    Returns:
        The scene, its caption and its masks.
    """
    rng = random.Random(seed)
    return _scene(_plan(rng), rng)


def scene_of(caption: str, seed: int = 0) -> Scene:
    """Draw a scene for a given caption.

    Args:
        caption: A caption of the grammar.
        seed: Chooses positions, radii and what the caption leaves open.

    Raises:
        RequestError: The text is not a caption of the grammar.
    """
    return _scene(parsed(caption), random.Random(seed))


def training_scene(index: int) -> Scene:
    """Draw the training scene with this index: the first of its own stream of seeds that is not held out.

    Args:
        index: 0 or more.

    Raises:
        OptionError: The index is negative.
    """
    if index < 0:
        raise OptionError(f"training scenes are numbered from 0; got {index}")
    for seed in itertools.count(index * _SEEDS_PER_INDEX):
        if not held_out_plan(scene_plan(seed)):
            return scene(seed)
    raise AssertionError("unreachable: the stream of seeds has no end")


def held_out_captions(n: int = 200, seed: int = 0, kinds: Sequence[Kind] = KINDS) -> tuple[str, ...]:
    """Give a fixed list of captions that training never sees, balanced over the four kinds.

    The kinds (one object, count, two objects with a relation, "and") take turns; inside them numerals and relations
    take turns too, and half of the captions name a background. No caption occurs twice.

    Args:
        n: How many.
        seed: Chooses another list.
        kinds: Those of some kinds alone, in the order of the whole list.

    Raises:
        OptionError: There are not that many.
    """
    rng = random.Random(f"held out {seed}")
    streams = {kind: _held_out_plans(kind, rng) for kind in KINDS}
    chosen: dict[str, None] = {}
    for place in range(n):
        turn, which = divmod(place, len(kinds))
        turns = streams[kinds[which]]
        fresh = (caption_of(plan) for plan in turns[turn % len(turns)])
        caption = next((caption for caption in fresh if caption not in chosen), None)
        if caption is None:
            of = "" if tuple(kinds) == KINDS else f" of the kind {' and '.join(kinds)}"
            raise OptionError(f"there are no more than {place} held-out captions{of}, and {n} are asked for")
        chosen[caption] = None
    return tuple(chosen)


def _held_out_plans(kind: Kind, rng: random.Random) -> list[Iterator[ScenePlan]]:
    """Give the held-out plans of one kind, one stream for each relation or numeral that the kind has."""
    turns: dict[tuple[str | None, int], list[ScenePlan]] = {}
    for subject in _held_out_subjects(kind):
        turns.setdefault((subject.relation, subject.groups[0].count), []).append(subject)
    for subjects in turns.values():
        rng.shuffle(subjects)
    return [_with_some_backgrounds(subjects, random.Random(rng.random())) for subjects in turns.values()]


def _with_some_backgrounds(subjects: list[ScenePlan], rng: random.Random) -> Iterator[ScenePlan]:
    """Go round the plans several times; every other one names a background."""
    for again in range(1 + 4 * len(BACKGROUNDS)):
        for place, subject in enumerate(subjects):
            yield _with_background(subject, rng) if (place + again) % 2 else subject


@cache
def _held_out_subjects(kind: Kind) -> tuple[ScenePlan, ...]:
    """What no caption of training is about: few of thousands, each of which has to be written out to be looked at."""
    return tuple(subject for subject in _subjects(kind) if held_out_plan(subject))


def _subjects(kind: Kind) -> list[ScenePlan]:
    looks = [Group(shape, colour) for shape in SHAPES for colour in COLOURS]
    if kind == "one":
        return [
            ScenePlan((replace(look, size=size, texture=texture),))
            for look in looks
            for size in (None, *SIZES)
            for texture in (None, *TEXTURES)
        ]
    if kind == "count":
        return [ScenePlan((replace(look, count=count),)) for look in looks for count in NUMERALS.values()]
    relations = RELATIONS if kind == "relation" else ("and",)
    return [
        ScenePlan((first, second), relation)
        for relation in relations
        for first in looks
        for second in looks
        if first.colour != second.colour and (relation != "inside" or second.shape in OUTER_SHAPES)
    ]


def _with_background(subject: ScenePlan, rng: random.Random) -> ScenePlan:
    background = rng.choice(tuple(BACKGROUNDS))
    phrase: Phrase = rng.choices(PHRASES, weights=(60, 25, 15))[0]
    return replace(subject, background=background, phrase=phrase)


def _plan(rng: random.Random) -> ScenePlan:
    kind = rng.choices(KINDS, weights=(33, 17, 38, 12))[0]
    first_colour, second_colour = rng.sample(tuple(COLOURS), 2)
    first = Group(rng.choice(SHAPES), first_colour)
    if kind == "one":
        size = rng.choice(SIZES) if rng.random() < 0.35 else None
        texture = rng.choice(TEXTURES) if rng.random() < 0.20 else None
        drawn = ScenePlan((replace(first, size=size, texture=texture),))
    elif kind == "count":
        drawn = ScenePlan((replace(first, count=rng.choice(tuple(NUMERALS.values()))),))
    else:
        relation = "and" if kind == "and" else rng.choices(RELATIONS, weights=(7, 7, 7, 7, 5, 5))[0]
        shapes = OUTER_SHAPES if relation == "inside" else SHAPES
        drawn = ScenePlan((first, Group(rng.choice(shapes), second_colour)), relation)
    return _with_background(drawn, rng) if rng.random() < 0.5 else drawn


def _scene(drawn: ScenePlan, rng: random.Random) -> Scene:
    background = drawn.background if drawn.background is not None else rng.choice(tuple(BACKGROUNDS))
    things = arrange(drawn, rng)
    # What contains another thing is painted first.
    order = tuple(range(len(things)))[::-1] if drawn.relation == "inside" else tuple(range(len(things)))
    image, painted = paint(
        [(t.shape, t.colour, t.texture, t.x, t.y, t.radius) for t in (things[i] for i in order)], background
    )
    thing_masks: Mask = painted[np.argsort(order)]
    groups = [index for index, group in enumerate(drawn.groups) for _ in range(group.count)]
    said = say(drawn)
    masks = np.zeros((len(said), SIZE, SIZE), dtype=bool)  # (word, y, x)
    for mask, part in zip(masks, said, strict=True):
        if part.role == "things":
            mask[:] = thing_masks[[group in part.groups for group in groups]].any(axis=0)
        elif part.role == "background":
            mask[:] = ~thing_masks.any(axis=0)
        elif part.role == "everything":
            mask[:] = True
    return Scene(
        caption=caption_of(drawn),
        image=image,
        things=things,
        background=background,
        relation=drawn.relation if drawn.relation in RELATIONS else None,
        words=tuple(part.word for part in said),
        masks=masks,
        thing_masks=thing_masks,
    )
