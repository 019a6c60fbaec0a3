"""The grammar of the captions: from plans to captions and back, what a caption promises, and which are held out.

    caption    = subject [background]
    subject    = thing | count | thing relation thing | thing "and" thing
    thing      = ("a" | "an") description noun
    count      = ("two" | "three") description plural
    description = [size] [texture] colour
    relation   = "left of" | "right of" | "above" | "below" | "inside" | "touching"
    background = ", " tone " background" | " on a " tone " background" | " on the " tone " background"

Every caption has exactly one reading: each word class occurs in one place, and no word belongs to two classes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from sfumato.errors import RequestError
from sfumato.models.lexicon import split_words
from sfumato.studio.shapes import BACKGROUNDS, COLOURS, SHAPES, SIZES, TEXTURES

DIRECTIONS = ("left of", "right of", "above", "below")
RELATIONS = (*DIRECTIONS, "inside", "touching")
NUMERALS = {"two": 2, "three": 3}
OUTER_SHAPES = ("circle", "square", "diamond", "heart", "ring")
"""The shapes that have room for another object inside."""

Kind = Literal["one", "count", "relation", "and"]
KINDS: tuple[Kind, ...] = ("one", "count", "relation", "and")
Phrase = Literal["comma", "on a", "on the"]
PHRASES: tuple[Phrase, ...] = ("comma", "on a", "on the")
Role = Literal["things", "background", "everything", "nothing"]

_HELD_OUT: dict[Kind, float] = {"one": 0.05, "count": 0.10, "relation": 0.02, "and": 0.02}
"""Share of the subjects of each kind that training never sees: about 4% of all captions drawn."""


def plural(noun: str) -> str:
    """Give the plural of a shape's noun.

    >>> plural("star"), plural("cross")
    ('stars', 'crosses')
    """
    return noun + ("es" if noun.endswith("s") else "s")


_SINGULAR = {plural(noun): noun for noun in SHAPES}


@dataclass(frozen=True)
class Group:
    """One noun phrase: `count` objects that look alike."""

    shape: str
    colour: str
    size: str | None = None
    texture: str | None = None
    count: int = 1


@dataclass(frozen=True)
class ScenePlan:
    """What a caption says.

    Attributes:
        groups: The noun phrases, in the order of the caption.
        relation: How the first stands to the second, "and" for two objects without a relation, or None.
        background: The named background, or None where the caption leaves it open.
        phrase: How the background is said, or None.
    """

    groups: tuple[Group, ...]
    relation: str | None = None
    background: str | None = None
    phrase: Phrase | None = None

    @property
    def kind(self) -> Kind:
        """Which of the four kinds of captions this is."""
        if self.relation is not None:
            return "and" if self.relation == "and" else "relation"
        return "count" if self.groups[0].count > 1 else "one"


class Said(NamedTuple):
    """One word of a caption and what it speaks of.

    `role` is "things" (the groups in `groups`), "background" (every pixel of no object), "everything" (the "on" that
    joins the objects to the background) or "nothing" (punctuation).
    """

    word: str
    role: Role
    groups: tuple[int, ...]


class ExpectedThing(NamedTuple):
    """One object that a caption promises."""

    shape: str
    colour: str
    size: str | None
    texture: str | None


@dataclass(frozen=True)
class Expectation:
    """What an image of a caption must show.

    Attributes:
        things: Every object by itself (three of them for "three red stars"), in the order of the caption.
        groups: For each of `things` the noun phrase it comes from.
        relation: One of `RELATIONS`, or None.
        count: The numeral's value, or None where the caption has no numeral.
        background: The named background, or None.
    """

    things: tuple[ExpectedThing, ...]
    groups: tuple[int, ...]
    relation: str | None
    count: int | None
    background: str | None


def say(plan: ScenePlan) -> tuple[Said, ...]:
    """Put a plan into words, each with what it speaks of.

    Args:
        plan: The plan.

    Returns:
        The words in the order of the caption, punctuation included.
    """
    said: list[Said] = []
    for index, group in enumerate(plan.groups):
        if index == 1:
            assert plan.relation is not None
            said += [Said(word, "things", (0, 1)) for word in plan.relation.split()]
        rest = [word for word in (group.size, group.texture, group.colour) if word is not None]
        if group.count == 1:
            first, noun = ("an" if rest[0][0] in "aeiou" else "a"), group.shape
        else:
            first, noun = {count: word for word, count in NUMERALS.items()}[group.count], plural(group.shape)
        said += [Said(word, "things", (index,)) for word in (first, *rest, noun)]
    if plan.background is not None:
        if plan.phrase == "comma":
            said.append(Said(",", "nothing", ()))
        else:
            said.append(Said("on", "everything", tuple(range(len(plan.groups)))))
            said.append(Said("the" if plan.phrase == "on the" else "a", "background", ()))
        said += [Said(plan.background, "background", ()), Said("background", "background", ())]
    return tuple(said)


def caption_of(plan: ScenePlan) -> str:
    """Write the caption of a plan.

    >>> caption_of(ScenePlan((Group("star", "orange"),), background="gray", phrase="comma"))
    'an orange star, gray background'
    """
    return " ".join(said.word for said in say(plan)).replace(" ,", ",")


def _take(words: list[str], options: tuple[str, ...]) -> str | None:
    return words.pop(0) if words and words[0] in options else None


def _group(words: list[str]) -> Group | None:
    """Take one noun phrase off the front of `words`."""
    first = _take(words, ("a", "an", *NUMERALS))
    count = NUMERALS.get(first or "", 1)
    size, texture, colour = _take(words, SIZES), _take(words, TEXTURES), _take(words, tuple(COLOURS))
    noun = _take(words, tuple(_SINGULAR) if count > 1 else SHAPES)
    if first is None or colour is None or noun is None:
        return None
    return Group(_SINGULAR.get(noun, noun), colour, size, texture, count)


def parse(caption: str) -> ScenePlan | None:
    """Read a caption by the grammar.

    Args:
        caption: Any text; letter case and spacing do not matter.

    Returns:
        The plan whose caption this is, or None where the text is not a caption of the grammar.
    """
    said = [word.lower() for word in split_words(caption)]
    words = list(said)
    first = _group(words)
    if first is None:
        return None
    plan = ScenePlan((first,))
    for relation in (*RELATIONS, "and"):
        parts = relation.split()
        if first.count == 1 and words[: len(parts)] == parts:
            del words[: len(parts)]
            second = _group(words)
            if second is None or second.count > 1:
                return None
            plan = ScenePlan((first, second), relation)
            break
    if len(words) >= 3 and words[-1] == "background" and words[-2] in BACKGROUNDS:
        phrases: dict[tuple[str, ...], Phrase] = {(",",): "comma", ("on", "a"): "on a", ("on", "the"): "on the"}
        plan = replace(plan, background=words[-2], phrase=phrases.get(tuple(words[:-2])))
    return plan if [part.word for part in say(plan)] == said else None


def parsed(caption: str) -> ScenePlan:
    """Read a caption by the grammar, or say why that cannot be done.

    Raises:
        RequestError: The text is not a caption of the grammar.
    """
    plan = parse(caption)
    if plan is None:
        raise RequestError(
            f"{caption!r} is not a caption of the scenes; write for example 'a red circle left of a blue square', "
            "'two green stars' or 'a small striped orange heart, gray background'"
        )
    return plan


def expected(caption: str) -> Expectation:
    """Say what an image of a caption must show.

    Args:
        caption: A caption of the grammar.

    Returns:
        The objects, their relation, their number and the background.

    Raises:
        RequestError: The text is not a caption of the grammar.
    """
    plan = parsed(caption)
    things = [
        (index, ExpectedThing(group.shape, group.colour, group.size, group.texture))
        for index, group in enumerate(plan.groups)
        for _ in range(group.count)
    ]
    return Expectation(
        things=tuple(thing for _, thing in things),
        groups=tuple(index for index, _ in things),
        relation=plan.relation if plan.relation in RELATIONS else None,
        count=plan.groups[0].count if plan.kind == "count" else None,
        background=plan.background,
    )


def held_out_plan(plan: ScenePlan) -> bool:
    """Whether training never sees this plan's subject, whatever background is named with it."""
    subject = caption_of(replace(plan, background=None, phrase=None))
    draw = int.from_bytes(hashlib.sha256(b"sfumato scenes " + subject.encode()).digest()[:8], "big") / 2.0**64
    return draw < _HELD_OUT[plan.kind]


def held_out(caption: str) -> bool:
    """Whether training never sees this caption.

    The split is by a stable hash of the subject, the caption without its background phrase: if "two red stars" is
    held out, so is "two red stars, gray background". About 4% of the captions drawn are held out.

    Raises:
        RequestError: The text is not a caption of the grammar.
    """
    return held_out_plan(parsed(caption))
