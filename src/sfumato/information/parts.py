"""Parts of a condition whose information is asked for, and the contexts with and without each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sfumato.bounds import shown
from sfumato.errors import ModelError, OptionError, RequestError
from sfumato.games.players import players_of
from sfumato.information.estimating import Contexts
from sfumato.information.patches import only_patch, patches_of, reference_of, without_patch
from sfumato.inputs.image import Picture
from sfumato.models.model import Model
from sfumato.models.words import Word, without
from sfumato.request import CompletedRequest

Players = Literal["word", "phrase", "label", "patch"]
PLAYERS: tuple[Players, ...] = ("word", "phrase", "label", "patch")
Given = Literal["rest", "empty"]
READS = {"word": "words", "label": "labels", "patch": "patches of a reference"}
GIVEN: tuple[Given, ...] = ("rest", "empty")

GUIDED = 2.0
"""A scale at which a model that has two branches uses both."""


@dataclass(frozen=True)
class Part:
    """A part of a condition: its name, and the places of its words in the prompt (none for labels and patches)."""

    name: str
    words: tuple[int, ...] = ()


@dataclass(frozen=True)
class ConditionQuery:
    """What the denoiser is asked.

    Attributes:
        parts: Whose information is measured.
        pairs: Places of two parts whose information is taken apart.
        contexts: Terms: first one for each part, then three for each pair (first, second, both, given the rest).
    """

    parts: tuple[Part, ...]
    pairs: tuple[tuple[int, int], ...]
    contexts: Contexts


def asked_of(
    model: Model, request: CompletedRequest, players: Players | None, given: Given, pairs: Sequence[str] = ()
) -> ConditionQuery:
    """The parts of a request's condition.

    Args:
        model: The model.
        request: Completed.
        players: What a part is; words for prompts, labels for labels, patches for references.
        given: "rest": what a part adds to the rest of the condition; "empty": what it tells alone.
        pairs: Names of two parts joined by "+", such as "red+circle".

    Raises:
        ModelError: The model reads neither words nor labels, nor patches of a reference.
        RequestError: There is nothing to leave out.
        OptionError: The players do not fit the model, or a pair is none.
    """
    usual: Players = "word" if "words" in model.features else "label"
    if usual == "label" and "reference" in model.features:
        usual = "patch"
    chosen = usual if players is None else players
    if chosen == "patch":
        return _of_reference(reference_of(model, request, pairs), given)
    if not {"words", "label", "reference"} & model.features or model.condition is None:
        raise ModelError(f"{model.source.name} reads neither words nor labels, so there is nothing to tell it")
    if chosen != usual and (usual, chosen) != ("word", "phrase"):
        raise OptionError(f"players is {chosen!r}, but {model.source.name} reads {READS[usual]}")
    if chosen == "label":
        return _of_label(model, request, pairs)
    if given == "empty" and "unconditional" not in model.branches(model.complete(request.with_(guidance=GUIDED))).names:
        raise OptionError(
            f"the guidance of {model.source.name} is distilled into it, so the empty prompt means nothing to it; take "
            "given=rest"
        )
    tokens = model.tokens(request.prompt)
    groups: list[tuple[str, list[Word]]]
    if chosen == "word":
        groups = [(_named(word, tokens.words), [word]) for word in tokens.words if word.seen]
    else:
        groups = [(one.name, [tokens.words[place] for place in one.words]) for one in players_of(tokens, "phrase")]
    if not groups:
        raise RequestError("the prompt has no words; write what the image shows, such as 'a red circle'")
    texts: dict[str, None] = {request.prompt: None}
    cut_off = [word for word in tokens.words if not word.seen]  # which a shorter prompt would let in

    def place(text: str) -> int:
        texts.setdefault(text)
        return list(texts).index(text)

    def rest(*left_out: int) -> int:
        return place(without(request.prompt, [*cut_off, *(w for number in left_out for w in groups[number][1])]))

    def alone(*kept: int) -> int:
        others = [number for number in range(len(groups)) if number not in kept]
        return rest(*others) if others else 0

    every = range(len(groups))
    terms = [(rest(n), 0) if given == "rest" else (place(""), alone(n)) for n in every]
    named = [(name, [word.text for word in words]) for name, words in groups]
    found = tuple(_pair(one, [name for name, _ in named]) for one in pairs)
    for a, b in found:
        if given == "rest":
            base, first, second, both = rest(a, b), rest(b), rest(a), 0
        else:
            base, first, second, both = place(""), alone(a), alone(b), alone(a, b)
        terms += [(base, first), (base, second), (base, both)]
    parts = tuple(Part(name, tuple(word.index for word in words)) for name, words in groups)
    return ConditionQuery(parts, found, Contexts(tuple(texts), tuple(terms)))


def _of_label(model: Model, request: CompletedRequest, pairs: Sequence[str]) -> ConditionQuery:
    """A label as a whole against none, and each of its bits against the other one, where there is such a label."""
    if pairs:
        raise OptionError("pairs are of words; a label's bits cannot be left out, only flipped")
    if request.label is None:
        raise RequestError("there is no label whose information could be asked for; give one: --label 0110")
    label = request.label
    parts, texts = [Part(f"label {label}")], [label, ""]
    for place, bit in enumerate(label if set(label) <= set("01") else ""):
        other = "10"[int(bit)]
        flipped = label[:place] + other + label[place + 1 :]
        if _is_label(model, flipped):
            parts.append(Part(f"bit {place + 1}, {bit} or {other}"))
            texts.append(flipped)
    terms = tuple((place, 0) for place in range(1, len(texts)))
    return ConditionQuery(tuple(parts), (), Contexts(tuple(texts), terms))


def _of_reference(reference: Picture, given: Given) -> ConditionQuery:
    """Every patch of a reference: the whole against the whole without it, or the patch alone against no reference."""
    named = patches_of(reference.height, reference.width)
    parts = tuple(Part(name) for name, _ in named)
    if given == "rest":
        pictures = (reference, *(without_patch(reference, box) for _, box in named))
        terms = tuple((place, 0) for place in range(1, len(pictures)))
        texts = ("the reference", *(f"without {part.name}" for part in parts))
        return ConditionQuery(parts, (), Contexts(texts, terms, pictures=pictures))
    alone = tuple(only_patch(reference, box) for _, box in named)
    terms = tuple((0, place) for place in range(1, len(alone) + 1))
    texts = ("no reference", *(part.name for part in parts))
    return ConditionQuery(parts, (), Contexts(texts, terms, pictures=(None, *alone)))


def _is_label(model: Model, label: str) -> bool:
    try:
        model.encode([label])
    except ModelError:
        return False
    return True


def _named(word: Word, words: Sequence[Word]) -> str:
    several = sum(one.text.casefold() == word.text.casefold() for one in words) > 1
    return f"{word.text}#{word.occurrence}" if several else word.text


def _pair(text: str, names: Sequence[str]) -> tuple[int, int]:
    parts = [part.strip() for part in text.split("+")]
    if len(parts) != 2 or parts[0] == parts[1] or any(part not in names for part in parts):
        raise OptionError(f"pairs has {shown(text)}; expected two of these, joined by +: {', '.join(names)}")
    return names.index(parts[0]), names.index(parts[1])
