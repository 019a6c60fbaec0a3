from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.errors import OptionError, RequestError
from sfumato.games.coalitions import all_coalitions
from sfumato.games.players import blanked, players_of, remaining
from sfumato.models.lexicon import pos
from sfumato.models.words import Tokens, split, tokenise
from tests.pipelines import clip_tokenizer


def read(prompt: str) -> Tokens:
    return tokenise(prompt, clip_tokenizer(), pos)


def names(prompt: str, group: Any = "word") -> list[str]:
    return [player.name for player in players_of(read(prompt), group)]


def test_every_word_is_a_player_and_punctuation_belongs_to_the_word_before() -> None:
    assert names("a red circle, teal background") == ["a", "red", "circle", "teal", "background"]
    assert names(", red") == ["red"]
    assert names("!!") == ["!"]


def test_repeated_words_are_told_apart() -> None:
    assert names("a red circle and a red square") == ["a#1", "red#1", "circle", "and", "a#2", "red#2", "square"]


def test_phrases_are_nouns_with_what_describes_them() -> None:
    prompt = "two large red circles left of a blue square, teal background"
    assert names(prompt, "phrase") == ["two large red circles", "left", "of", "a blue square", "teal background"]


def test_words_that_were_cut_off_are_no_players() -> None:
    assert len(players_of(read("red " * 100))) == 75


def test_what_remains_keeps_order_and_punctuation() -> None:
    prompt = "A red circle,  teal background"
    players = players_of(read(prompt))
    rows = np.array([[1, 1, 1, 1, 1], [0, 1, 0, 0, 1], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]], bool)
    assert remaining(prompt, players, rows) == ["A red circle, teal background", "red background", "circle, teal", ""]


def test_blanks_keep_the_places_of_the_other_words() -> None:
    prompt = "a red circle on the teal background"
    tokens, tokenizer = read(prompt), clip_tokenizer()
    players = players_of(tokens)
    whole = tokenizer(prompt).input_ids
    for row, text in zip(rows := all_coalitions(7), blanked(prompt, players, rows, tokenizer.pad_token), strict=True):
        found = tokenizer(text).input_ids
        assert len(found) == len(whole)
        for player, stays in zip(players, row, strict=True):
            for place in tokens.words[player.words[0]].tokens:
                assert found[place] == (whole[place] if stays else tokenizer.pad_token_id)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_players_cover_every_word_once(prompt: str) -> None:
    tokens = Tokens(split(prompt, pos), (), 77)
    if not tokens.words:
        with pytest.raises(RequestError, match="has no words"):
            players_of(tokens)
        return
    for group in ("word", "phrase"):
        players = players_of(tokens, group)  # type: ignore[arg-type]
        assert [place for player in players for place in player.words] == [word.index for word in tokens.words]
        assert len({player.name.casefold() for player in players}) == len(players)
        everything = remaining(prompt, players, np.ones((1, len(players)), bool))[0]
        assert everything.split() == " ".join(prompt[w.start : w.end] for w in tokens.words).split() or everything


def test_an_unknown_group_names_the_known_ones() -> None:
    with pytest.raises(OptionError, match="choose from: word, token, phrase"):
        players_of(read("red circle"), "letter")  # type: ignore[arg-type]
