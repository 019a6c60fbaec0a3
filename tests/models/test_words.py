from __future__ import annotations

import time
import unicodedata
from functools import cache
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from sfumato.errors import ModelError, UnknownWord
from sfumato.models.lexicon import pos
from sfumato.models.words import Tokens, find, names, split, tokenise
from tests.pipelines import clip_tokenizer

ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
SPICY = st.lists(
    st.sampled_from(
        [
            "cat",
            "Cat",
            " ",
            "\n",
            "don't",
            "<|endoftext|>",
            "<|startoftext|>",
            "🔴",
            "👩‍🚀",
            "‼️",
            "#️⃣",
            "قطة",
            "हिन्दी",
            "猫",
            "\u200b",
            "\u200d",
            "\ufe0f",
            "e\u0301",
            "_",
            "-",
            "'",
            ",",
            "...",
            "$5",
            "½",
            "İ",
            "ﬁ",
            "\u202e",
            "\x07",
            "𝔠𝔞𝔱",
        ]
    ),
    max_size=30,
).map("".join)


@cache
def tokenizer() -> CLIPTokenizer:
    return clip_tokenizer()


def read(prompt: str) -> Tokens:
    return tokenise(prompt, tokenizer(), pos)


def visible(character: str) -> bool:
    return unicodedata.category(character)[0] not in "CZ"


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a red circle, left of 2 squares.", ["a", "red", "circle", ",", "left", "of", "2", "squares", "."]),
        ("a cat's well-known mother-in-law", ["a", "cat's", "well-known", "mother-in-law"]),
        ("-cat- 'dog'", ["-", "cat", "-", "'", "dog", "'"]),
        ("don’t", ["don’t"]),
        ("snake_case x2", ["snake_case", "x2"]),
        ("👩‍🚀🔴 cat", ["👩‍🚀🔴", "cat"]),
        ("‼️ yes", ["‼️", "yes"]),
        ("1️⃣ #️⃣", ["1️⃣", "#️⃣"]),
        ("قطة حمراء", ["قطة", "حمراء"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("e\u0301tude", ["e\u0301tude"]),
        ("a\u00a0b\tc\nd", ["a", "b", "c", "d"]),
        ("\u200b \u200d\u2060", []),
        ("", []),
        ("<|endoftext|>cat", ["<|endoftext|>", "cat"]),
        ("<|not special", ["<", "|", "not", "special"]),
    ],
)
def test_split(prompt: str, words: list[str]) -> None:
    assert [word.text for word in split(prompt, pos)] == words


@given(ANY | SPICY)
@example("\u0301a")
@example("a\ufe0f\u200d")
def test_words_cover_exactly_what_is_visible(prompt: str) -> None:
    words = split(prompt, pos)
    covered: list[int] = []
    for index, word in enumerate(words):
        assert word.index == index
        assert prompt[word.start : word.end] == word.text
        assert any(map(visible, word.text))
        assert not any(character.isspace() for character in word.text)
        covered += range(word.start, word.end)
    assert covered == sorted(set(covered))  # in order and disjoint
    assert {i for i, c in enumerate(prompt) if visible(c)} <= set(covered)
    assert all(unicodedata.category(prompt[i]) == "Cf" for i in covered if not visible(prompt[i]))
    for word in words:
        same = [other for other in words if other.text.casefold() == word.text.casefold()]
        assert [other.occurrence for other in same] == list(range(1, len(same) + 1))


@given(ANY | SPICY)
def test_a_token_belongs_to_one_word_at_most(prompt: str) -> None:
    tokens = read(prompt)
    assert [token.index for token in tokens.context] == list(range(len(tokens.context)))
    assert tokens.context[0].text == "<|startoftext|>"
    assert tokens.context[-1].text == "<|endoftext|>"
    assert tokens.context[0].word == tokens.context[-1].word == -1
    owned = [place for word in tokens.words for place in word.tokens]
    assert len(owned) == len(set(owned))
    for word in tokens.words:
        assert list(word.tokens) == [token.index for token in tokens.context if token.word == word.index]
        assert word.seen == bool(word.tokens)
    assert tokens.unseen == tuple(word.text for word in tokens.words if not word.seen)
    if len(tokens.context) < tokens.length:
        cut = [word for word in tokens.words if not word.seen]
        assert not cut, f"nothing was cut off, yet {cut} has no token"


@given(st.lists(st.sampled_from(["a", "red", "cat", "zebra", ",", "table"]), min_size=1, max_size=40))
def test_the_tokens_of_a_word_spell_it(words: list[str]) -> None:
    tokens = read(" ".join(words))
    assert [word.text for word in tokens.words] == words
    for word in tokens.words:
        spelled = "".join(tokens.context[place].text for place in word.tokens).replace("</w>", "")
        assert word.text.startswith(spelled)
        assert spelled == word.text or word.index == max(w.index for w in tokens.words if w.tokens) or not word.seen


@pytest.mark.parametrize(("count", "seen"), [(1, 1), (74, 74), (75, 75), (76, 75), (98, 75), (9_998, 75)])
def test_long_prompts_are_cut_where_the_model_stops_reading(count: int, seen: int) -> None:
    """Two tokens are the start and the end: 76, 77, 78 and 10,000 tokens in all."""
    tokens = read(" ".join(["cat"] * count))
    assert [word.seen for word in tokens.words] == [True] * seen + [False] * (count - seen)
    assert len(tokens.context) == seen + 2
    assert tokens.length == 77
    assert len(tokens.unseen) == count - seen


def test_a_word_cut_in_its_middle_was_seen_in_part() -> None:
    tokens = read(" ".join(["cat"] * 73) + " zebra dog")
    zebra, dog = tokens.words[-2:]
    assert (zebra.seen, len(zebra.tokens)) == (True, 2)
    assert (dog.seen, dog.tokens) == (False, ())


def test_ten_thousand_words_take_no_time() -> None:
    started = time.process_time()
    tokens = read(" ".join(f"cat{i}" for i in range(10_000)))
    assert len(tokens.words) == 10_000
    assert time.process_time() - started < 5


def test_find_by_text_occurrence_and_place() -> None:
    words = split("A circle and a Circle # x#2", pos)
    assert [w.index for w in find(words, "circle")] == [1, 4]
    assert [w.index for w in find(words, "circle#2")] == [4]
    assert [w.index for w in find(words, "a#1")] == [0]
    assert [w.index for w in find(words, 4)] == [4]
    assert [w.index for w in find(words, "#")] == [5, 7]
    assert names(words) == ["A", "circle", "and", "a#2", "Circle#2", "#", "x", "##2", "2"]
    for wrong in ("circl", "circle#3", "", 99, -1):
        with pytest.raises(UnknownWord, match="is not in the prompt; its words are: A, circle, and"):
            find(words, wrong)
    with pytest.raises(UnknownWord, match=r"'cat' is not in the prompt; its words are: \(none\)"):
        find((), "cat")


def test_a_tokenizer_without_offsets_is_refused() -> None:
    with pytest.raises(ModelError, match="reports no character offsets"):
        tokenise("a", SimpleNamespace(is_fast=False), pos)
