"""Words of a prompt and the tokens that carry them, for any tokenizer that reports character offsets."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sfumato.bounds import shown
from sfumato.errors import ModelError, UnknownWord

SPECIAL = re.compile(r"<\|\w+\|>")


@dataclass(frozen=True)
class Word:
    """One word (or punctuation mark) of a prompt.

    Attributes:
        text: As written.
        index: Place among the words of the prompt, from 0.
        occurrence: 1 for the first time this text occurs (letter case ignored), 2 for the second.
        start: First character in the prompt.
        end: One past the last character.
        pos: Part of speech (noun, adj, num, det, adp, verb, cconj, punct, ...; x when unknown).
        tokens: Places of its tokens in the model's context, in order; those cut off are not listed.
        seen: False when the tokenizer cut the word off, so the model never read it.
    """

    text: str
    index: int
    occurrence: int
    start: int
    end: int
    pos: str
    tokens: tuple[int, ...] = ()
    seen: bool = True


@dataclass(frozen=True)
class Token:
    """One token of the model's context: its place, its text and the word that it belongs to (-1: none)."""

    index: int
    text: str
    word: int


@dataclass(frozen=True)
class Tokens:
    """A prompt as the model reads it.

    Attributes:
        words: Every word of the prompt, also those cut off.
        context: Start token, the prompt's tokens, first end token, in order, as far as the tokenizer has such; padding
            is left out, so where a prompt is read twice, their places have a gap.
        length: Number of places in the model's context, padding included.
    """

    words: tuple[Word, ...]
    context: tuple[Token, ...]
    length: int

    @property
    def unseen(self) -> tuple[str, ...]:
        """Words that were cut off."""
        return tuple(word.text for word in self.words if not word.seen)


def without(prompt: str, words: Iterable[Word]) -> str:
    """What is left of a prompt when some of its words are taken out, with single spaces between the others.

    Example:
        >>> without("a red circle", [Word("red", 1, 1, 2, 5, "adj")])
        'a circle'
    """
    for word in sorted(words, key=lambda one: -one.start):
        prompt = prompt[: word.start] + prompt[word.end :]
    return " ".join(prompt.split())


def split(prompt: str, pos: Callable[[str], str]) -> tuple[Word, ...]:
    """Split a prompt into words; every punctuation mark is a word of its own.

    Letters, digits, marks and joiners of any script make words, also with an apostrophe or hyphen inside; a run of
    emoji and symbols is one word; characters without any visible form alone are no word.

    Args:
        prompt: The text.
        pos: Gives the part of speech of a word.

    Returns:
        The words in order, without tokens.
    """
    counts: dict[str, int] = {}
    words: list[Word] = []
    for start, end in _spans(prompt):
        text = prompt[start:end]
        key = text.casefold()
        counts[key] = counts.get(key, 0) + 1
        words.append(Word(text, len(words), counts[key], start, end, pos(text)))
    return tuple(words)


