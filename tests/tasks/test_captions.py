"""Captions that tasks draw: as in training, or of few words; refused where there are not as many."""

from __future__ import annotations

import pytest

from sfumato.errors import OptionError, RequestError
from sfumato.studio.grammar import held_out, parsed
from sfumato.tasks.shared.captions import MOST_WORDS, check_few_words, drawn_captions, short_captions


def test_captions_are_drawn_as_in_training_and_never_held_out() -> None:
    captions = drawn_captions(40)
    assert len(set(captions)) == 40
    assert not any(held_out(one) for one in captions)
    assert {parsed(one).kind for one in captions} == {"one", "count", "relation", "and"}
    assert {parsed(one).kind for one in drawn_captions(5, 3, "count")} == {"count"}
    with pytest.raises(OptionError, match="prompts is 0"):
        drawn_captions(0)


def test_short_captions_are_the_first_of_all_that_are_held_out() -> None:
    many = short_captions(50)
    assert len(many) == len(set(many)) == 50
    assert short_captions(5) == many[:5]
    for caption in many:
        check_few_words(caption)


def test_what_there_is_not_is_an_error() -> None:
    with pytest.raises(OptionError, match=f"there are no 200 held-out captions of {MOST_WORDS} words or fewer"):
        short_captions(200)
    check_few_words("two purple triangles, teal background.")
    with pytest.raises(RequestError, match="it has 7 words; expected 6 at most"):
        check_few_words("one two three four five six seven")
