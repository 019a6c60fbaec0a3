"""The words of a caption whose objects an image shows, each with its map and the pixels that it speaks of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfumato.models.lexicon import pos
from sfumato.studio.reader import masks_of_words, read
from sfumato.studio.shapes import COLOURS, SHAPES


@dataclass(frozen=True)
class MaskedWord:
    """One word of an image: its place in the caption, its kind, its map and the pixels that it speaks of.

    Attributes:
        place: In the caption, from 0.
        word: The word.
        kind: "nouns", "colours" or "others".
        heat: Its map (y, x) on the method's grid.
        truth: Its mask (y, x) at the size of the image.
    """

    place: int
    word: str
    kind: str
    heat: NDArray[np.float32]
    truth: NDArray[np.bool_]


def masked_words(caption: str, image: NDArray[np.uint8], maps: NDArray[np.float32]) -> list[MaskedWord]:
    """The nouns, colours, sizes, textures and numerals of a caption whose object an image shows.

    A word whose object is absent (the model drew something else) has no mask and is left out.

    Args:
        caption: A caption of the grammar.
        image: (y, x, 3) uint8, drawn or generated.
        maps: (word, y, x), one for each word of the caption.

    Raises:
        RequestError: The text is no caption of the grammar.
        OptionError: The image has another size than the scenes.
    """
    words, masks, present = masks_of_words(caption, read(image))
    return [
        MaskedWord(place, word, _kind(word), maps[place], masks[place])
        for place, word in enumerate(words)
        if present[place] and pos(word) in ("noun", "adj", "num") and _is_of_object(words, place)
    ]


def _is_of_object(words: Sequence[str], place: int) -> bool:
    """Not the background or its colour: they speak of where no object is, which is another question."""
    return words[place] != "background" and (place + 1 == len(words) or words[place + 1] != "background")


def _kind(word: str) -> str:
    if word in COLOURS:
        return "colours"
    return "nouns" if any(word.startswith(shape) for shape in SHAPES) else "others"
