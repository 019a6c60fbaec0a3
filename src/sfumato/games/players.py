"""Words as players: which parts of a prompt can be taken away, and what is left of it then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sfumato.errors import OptionError, RequestError
from sfumato.games.coalitions import Coalitions
from sfumato.models.words import Tokens, Word

Group = Literal["word", "token", "phrase"]
GROUPS: tuple[Group, ...] = ("word", "token", "phrase")
END_OF_WORD = "</w>"
"""What the tokenizers of CLIP put behind the last token of a word."""

BEFORE_A_NOUN = frozenset({"det", "num", "adj", "noun"})


@dataclass(frozen=True)
class Player:
    """A part of a prompt: one word with the punctuation that follows it, a token, or a noun with what describes it.

    Attributes:
        name: Its words; a word that occurs again carries its number ("red#2"), a token its place in the context.
        words: Places of its words in the prompt.
        spans: (start, end) characters of each.
        sizes: How many tokens stand for each.
    """

    name: str
    words: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    sizes: tuple[int, ...]


def players_of(tokens: Tokens, group: Group = "word") -> tuple[Player, ...]:
    """The players of a prompt.

    A punctuation mark belongs to the player before it (or after it, at the start). Words that the tokenizer cut off
    are no players: nothing depends on them.

    Args:
        tokens: The prompt as the model reads it.
        group: "word"; "token": each piece of a word for itself, where the pieces spell the word (others stay whole);
            or "phrase": a noun with the determiners, numerals, adjectives and nouns before it.

    Raises:
        RequestError: The prompt has no words.
        OptionError: There is no such group.
    """
    if group not in GROUPS:
        raise OptionError(f"players is {group!r}; choose from: {', '.join(GROUPS)}")
    words = [word for word in tokens.words if word.seen]
    parts: list[list[Word]] = []
    for word in words:
        if parts and _belongs(parts[-1], word, group):
            parts[-1].append(word)
        else:
            parts.append([word])
    if not parts:
        raise RequestError("the prompt has no words; write what the image shows, such as 'a red circle'")
    players = tuple(_player(part, several=_repeated(parts, part)) for part in parts)
    if group == "token":
        return tuple(piece for player in players for piece in _pieces(player, tokens))
    return players


def remaining(prompt: str, players: Sequence[Player], coalitions: Coalitions) -> list[str]:
    """What is left of a prompt when only some players stay, their order kept; words that are no players are dropped.

    Example:
        >>> from sfumato.models.words import Token, Tokens, Word
        >>> words = (Word("red", 0, 1, 0, 3, "adj", (1,)), Word("circle", 1, 1, 4, 10, "noun", (2,)))
        >>> import numpy as np
        >>> remaining("red circle", players_of(Tokens(words, (), 77)), np.array([[False, True], [True, True]]))
        ['circle', 'red circle']
    """
    texts = []
    for row in coalitions:
        kept = sorted(
            span for player, stays in zip(players, row.tolist(), strict=True) if stays for span in player.spans
        )
        text = ""
        for number, (start, end) in enumerate(kept):
            together = number and kept[number - 1][1] == start  # "circle," stays together
            text += ("" if together or not number else " ") + prompt[start:end]
        texts.append(text)
    return texts


def blanked(prompt: str, players: Sequence[Player], coalitions: Coalitions, blank: str) -> list[str]:
    """A prompt with as many padding tokens in place of each missing player as it had, so that the others stay in place.

    Args:
        prompt: The text.
        players: Its players.
        coalitions: (coalition, player).
        blank: Text that the tokenizer reads as one padding token.
    """
    texts = []
    for row in coalitions:
        text, at = "", 0
        missing = [p for p, stays in zip(players, row.tolist(), strict=True) if not stays]
        for (start, end), size in sorted(one for p in missing for one in zip(p.spans, p.sizes, strict=True)):
            text += prompt[at:start] + " ".join([blank] * size)
            at = end
        texts.append(text + prompt[at:])
    return texts


def _belongs(part: Sequence[Word], word: Word, group: Group) -> bool:
    if word.pos == "punct" or all(w.pos == "punct" for w in part):
        return True
    return group == "phrase" and _continues(part, word)


def _continues(part: Sequence[Word], word: Word) -> bool:
    """Whether a word belongs to the phrase that is open: all so far may stand before a noun, and so may this one."""
    if word.pos not in BEFORE_A_NOUN or part[-1].pos not in BEFORE_A_NOUN:
        return False
    return part[-1].pos != "noun" or word.pos == "noun"


def _player(part: Sequence[Word], *, several: bool) -> Player:
    name = " ".join(word.text for word in part if word.pos != "punct") or part[0].text
    if several:
        name += f"#{next((word for word in part if word.pos != 'punct'), part[0]).occurrence}"
    spans = tuple((word.start, word.end) for word in part)
    return Player(name, tuple(word.index for word in part), spans, tuple(len(word.tokens) for word in part))


def _pieces(player: Player, tokens: Tokens) -> list[Player]:
    """One player for each token of a word; punctuation goes with the last one."""
    word = next((tokens.words[index] for index in player.words if tokens.words[index].pos != "punct"), None)
    if word is None:
        return [player]
    texts = [token.text.removesuffix(END_OF_WORD) for token in tokens.context if token.index in word.tokens]
    if len(texts) < 2 or "".join(texts).casefold() != word.text.casefold():
        return [player]
    pieces, start = [], word.start
    for text, place in zip(texts, word.tokens, strict=True):
        span = (start, start + len(text))
        pieces.append(Player(f"{_characters(word, span)}@{place}", (word.index,), (span,), (1,)))
        start += len(text)
    others = [number for number, index in enumerate(player.words) if index != word.index]
    before = [number for number in others if player.spans[number][0] < word.start]
    for numbers, place in ((before, 0), ([number for number in others if number not in before], -1)):
        pieces[place] = _joined(pieces[place], player, numbers)
    return pieces


def _characters(word: Word, span: tuple[int, int]) -> str:
    """The characters of a word that a span of the prompt holds."""
    return word.text[span[0] - word.start : span[1] - word.start]


def _joined(piece: Player, player: Player, numbers: Sequence[int]) -> Player:
    """A piece with some of its player's punctuation."""
    return Player(
        piece.name,
        piece.words + tuple(player.words[number] for number in numbers),
        piece.spans + tuple(player.spans[number] for number in numbers),
        piece.sizes + tuple(player.sizes[number] for number in numbers),
    )


def _repeated(parts: Sequence[Sequence[Word]], part: Sequence[Word]) -> bool:
    def key(words: Sequence[Word]) -> list[str]:
        return [word.text.casefold() for word in words if word.pos != "punct"]

    return sum(key(other) == key(part) for other in parts) > 1
