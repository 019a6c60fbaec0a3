"""Which prompts and labels the denoiser is asked with and without each part, written out by hand."""

from __future__ import annotations

import re
from typing import Any

import pytest

import sfumato
from sfumato.errors import ModelError, OptionError, RequestError
from sfumato.information.parts import ConditionQuery, asked_of
from sfumato.pipelines.label_unet import LabelUNet
from sfumato.request import Request
from tests.families import family
from tests.labels import SIDE, tiny_labels
from tests.methods.steps import model_of
from tests.pipelines import stable_diffusion

PROMPT = "a red cat, a dog"


def asked(
    prompt: str = PROMPT, given: Any = "rest", players: Any = None, pairs: tuple[str, ...] = ()
) -> ConditionQuery:
    model = model_of("text")
    return asked_of(model, model.complete(Request(prompt, height=16, width=24)), players, given, pairs)


def compared(one: ConditionQuery) -> list[tuple[str, str]]:
    """Of every term the context without and the one with."""
    return [(one.contexts.texts[a], one.contexts.texts[b]) for a, b in one.contexts.terms]


def test_a_word_is_left_out_of_the_prompt() -> None:
    one = asked()
    assert [part.name for part in one.parts] == ["a#1", "red", "cat", ",", "a#2", "dog"]
    assert [part.words for part in one.parts] == [(n,) for n in range(6)]
    assert compared(one) == [
        ("red cat, a dog", PROMPT),
        ("a cat, a dog", PROMPT),
        ("a red , a dog", PROMPT),
        ("a red cat a dog", PROMPT),
        ("a red cat, dog", PROMPT),
        ("a red cat, a", PROMPT),
    ]
    assert one.contexts.texts[0] == PROMPT
    assert len(set(one.contexts.texts)) == len(one.contexts.texts) == 7
    assert one.contexts.branch == "conditional"


def test_a_word_stands_alone() -> None:
    one = asked(given="empty")
    assert compared(one) == [("", "a"), ("", "red"), ("", "cat"), ("", ","), ("", "a"), ("", "dog")]
    assert len(one.contexts.texts) == 7  # both a are one context; the prompt is asked as well


def test_phrases_are_taken_as_a_whole() -> None:
    one = asked(players="phrase")
    assert [(part.name, part.words) for part in one.parts] == [("a red cat", (0, 1, 2, 3)), ("a dog", (4, 5))]
    assert compared(one) == [("a dog", PROMPT), ("a red cat,", PROMPT)]
    alone = asked(players="phrase", given="empty")
    assert compared(alone) == [("", "a red cat,"), ("", "a dog")]


def test_pairs_have_three_terms_more() -> None:
    one = asked(pairs=("red+cat", "dog + a#1"))
    assert one.pairs == ((1, 2), (5, 0))
    assert compared(one)[6:] == [
        ("a , a dog", "a red , a dog"),
        ("a , a dog", "a cat, a dog"),
        ("a , a dog", PROMPT),
        ("red cat, a", "red cat, a dog"),
        ("red cat, a", "a red cat, a"),
        ("red cat, a", PROMPT),
    ]
    alone = asked(given="empty", pairs=("red+dog",))
    assert compared(alone)[6:] == [("", "red"), ("", "dog"), ("", "red dog")]
    phrases = asked(players="phrase", pairs=("a red cat + a dog",))
    assert compared(phrases)[2:] == [("", "a red cat,"), ("", "a dog"), ("", PROMPT)]


@pytest.mark.parametrize("given", ["rest", "empty"])
def test_one_word_is_compared_with_the_empty_prompt(given: str) -> None:
    one = asked("cat", given)
    assert [part.name for part in one.parts] == ["cat"]
    assert compared(one) == [("", "cat")]


def test_words_with_a_mark_inside_and_spaces_between() -> None:
    one = asked("  red   cat's dog  ")
    assert [part.name for part in one.parts] == ["red", "cat's", "dog"]
    assert [without for without, _ in compared(one)] == ["cat's dog", "red dog", "red cat's"]


