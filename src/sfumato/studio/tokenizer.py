"""The byte-level CLIP tokenizer of the embedded models: any text runs, the words of the scenes are whole tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from sfumato.errors import ModelError
from sfumato.studio.grammar import NUMERALS, RELATIONS, plural
from sfumato.studio.shapes import BACKGROUNDS, COLOURS, SHAPES, SIZES, TEXTURES
from sfumato.writing.files import write_text

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 77
"""Tokens of one prompt, the start and the end token included, as in Stable Diffusion."""


SPLIT_WORDS: dict[str, tuple[str, ...]] = {
    "triangle": ("tri", "angle"),
    "diamond": ("dia", "mond"),
    "striped": ("strip", "ed"),
    "background": ("back", "ground"),
}
"""Words that take several tokens on purpose, so that methods which merge tokens into words are really tried."""


def scene_words() -> tuple[str, ...]:
    """Give every word that a caption of the scenes can contain, punctuation included, each once."""
    words = [*SHAPES, *(plural(noun) for noun in SHAPES), *COLOURS, *SIZES, *TEXTURES, *NUMERALS, *BACKGROUNDS]
    words += [word for relation in RELATIONS for word in relation.split()]
    words += ["background", "a", "an", "and", "the", "on", ","]
    return tuple(dict.fromkeys(words))


def pieces_of(word: str) -> tuple[str, ...]:
    """Give the pieces of one word of the scenes, each of which becomes one token.

    >>> pieces_of("circle"), pieces_of("triangles"), pieces_of("crosses")
    (('circle',), ('tri', 'angle', 's'), ('cross', 'es'))
    """
    singular = {plural(noun): noun for noun in SHAPES}.get(word)
    if singular is not None:
        return (*SPLIT_WORDS.get(singular, (singular,)), word[len(singular) :])
    return SPLIT_WORDS.get(word, (word,))


def _byte_characters() -> list[str]:
    """Give the printable character that stands for each byte in the vocabulary, in CLIP's order of bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + place) for place in range(len(others))]


def _merged(parts: Sequence[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """Apply byte-pair merges to the parts of one word: always the pair with the lowest rank first."""
    parts = list(parts)
    while len(parts) > 1:
        pair = min(pairwise(parts), key=lambda pair: ranks.get(pair, len(ranks)))
        if pair not in ranks:
            break
        joined: list[str] = []
        while parts:
            if tuple(parts[:2]) == pair:
                joined.append(parts[0] + parts[1])
                del parts[:2]
            else:
                joined.append(parts.pop(0))
        parts = joined
    return parts


def vocabulary(words: Iterable[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Build a CLIP vocabulary in which the given words fall into the pieces of `pieces_of`.

    Merges are added one by one, only where the merges so far leave a piece in parts, and checked at the end, because a
    merge made for one word can act inside another.

    Args:
        words: Lower-case ASCII words.

    Returns:
        The number of every token (256 bytes, 256 bytes that end a word, merged tokens, start and end), and the merges.

    Raises:
        ModelError: The pieces of two words contradict each other.
    """
    words = tuple(words)
    ranks: dict[tuple[str, str], int] = {}
    for word in words:
        pieces = list(pieces_of(word))
        pieces[-1] += "</w>"
        for place, piece in enumerate(pieces):
            letters = list(piece.removesuffix("</w>"))
            if place == len(pieces) - 1:
                letters[-1] += "</w>"
            while len(parts := _merged(letters, ranks)) > 1:
                ranks[parts[0], parts[1]] = len(ranks)
    for word in words:
        found = _merged([*word[:-1], word[-1] + "</w>"], ranks)
        if [part.removesuffix("</w>") for part in found] != list(pieces_of(word)):
            raise ModelError(f"{word!r} falls into {found} instead of {pieces_of(word)}; change SPLIT_WORDS")
    characters = _byte_characters()
    merged = dict.fromkeys(first + second for first, second in ranks)
    tokens = [*characters, *(character + "</w>" for character in characters), *merged, START, END]
    return {token: number for number, token in enumerate(tokens)}, list(ranks)


def write_tokenizer(folder: Path, words: Sequence[str] | None = None) -> None:
    """Write a tokenizer in the layout of transformers.

    Args:
        folder: Created where it does not exist.
        words: The words to know; by default those of the scenes.
    """
    words = scene_words() if words is None else words
    tokens, merges = vocabulary(words)
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MAX_LENGTH,
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
    }
    for name, value in (("vocab.json", tokens), ("tokenizer_config.json", settings)):
        write_text(folder / name, json.dumps(value, ensure_ascii=False, indent=1) + "\n")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    write_text(folder / "merges.txt", "\n".join(lines) + "\n")


def load_tokenizer(folder: Path) -> Any:
    """Load a tokenizer that `write_tokenizer` wrote, as a transformers CLIPTokenizer."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
