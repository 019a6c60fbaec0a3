"""The unigram tokenizer of the embedded transformer: words of the scenes are pieces, all else is letters.

It segments the words of the scenes as the byte-level tokenizer does (`sfumato.studio.tokenizer.pieces_of`), so both
models have the same words of several tokens. Like T5's own it distinguishes capitals: a capitalised word has pieces of
its own, which a training has to show.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from sfumato.studio.tokenizer import pieces_of, scene_words

SPACE = "▁"
"""Stands for the space before a word, as in SentencePiece."""


def unigrams(words: Sequence[str]) -> list[tuple[str, float]]:
    """Pieces with their scores: a segmentation with the highest sum is chosen, so few long pieces win over letters.

    >>> ("▁circle", -3.0) in unigrams(["circle"])
    True
    """
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), (SPACE, -4.0)]
    pieces: dict[str, float] = {}
    for word in words:
        first, *others = pieces_of(word)
        pieces |= dict.fromkeys((SPACE + first, SPACE + first.capitalize(), *others), -3.0)
    for letter in string.ascii_letters + string.digits + string.punctuation:
        pieces.setdefault(letter, -8.0)
    return [*special, *pieces.items()]


def scene_unigram_tokenizer(length: int) -> Any:
    """A transformers T5Tokenizer of the scenes' words.

    Args:
        length: The longest text, in tokens.
    """
    from transformers import T5Tokenizer

    return T5Tokenizer(vocab=unigrams(scene_words()), extra_ids=0, model_max_length=length)
