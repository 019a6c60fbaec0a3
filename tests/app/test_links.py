"""A form becomes a link and requests; a link becomes the form again."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import pytest

import sfumato
from sfumato.app.asking.links import Asked, view_of
from sfumato.errors import RequestError


@pytest.fixture(scope="module")
def scenes() -> Any:
    return sfumato.load("studio/scenes")


@pytest.mark.parametrize(
    "asked",
    [
        Asked("studio/scenes", "a red circle"),
        Asked("studio/scenes", "a & b = c? #1 <b>", seed="7", steps="3", guidance="2.5", negative="blue"),
        Asked("m", "a", other_prompt="b", other_seed="4"),
        Asked("m", "Ünïcödé 圆 🙂", seed="9223372036854775807"),
    ],
)
def test_a_link_says_the_same_again(asked: Asked) -> None:
    assert Asked.from_query(dict(parse_qsl(asked.link, keep_blank_values=True)), "other") == asked


def test_what_a_link_says_beside_the_request_is_not_taken() -> None:
    found = Asked.from_query({"prompt": "a", "device": "cuda", "model": "x" * 5000, "image": "/etc/passwd"}, "m")
    assert vars(found).keys() == vars(Asked("m")).keys()
    assert len(found.model) <= 2000


def test_requests_are_completed_by_the_model(scenes: Any) -> None:
    (one,) = Asked("m", " a red circle ", seed="3", steps="5").requests(scenes)
    assert (one.prompt, one.seed, one.steps, one.height) == ("a red circle", 3, 5, 128)


@pytest.mark.parametrize(
    ("more", "prompts", "seeds"),
    [
        ({"other_prompt": "a blue star"}, ["a red circle", "a blue star"], [3, 3]),
        ({"other_seed": "9"}, ["a red circle", "a red circle"], [3, 9]),
        ({"other_prompt": "a blue star", "other_seed": "9"}, ["a red circle", "a blue star"], [3, 9]),
    ],
)
def test_two_are_compared(scenes: Any, more: dict[str, str], prompts: list[str], seeds: list[int]) -> None:
    both = Asked("m", "a red circle", seed="3", **more).requests(scenes)
    assert [one.prompt for one in both] == prompts
    assert [one.seed for one in both] == seeds


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"prompt": "  "}, "the prompt is empty; write what the image shows"),
        ({"seed": "-1"}, "the seed is -1"),
        ({"seed": "seven"}, "the seed is 'seven'"),
        ({"steps": "0"}, "steps is 0; expected a whole number from 1 to 200"),
        ({"steps": "1000"}, "steps is 1000"),
        ({"guidance": "nan"}, "guidance is nan"),
        ({"prompt": "a " * 1500}, "at most 2000 are taken"),
        ({"other_seed": "x"}, "the other seed is 'x'"),
    ],
)
def test_a_field_that_cannot_be_read_is_one_line(scenes: Any, more: dict[str, str], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        Asked(**({"model": "m", "prompt": "a red circle"} | more)).requests(scenes)


def test_models_of_labels_are_told_the_label() -> None:
    (one,) = Asked("m", "0011", seed="1").requests(sfumato.load("studio/faces"))
    assert (one.prompt, one.label) == ("", "0011")


def test_a_view_is_read_within_bounds() -> None:
    query = {"word": "circle", "opacity": "7", "threshold": "x", "together": "true", "at_step": "-3"}
    assert view_of(query) == {"word": "circle", "opacity": 1.0, "together": True}
    assert view_of({"at_step": "3", "layer": "mid", "head": "2"}) == {"step": 3, "layer": "mid", "head": "2"}
    assert view_of({}) == {}
