"""Captions of the embedded scenes that tasks take for prompts, and what each of their words speaks of."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sfumato.bounds import checked_int
from sfumato.errors import OptionError, RequestError
from sfumato.generation.trace import Trace
from sfumato.models.lexicon import pos
from sfumato.models.words import split
from sfumato.option_values import COUNT
from sfumato.runs.prompts import Row
from sfumato.runs.task import Item
from sfumato.saliency.relevance import relevance
from sfumato.studio.grammar import Kind, caption_of, held_out_plan, parsed, say
from sfumato.studio.scenes import held_out_captions, scene_plan

Part = Literal["subject", "relation", "object", "background"]
MOST_WORDS = 6
"""Of a prompt of which every part is generated, 64 images at most."""
PARTS: tuple[Part, ...] = ("subject", "relation", "object", "background")
DRAWS = 100_000
"""Scenes from which the captions of a seed are drawn."""


def drawn_captions(count: int, seed: int = 0, kind: Kind | None = None) -> tuple[str, ...]:
    """Captions as training draws them, not held out, each once; all kinds, or one.

    Raises:
        OptionError: The count is out of bounds, or there are fewer captions.
    """
    checked_int("prompts", count, **COUNT, error=OptionError)
    chosen: dict[str, None] = {}
    for number in range(seed * DRAWS, (seed + 1) * DRAWS):
        drawn = scene_plan(number)
        if kind in (None, drawn.kind) and not held_out_plan(drawn):
            chosen[caption_of(drawn)] = None
        if len(chosen) == count:
            return tuple(chosen)
    raise OptionError(f"prompts is {count}; there are {len(chosen)} different captions of this kind, so take fewer")


def relation_captions(count: int) -> tuple[str, ...]:
    """Held-out captions of two objects and how one stands to the other.

    Raises:
        OptionError: There are not so many, or none is asked for.
    """
    return held_out_captions(checked_int("prompts", count, **COUNT, error=OptionError), kinds=("relation",))


def check_few_words(prompt: str) -> None:
    """Refuse a prompt with so many words that not every part of it can be generated.

    Raises:
        RequestError: It has more than `MOST_WORDS`.
    """
    if (count := _count(prompt)) > MOST_WORDS:
        raise RequestError(f"it has {count} words; expected {MOST_WORDS} at most, since every part is generated")


def short_captions(count: int) -> list[str]:
    """The first held-out captions of few words.

    Raises:
        OptionError: There are not that many.
    """
    for asked in itertools.count(count, 10):
        try:
            captions = held_out_captions(asked)
        except OptionError as error:
            short = f"there are no {count} held-out captions of {MOST_WORDS} words or fewer; give a file of prompts"
            raise OptionError(short) from error
        found = [caption for caption in captions if _count(caption) <= MOST_WORDS]
        if len(found) >= count:
            break
    return found[:count]


def _count(prompt: str) -> int:
    return sum(word.pos != "punct" for word in split(prompt, pos))


def of_each_prompt(rows: Iterable[Row], *checks: Callable[[str], object]) -> Iterator[Item | Row]:
    """An item for each image of each row, with the prompt as its caption.

    Args:
        rows: Of a run.
        checks: Each raises RequestError for a prompt that the task cannot use; its row is refused.
    """
    for row in rows:
        if row.request is None:
            continue
        caption = row.request.prompt
        try:
            for check in checks:
                check(caption)
        except RequestError as error:
            yield row.refused(str(error))
            continue
        for number in range(row.request.images):
            yield Item(row.request.of_image(number), {"caption": caption}, row)


def parts_of(caption: str) -> tuple[Part | None, ...]:
    """For every word of a relation caption the part that it belongs to; None for what belongs to no one part."""
    table: dict[tuple[int, ...], Part] = {(0,): "subject", (0, 1): "relation", (1,): "object"}
    return tuple(
        "background" if said.role == "background" else table.get(said.groups) if said.role == "things" else None
        for said in say(parsed(caption))
    )


def word_scores(trace: Trace, step: int) -> NDArray[np.float64]:
    """The relevance of every word of a trace's prompt at one step, summed over places: (word,)."""
    tokens = relevance(trace, step).sum((-2, -1)).numpy()
    words = trace.model.tokens(trace.requests[0].prompt).words
    return np.array([float(tokens[list(word.tokens)].sum()) for word in words])


def by_part(scores: NDArray[np.float64], caption: str, parts: Sequence[Part]) -> list[float]:
    """The sum of the words' scores for each of some parts of a relation caption."""
    owners = parts_of(caption)
    return [float(sum(score for score, owner in zip(scores, owners, strict=True) if owner == one)) for one in parts]
