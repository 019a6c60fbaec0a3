"""Prompts of few words: the same ones as before for any number, refused where there are not as many."""

from __future__ import annotations

import pytest

from sfumato.errors import OptionError, RequestError
from sfumato.tasks.shared.captions import MOST_WORDS, check_few_words, short_captions


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