@pytest.mark.parametrize("given", ["rest", "empty"])
def test_words_that_were_cut_off_are_no_parts_and_never_come_in(given: str) -> None:
    cats = " ".join(["cat"] * 73)
    prompt = f"{cats} red dog blue left"  # 75 tokens are read
    one = asked(prompt, given)
    assert [part.name for part in one.parts][-3:] == ["cat#73", "red", "dog"]
    assert len(one.parts) == 75
    red, dog = compared(one)[-2:]
    if given == "rest":
        assert red == (f"{cats} dog", prompt)
        assert dog == (f"{cats} red", prompt)
    else:
        assert (red, dog) == (("", "red"), ("", "dog"))


def test_a_label_is_compared_with_none_and_its_bits_with_the_other_ones() -> None:
    model = model_of("labels")
    for given in ("rest", "empty"):
        one = asked_of(model, model.complete(Request(label="0110")), None, given)  # type: ignore[arg-type]
        assert [part.name for part in one.parts] == [
            "label 0110",
            "bit 1, 0 or 1",
            "bit 2, 1 or 0",
            "bit 3, 1 or 0",
            "bit 4, 0 or 1",
        ]
        assert {part.words for part in one.parts} == {()}
        others = ("", "1110", "0010", "0100", "0111")
        assert compared(one) == [(other, "0110") for other in others]


def test_bits_whose_other_label_does_not_exist_are_left_out() -> None:
    pipeline = tiny_labels()
    pipeline.register_modules(unet=LabelUNet(SIDE, dim=8, dim_mults=(1, 2), labels=12).eval())
    model = sfumato.wrap(pipeline)
    one = asked_of(model, model.complete(Request(label="1010")), None, "rest")
    assert [part.name for part in one.parts] == ["label 1010", "bit 1, 1 or 0", "bit 3, 1 or 0", "bit 4, 0 or 1"]
    assert compared(one) == [(other, "1010") for other in ("", "0010", "1000", "1011")]


@pytest.mark.parametrize("prompt", ["", "   ", "\u200b"])
@pytest.mark.parametrize("players", ["word", "phrase"])
def test_a_prompt_without_words_is_refused(prompt: str, players: str) -> None:
    with pytest.raises(RequestError, match="the prompt has no words; write what the image shows, such as 'a red"):
        asked(prompt, players=players)


def test_a_missing_label_is_refused() -> None:
    model = model_of("labels")
    with pytest.raises(RequestError, match="there is no label whose information could be asked for; give one: --label"):
        asked_of(model, model.complete(Request()), None, "rest")


def test_models_that_are_told_nothing_are_refused() -> None:
    message = "reads neither words nor labels, so there is nothing to tell it"
    embedded = sfumato.wrap(stable_diffusion(), prompt_embeds=model_of("text").encode(["a cat"]))
    for model in (model_of("unconditional"), family("Kandinsky 2.2, decoder").wrapped(), embedded):
        with pytest.raises(ModelError, match=message):
            asked_of(model, Request(steps=2), None, "rest")


@pytest.mark.parametrize("pair", ["red", "red+", "red+red", "red+zebra", "a+dog", "red+cat+dog", ""])
def test_pairs_that_are_none_say_which_there_are(pair: str) -> None:
    expected = f"pairs has {pair!r}; expected two of these, joined by +: a#1, red, cat, ,, a#2, dog"
    with pytest.raises(OptionError, match=re.escape(expected)):
        asked(pairs=(pair,))


def test_players_that_the_model_does_not_read_are_refused() -> None:
    with pytest.raises(OptionError, match="players is 'label', but .* reads words"):
        asked(players="label")
    model = model_of("labels")
    request = model.complete(Request(label="0011"))
    for players in ("word", "phrase"):
        with pytest.raises(OptionError, match=f"players is '{players}', but .* reads labels"):
            asked_of(model, request, players, "rest")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="pairs are of words; a label's bits cannot be left out, only flipped"):
        asked_of(model, request, None, "rest", ("bit 1+bit 2",))