def tokenise(
    prompt: str,
    tokenizer: Any,
    pos: Callable[[str], str],
    length: int | None = None,
    *,
    within: str = "{}",
    dropped: int = 0,
) -> Tokens:
    """Read a prompt as a tokenizer does and find the tokens of every word by their character offsets.

    Args:
        prompt: The text.
        tokenizer: A transformers tokenizer with offsets (a "fast" one) and a ``model_max_length``.
        pos: Gives the part of speech of a word.
        length: How many tokens the context has at most; the tokenizer's ``model_max_length``.
        within: A template that the prompt stands in, at the place of "{}".
        dropped: How many tokens of the template's beginning the context leaves out.

    Raises:
        ModelError: The tokenizer reports no character offsets.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{type(tokenizer).__name__} reports no character offsets, so words cannot be matched to tokens; "
            "load the model with a fast tokenizer (transformers does so by default)"
        )
    length = length or int(tokenizer.model_max_length)
    written, before = within.replace("{}", prompt), within.index("{}")
    read = tokenizer(written, truncation=True, max_length=length + dropped, return_offsets_mapping=True)
    whole = tokenizer(written, truncation=False, return_offsets_mapping=True, verbose=False)
    words = split(prompt, pos)
    kept = _owners(words, [(start - before, end - before) for start, end in read["offset_mapping"]])[dropped:]
    asked = _owners(words, [(start - before, end - before) for start, end in whole["offset_mapping"]])
    cut = {owner for owner in asked if owner >= 0} - {owner for owner in kept if owner >= 0}
    texts = tokenizer.convert_ids_to_tokens(read["input_ids"])[dropped:]
    words = tuple(
        replace(
            word, tokens=tuple(i for i, owner in enumerate(kept) if owner == word.index), seen=word.index not in cut
        )
        for word in words
    )
    words = tuple(word if word.tokens else replace(word, seen=False) for word in words)
    context = tuple(Token(i, text, owner) for i, (text, owner) in enumerate(zip(texts, kept, strict=True)))
    return Tokens(words, context, length)


def joined(first: Tokens, second: Tokens) -> Tokens:
    """A prompt that is read twice, where the context holds the second reading after the first."""
    shift = first.length
    words = tuple(
        replace(one, tokens=one.tokens + tuple(shift + token for token in other.tokens), seen=one.seen or other.seen)
        for one, other in zip(first.words, second.words, strict=True)
    )
    later = tuple(replace(token, index=shift + token.index) for token in second.context)
    return Tokens(words, first.context + later, shift + second.length)


def unread(length: int) -> Tokens:
    """A context of tokens that stand for no words, called by their places."""
    return Tokens((), tuple(Token(index, str(index), -1) for index in range(length)), length)


def find(words: Sequence[Word], wanted: str | int) -> tuple[Word, ...]:
    """The occurrences that a word's name stands for.

    Args:
        words: The words of a prompt.
        wanted: A text (all its occurrences, letter case ignored), "text#2" (its second occurrence) or a place.

    Raises:
        UnknownWord: The prompt has no such word.
    """
    if isinstance(wanted, int):
        found = [word for word in words if word.index == wanted]
    else:
        text, _, occurrence = wanted.rpartition("#")
        if text and occurrence.isdecimal():
            found = [w for w in words if w.text.casefold() == text.casefold() and w.occurrence == int(occurrence)]
        else:
            found = []
        found = found or [word for word in words if word.text.casefold() == wanted.casefold()]
    if not found:
        raise UnknownWord(f"{shown(wanted)} is not in the prompt; its words are: {', '.join(names(words)) or '(none)'}")
    return tuple(found)


def names(words: Iterable[Word]) -> list[str]:
    """A name for every word that tells repeated words apart: "circle", "circle#2"."""
    return [word.text if word.occurrence == 1 else f"{word.text}#{word.occurrence}" for word in words]


def _owners(words: Sequence[Word], offsets: Iterable[tuple[int, int]]) -> list[int]:
    """For every token the word that holds most of its characters, or -1 for start, end and padding tokens."""
    ends = [word.end for word in words]
    owners = []
    for start, end in offsets:
        best, owner = 0, -1
        at = bisect_right(ends, start)  # the first word that ends after the token's start
        while at < len(words) and words[at].start < end:
            overlap = min(end, words[at].end) - max(start, words[at].start)
            if overlap > best:
                best, owner = overlap, words[at].index
            at += 1
        owners.append(owner)
    return owners


def _spans(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(text):
        kind = _kind(text[start])
        if special := SPECIAL.match(text, start):
            yield special.span()
            start = special.end()
            continue
        end = start + 1
        if kind in {"letter", "symbol"}:
            while end < len(text) and _joins(text, end, kind):
                end += 1
        elif kind == "punctuation":  # its accents and variation selectors belong to it
            while end < len(text) and _kind(text[end]) == "joiner":
                end += 1
        if kind != "space" and any(_visible(c) for c in text[start:end]):
            yield start, end
        start = end


def _joins(text: str, at: int, kind: str) -> bool:
    here = _kind(text[at])
    if here in {kind, "joiner"}:
        return True
    inside = at + 1 < len(text) and _kind(text[at + 1]) == "letter" and _kind(text[at - 1]) == "letter"
    return kind == "letter" and text[at] in "'’-" and inside


def _kind(char: str) -> str:
    category = unicodedata.category(char)
    if category[0] in "LN" or char == "_":
        return "letter"
    if category[0] == "M" or category == "Cf":
        return "joiner"
    if char.isspace() or category[0] in "ZC":
        return "space"
    return "symbol" if category[0] == "S" and not char.isascii() else "punctuation"


def _visible(char: str) -> bool:
    return unicodedata.category(char)[0] not in "CZ"
