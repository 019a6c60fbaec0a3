"""What a request may be, and what makes two of them the same."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.errors import RequestError, SfumatoError
from sfumato.request import ABOUT, MAX_IMAGES, MAX_SIDE, MAX_STEPS, CompletedRequest, Request, with_pictures

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
REQUESTS = st.builds(
    Request,
    prompt=TEXT,
    negative_prompt=TEXT,
    seed=st.integers(0, 2**63 - MAX_IMAGES),
    steps=st.none() | st.integers(1, MAX_STEPS),
    guidance=st.none() | st.floats(0, 1e30) | st.just(-0.0) | st.integers(0, 100),
    height=st.none() | st.integers(8, MAX_SIDE),
    width=st.none() | st.integers(8, MAX_SIDE),
    scheduler=st.none() | st.sampled_from(["ddim", "euler"]),
    images=st.integers(1, MAX_IMAGES),
    variation=st.none()
    | st.tuples(st.integers(0, 2**63 - MAX_IMAGES), st.floats(0, 1) | st.sampled_from([0, 1, -0.0])),
)

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"seed": -1}, "seed is -1.*0 to 9223372036854775807"),
    ({"seed": 2**63}, "seed is 9223372036854775808"),
    ({"seed": 2**63 - 1, "images": 2}, "seed"),
    ({"seed": 1.0}, "whole number"),
    ({"seed": True}, "seed is True"),
    ({"steps": 0}, "steps is 0; expected a whole number from 1 to 1000"),
    ({"steps": -1}, "steps is -1"),
    ({"steps": 1e9}, "steps is 1000000000.0"),
    ({"steps": 10**9}, "steps is 1000000000"),
    ({"steps": "20"}, "steps is '20'"),
    ({"guidance": math.nan}, "guidance is nan"),
    ({"guidance": math.inf}, "guidance is inf"),
    ({"guidance": -1}, "guidance is -1; expected a finite number, 0 or more"),
    ({"guidance": 10**400}, "guidance is 1000"),
    ({"guidance": "7"}, "guidance is '7'"),
    ({"guidance": True}, "guidance is True"),
    ({"height": 0}, "height is 0; expected a whole number from 8 to 8192"),
    ({"width": 7}, "width is 7"),
    ({"width": -64}, "width is -64"),
    ({"height": 10**6}, "height is 1000000"),
    ({"height": 64.0}, "height is 64.0"),
    ({"images": 0}, "images is 0"),
    ({"images": 65}, "images is 65"),
    ({"scheduler": " "}, "scheduler is ' '"),
    ({"scheduler": 3}, "scheduler is 3"),
    ({"prompt": "a\0b"}, "prompt contains a NUL character at place 1"),
    ({"prompt": "a \ud83d cat"}, "prompt contains half of a surrogate pair at place 2"),
    ({"prompt": ["a", "b"]}, "prompt is list; expected text"),
    ({"prompt": None}, "prompt is NoneType"),
    ({"negative_prompt": "\0"}, "negative_prompt contains a NUL"),
    ({"negative_prompt": "\udc00"}, "negative_prompt contains half"),
    ({"variation": 5}, r"variation is 5; expected another seed and a strength, such as \(5, 0.1\)"),
    ({"variation": "5:0.1"}, "variation is '5:0.1'; expected another seed and a strength"),
    ({"variation": "51"}, "variation is '51'"),
    ({"variation": ()}, r"variation is \(\)"),
    ({"variation": (5,)}, r"variation is \(5,\)"),
    ({"variation": (5, 0.1, 0.2)}, r"variation is \(5, 0.1, 0.2\)"),
    ({"variation": {5: 0.1, 6: 0.2}}, "variation is {5: 0.1, 6: 0.2}"),
    (
        {"variation": (-1, 0.1)},
        "the seed of the variation is -1; expected a whole number from 0 to 9223372036854775807",
    ),
    ({"variation": (2**63, 0.1)}, "the seed of the variation is 9223372036854775808"),
    ({"variation": (2**63 - 1, 0.1), "images": 2}, "the seed of the variation is 9223372036854775807"),
    ({"variation": (5.0, 0.1)}, "the seed of the variation is 5.0"),
    ({"variation": (True, 0.1)}, "the seed of the variation is True"),
    ({"variation": ("5", 0.1)}, "the seed of the variation is '5'"),
    ({"variation": (5, -0.1)}, "the strength of the variation is -0.1; expected a number from 0 to 1"),
    ({"variation": (5, 1.1)}, "the strength of the variation is 1.1"),
    ({"variation": (5, math.nan)}, "the strength of the variation is nan"),
    ({"variation": (5, math.inf)}, "the strength of the variation is inf"),
    ({"variation": (5, True)}, "the strength of the variation is True"),
    ({"variation": (5, "0.1")}, "the strength of the variation is '0.1'"),
    ({"variation": (5, None)}, "the strength of the variation is None"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG, ids=[ascii(fields)[:40] for fields, _ in WRONG])
def test_a_wrong_field_is_refused_with_what_is_allowed(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        Request(**{"prompt": "a red circle"} | fields)
    assert isinstance(caught.value, SfumatoError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ""},
        {"prompt": "   "},
        {"prompt": "🐈‍⬛ قط \u200b <|endoftext|>"},
        {"prompt": "cat " * 10_000},
        {"seed": 2**63 - 1},
        {"guidance": 0},
        {"guidance": 1},
        {"steps": 1},
        {"steps": 1000},
        {"height": 513},  # the model decides which sizes it can make
    ],
)
def test_what_a_model_may_be_able_to_do_is_a_request(fields: dict[str, Any]) -> None:
    request = Request(**{"prompt": "x"} | fields)
    for name, value in fields.items():
        assert getattr(request, name) == value


def test_the_key_is_the_same_in_every_process_and_version() -> None:
    assert Request("a red circle").key == "afcfdecbc86c9f5b28b1cf60868076f1ef0a358b98001a9d6338caa70e6618d6"
    assert (
        Request(
            "ein Kreis, größer 🔴",
            negative_prompt="blau",
            seed=7,
            steps=20,
            guidance=7,
            height=64,
            width=96,
            scheduler="ddim",
            images=2,
        ).key
        == "4de6b520ecc514c3742ede2ae4aa5c7e7dab5d9c47a5dec982ff598b4f7b4408"
    )


def test_every_field_changes_the_key() -> None:
    plain = Request("a")
    others: dict[str, Any] = {
        "prompt": "b",
        "negative_prompt": "b",
        "seed": 1,
        "steps": 1,
        "guidance": 1.0,
        "height": 8,
        "width": 8,
        "scheduler": "ddim",
        "images": 2,
        "image": np.zeros((8, 8, 3), np.uint8),
        "strength": 0.5,
        "label": "01",
        "mask": np.eye(8, dtype=bool),
        "reference": np.ones((8, 8, 3), np.uint8),
        "schedule": "early",
        "variation": (5, 0.1),
    }
    assert set(others) | {"invert", "at", "more_references"} == set(plain.to_dict())
    keys = {plain.key, *(plain.with_(**{name: value}).key for name, value in others.items())}
    given = plain.with_(image=others["image"], invert="noise")
    keys |= {given.key, given.with_(at=400).key}
    keys.add(plain.with_(reference=others["reference"], more_references=[others["image"]]).key)
    assert len(keys) == len(others) + 4


def test_a_variation_is_another_seed_and_a_strength() -> None:
    request = Request("a red circle", variation=(2**63 - 1, 1))
    assert request.variation == (2**63 - 1, 1.0)
    assert isinstance(request.variation[1], float)
    assert Request("a", variation=[5, 0.1]) == Request("a", variation=(5, 0.1))  # type: ignore[arg-type]
    assert Request("a", variation=(5, -0.0)).key == Request("a", variation=(5, 0)).key
    again = Request.from_dict(json.loads(json.dumps(request.to_dict())))
    assert again.variation == request.variation
    assert isinstance(again.variation, tuple)
    assert (again, hash(again), again.key) == (request, hash(request), request.key)


def test_the_key_says_which_variation() -> None:
    plain = Request("a red circle")
    assert plain.with_(variation=None).key == plain.key  # as before there were variations
    keys = {plain.with_(variation=one).key for one in ((5, 0.1), (5, 0.2), (6, 0.1), (5, 0.0))}
    assert len(keys | {plain.key}) == 5
    old = {name: value for name, value in plain.to_dict().items() if name != "variation"}
    assert Request.from_dict(old).key == plain.key


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"invert": "ddim"}, "invert is 'ddim'; the way to look at a given image is 'noise'"),
        ({"invert": "noise"}, "invert looks at a given image; give one"),
        ({"at": 300}, "at is 300, but no image is to be noised; give invert='noise'"),
        ({"invert": "noise", "image": np.zeros((8, 8, 3), np.uint8), "at": 0}, "at is 0; expected a whole number"),
        ({"invert": "noise", "image": np.zeros((8, 8, 3), np.uint8), "at": 0.5}, "at is 0.5; expected a whole number"),
    ],
)
def test_a_given_image_is_noised_to_a_timestep(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Request("a", **values)


@given(REQUESTS)
def test_a_request_survives_json(request: Request) -> None:
    again = Request.from_dict(json.loads(json.dumps(request.to_dict())))
    assert again == request
    assert hash(again) == hash(request)
    assert again.key == request.key


@given(REQUESTS, REQUESTS)
def test_requests_are_equal_exactly_when_their_keys_are(one: Request, other: Request) -> None:
    assert (one == other) == (one.key == other.key)


def test_a_zero_with_a_sign_is_zero() -> None:
    assert Request("a", guidance=-0.0) == Request("a", guidance=0)
    assert Request("a", guidance=-0.0).key == Request("a", guidance=0).key


@given(REQUESTS)
def test_every_image_has_the_seed_of_its_number(request: Request) -> None:
    assert request.seeds == tuple(range(request.seed, request.seed + request.images))
    assert max(request.seeds) < 2**63


def test_an_unknown_field_is_named_with_those_there_are() -> None:
    with pytest.raises(RequestError, match="no field 'sedd'; its fields are: prompt, negative_prompt, seed, steps"):
        Request.from_dict({"prompt": "a", "sedd": 1})
    assert Request.from_dict({"label": "0011"}) == Request(label="0011")


def test_a_request_cannot_be_changed_only_copied() -> None:
    request = Request("a", seed=3)
    with pytest.raises(AttributeError):
        request.seed = 4  # type: ignore[misc]
    assert request.with_(seed=4) == Request("a", seed=4)
    with pytest.raises(RequestError, match="steps is 0"):
        request.with_(steps=0)


FILLED: dict[str, Any] = {"steps": 4, "guidance": 7.5, "height": 64, "width": 96, "scheduler": "ddim"}


@given(REQUESTS)
def test_a_completed_request_is_the_plain_one_with_its_values(request: Request) -> None:
    completed, plain = request.filled(**FILLED), request.with_(**FILLED)
    assert isinstance(completed, CompletedRequest)
    assert completed == plain
    assert plain == completed
    assert len({completed, plain}) == 1
    assert (completed.key, completed.to_dict()) == (plain.key, plain.to_dict())
    assert CompletedRequest.from_dict(json.loads(json.dumps(plain.to_dict()))) == completed
    assert pickle.loads(pickle.dumps(completed)) == completed


def test_a_changed_request_is_open_again() -> None:
    assert type(Request("a").filled(**FILLED).with_(seed=3)) is Request


@pytest.mark.parametrize("name", FILLED)
def test_a_completed_request_leaves_nothing_open(name: str) -> None:
    with pytest.raises(RequestError, match=f"^{name} of a completed request is open"):
        Request("a").filled(**FILLED | {name: None})


def test_values_are_all_fields_or_all_but_some() -> None:
    request = Request("a", seed=3)
    assert Request(**request.values()) == request
    assert request.values().keys() - request.values("seed", "image").keys() == {"seed", "image"}


def test_a_mask_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = np.arange(64).reshape(8, 8) < 20
    request = Request(image=np.zeros((8, 8, 3), np.uint8), mask=inside)  # type: ignore[arg-type]
    monkeypatch.setattr("sfumato.inputs.image.read_mask", None)
    assert request.mask is not None
    assert request.with_(seed=1).mask is request.mask
    assert request.filled(**FILLED).mask is request.mask
    np.testing.assert_array_equal(request.mask.inside, inside)


@pytest.mark.parametrize("name", [name for name, about in ABOUT.items() if about["kind"] in (int, float)])
def test_the_metadata_of_a_number_hold_its_bounds(name: str) -> None:
    about, step = ABOUT[name], 1 if ABOUT[name]["kind"] is int else 1e-6
    more: dict[str, Any] = {"image": np.zeros((8, 8, 3), np.uint8), "invert": "noise"} if name == "at" else {}
    least = about["least"] if "least" in about else about["above"] + step
    assert getattr(Request(**more, **{name: least}), name) == least
    with pytest.raises(RequestError, match=f"^{name} is "):
        Request(**more, **{name: least - step})
    if "most" in about:
        assert getattr(Request(**more, **{name: about["most"]}), name) == about["most"]
        with pytest.raises(RequestError, match=f"^{name} is "):
            Request(**more, **{name: about["most"] + step})


def test_every_field_says_what_it_is() -> None:
    assert all(about["help"].endswith(".") for about in ABOUT.values())
    names = [about.get("name", name) for name, about in ABOUT.items()]
    assert len(set(names)) == len(names)


def test_pictures_alone_are_changed() -> None:
    given = {"prompt": "a", "image": "i", "mask": None, "more_references": ["m", "n"], "variation": (1, 0.5)}
    changed = with_pictures(given, str.upper)
    assert changed == given | {"image": "I", "more_references": ["M", "N"]}


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(1, 8), st.data())
def test_the_images_of_a_request_are_requests_with_their_own_seeds(
    seed: int, other: int, images: int, data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, images - 1))
    request = Request("a", seed=seed, images=images, variation=(other, 0.5))
    one = request.of_image(number)
    assert (one.seeds, one.variation) == ((request.seeds[number],), (other + number, 0.5))
    assert Request("a", seed=seed, images=images).of_image(number).variation is None
