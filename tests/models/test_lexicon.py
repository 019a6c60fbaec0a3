"""The lexicon covers the grammar and gives other prompts something sensible."""

from __future__ import annotations

import pytest

from sfumato.models.lexicon import LEXICON, TAGS, pos, split_words
from sfumato.studio import scenes


def test_every_word_of_the_scenes_is_known() -> None:
    words = {word for seed in range(2000) for word in split_words(scenes.caption_of(scenes.scene_plan(seed)))}
    assert {"crosses", "an", "touching", "three", "dotted", "teal", ","} <= words
    assert [word for word in words if pos(word) == "x"] == []


def test_nouns_and_colours_of_the_scenes_have_their_part_of_speech() -> None:
    for noun in scenes.SHAPES:
        assert pos(noun) == pos(scenes.plural(noun)) == "noun"
    for word in (*scenes.COLOURS, *scenes.BACKGROUNDS, *scenes.SIZES, *scenes.TEXTURES):
        assert pos(word) == "adj"


@pytest.mark.parametrize(
    ("word", "tag"),
    [
        ("left", "adp"), ("right", "adp"), ("inside", "adp"), ("of", "adp"), ("on", "adp"), ("above", "adp"),
        ("touching", "verb"), ("is", "verb"), ("and", "cconj"), ("two", "num"), ("37", "num"), ("٣", "num"),
        ("the", "det"), ("An", "det"), ("she", "pron"), ("not", "adv"), ("Circle", "noun"),
        (",", "punct"), ("!", "punct"), ("—", "punct"), ("qwertz", "x"), ("🙂", "x"), ("", "x"),
    ],
)  # fmt: skip
def test_known_words(word: str, tag: str) -> None:
    assert pos(word) == tag


def test_every_tag_is_declared_and_no_word_is_listed_twice() -> None:
    assert set(LEXICON.values()) <= set(TAGS)
    assert all(word == word.lower() for word in LEXICON)
    from sfumato.models import lexicon

    listed = [
        word
        for name, words in vars(lexicon).items()
        if name.startswith("_") and not name.startswith("__") and isinstance(words, str)
        for word in words.split()
    ]
    assert len(listed) == len(set(listed)) == len(LEXICON)


def test_words_and_punctuation_are_split() -> None:
    assert split_words("A red_x circle,two  stars!?") == ("A", "red_x", "circle", ",", "two", "stars", "!", "?")
    assert split_words(" \t ") == ()
