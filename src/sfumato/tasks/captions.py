"""Prompts of the embedded scenes as items, for tasks that read what the images show or say every part of a prompt."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

from sfumato.errors import ModelError, OptionError, RequestError
from sfumato.models.lexicon import pos
from sfumato.models.words import split
from sfumato.runs.prompts import Row
from sfumato.runs.task import Item, ModelFacts
from sfumato.studio.scenes import held_out_captions
from sfumato.studio.shapes import SIZE

MOST_WORDS = 6
"""Of a prompt of which every part is generated, 64 images at most."""


def check_scenes(task: str, facts: ModelFacts) -> None:
    """Refuse a model whose images the reader of the scenes cannot read.

    Raises:
        ModelError: Its images have another size.
    """
    if (facts.height, facts.width) != (SIZE, SIZE):
        raise ModelError(
            f"{task} reads what the images show, which works for the scenes alone ({SIZE} x {SIZE} pixels); "
            f"{facts.name} makes {facts.height} x {facts.width}; take studio/scenes or a model trained by "
            "`sfumato train scenes`"
        )


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
        for seed in row.request.seeds:
            yield Item(row.request.with_(seed=seed, images=1), {"caption": caption}, row)


def check_few_words(prompt: str) -> None:
    """Refuse a prompt with so many words that not every part of it can be generated.

    Raises:
        RequestError: It has more than `MOST_WORDS`.
    """
    if (count := _words(prompt)) > MOST_WORDS:
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
        found = [caption for caption in captions if _words(caption) <= MOST_WORDS]
        if len(found) >= count:
            break
    return found[:count]


def _words(prompt: str) -> int:
    return sum(word.pos != "punct" for word in split(prompt, pos))
