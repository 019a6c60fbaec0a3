"""The study of numbers: counts and coverages that are known, then four prompts from beginning to end."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.errors import OptionError, SfumatoWarning
from sfumato.mapped import Mapped
from sfumato.runs.finding import Finding
from sfumato.studies.asking import TAUS
from sfumato.studies.numbers import count_captions, study_numbers
from sfumato.studio.grammar import NUMERALS, caption_of, parsed
from sfumato.studio.scenes import SIZE, held_out, scene_of
from tests.studies.made_up import MODEL, answered, blank, by_word, covering

RIGHT, WRONG = 0.5, 0.1
"""What the numeral covers where the count is right and where it is wrong."""


def another(caption: str) -> str:
    """The same caption with the other numeral."""
    plan = parsed(caption)
    (group,) = plan.groups
    return caption_of(replace(plan, groups=(replace(group, count=5 - group.count),)))


def image_of(caption: str, seed: int, *, wrong: bool, right: float = RIGHT, less: float = WRONG) -> Mapped:
    """A drawn scene of as many objects as asked for, or of another number."""
    scene = scene_of(another(caption) if wrong else caption, seed)
    numeral = covering(less if wrong else right, SIZE)
    rest = covering(0.3, SIZE)
    return by_word(caption, {word: numeral for word in NUMERALS}, rest=rest, seed=seed, image=scene.image)


def found_of(monkeypatch: pytest.MonkeyPatch, prompts: int, wrong: set[int], **more: Any) -> Finding:
    answered(monkeypatch, "numbers", lambda prompt, seed: image_of(prompt, seed, wrong=seed in wrong, **more))
    return study_numbers(MODEL, prompts)


@given(st.integers(1, 60), st.integers(0, 10**6))
def test_captions_ask_for_two_and_three_in_turn(count: int, seed: int) -> None:
    captions = count_captions(count, seed)
    groups = [parsed(caption).groups[0] for caption in captions]
    assert all(parsed(caption).kind == "count" and caption_of(parsed(caption)) == caption for caption in captions)
    assert [group.count for group in groups] == [2 + place % 2 for place in range(count)]
    looks = [(group.shape, group.colour) for group in groups]
    assert looks[1::2] == looks[: 2 * (count // 2) : 2]  # both numbers of the same objects
    assert len(set(looks)) == len(looks[::2])
    assert count_captions(count, seed) == captions
    assert count_captions(count + 5, seed)[:count] == captions


def test_captions_of_all_looks_come_again_from_the_beginning() -> None:
    captions = count_captions(130, 0)
    assert set(Counter(captions).values()) == {1, 2}
    assert captions[128:] == captions[:2]
    assert count_captions(20, 1) != count_captions(20, 2)


@pytest.mark.usefixtures("undrawn")
def test_a_numeral_that_covers_less_where_the_count_is_wrong_makes_the_finding_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = found_of(monkeypatch, 10, wrong={0, 1, 4, 6, 8})
    assert found.verdict == "replicated"
    assert found.sentence == (
        "50% of 10 images show the number asked for. The numeral covers -0.400 [-0.400, -0.400] (n=10) more of the "
        "image where the count is wrong; its coverage tells wrong from right with an AUC of 0.000 [0.000, 0.000] "
        "(n=10)."
    )
    pairs = [(2, 3), (3, 2), (2, 2), (3, 3), (2, 3), (3, 3), (2, 3), (3, 3), (2, 3), (3, 3)]
    assert [(item["asked"], item["drawn"]) for item in found.items] == pairs
    assert found.about["wrong"] == 5
    assert set(found.about["AUC by tau"]) == {f"{tau:g}" for tau in TAUS}
    two, three = found.rows
    assert [two[f"drawn {n}"] for n in (0, 1, 2, 3, 4)] == [0, 0, 1, 4, 0]
    assert two["drawn 5 or more"] == 0
    assert str(two["right"]).startswith("0.200 [")
    assert str(two["numeral covers where right"]) == "0.500 [0.500, 0.500] (n=1)"
    assert str(two["numeral covers where wrong"]) == "0.100 [0.100, 0.100] (n=4)"
    assert [three[f"drawn {n}"] for n in (2, 3)] == [1, 4]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("right", "less", "verdict"), [(0.1, 0.5, "not replicated"), (0.3, 0.3, "inconclusive")])
def test_a_numeral_that_covers_more_or_as_much_does_not(
    right: float, less: float, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = set(range(5))
    assert found_of(monkeypatch, 10, wrong=wrong, right=right, less=less).verdict == verdict
    assert found_of(monkeypatch, 8, wrong=wrong).verdict == "inconclusive"  # of three right ones


@pytest.mark.usefixtures("undrawn")
def test_an_interval_that_includes_no_difference_is_no_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    covers = (0.1, 0.2, 0.6, 0.1, 0.9, 0.7, 0.4, 0.9, 0.3, 0.5)  # of five wrong counts and of five right ones
    answered(
        monkeypatch,
        "numbers",
        lambda prompt, seed: image_of(prompt, seed, wrong=seed < 5, right=covers[seed], less=covers[seed]),
    )
    found = study_numbers(MODEL, 10)
    assert "covers -0.180 [" in found.sentence
    assert found.verdict == "inconclusive"


@pytest.mark.parametrize("wrong", [set(), set(range(4))], ids=["all right", "all wrong"])
def test_counts_that_are_alike_say_nothing(wrong: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_of(monkeypatch, 4, wrong=wrong)
    assert found.verdict == "inconclusive"
    share = "0%" if wrong else "100%"
    assert found.sentence == (
        f"{share} of 4 images show the number asked for. All counts are alike right or wrong, so there is nothing to "
        "compare."
    )
    column = f"numeral covers where {'right' if wrong else 'wrong'}"
    assert [row[column].n for row in found.rows] == [0, 0]
    assert found.figure.width > 200
    json.loads(found.to_json())


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("prompts", [2, 5])
def test_a_single_wrong_count_is_no_evidence(prompts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_of(monkeypatch, prompts, wrong={1})
    assert found.verdict == "inconclusive"
    assert f"covers -0.400 [nan, nan] (n={prompts}) more" in found.sentence
    assert found_of(monkeypatch, prompts, wrong=set(range(prompts)) - {1}).verdict == "inconclusive"


@pytest.mark.usefixtures("undrawn")
def test_images_that_show_nothing_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    answered(monkeypatch, "numbers", blank)
    found = study_numbers(MODEL, 4)
    assert found.verdict == "inconclusive"
    assert [row["drawn 0"] for row in found.rows] == [2, 2]
    assert {item["AP of the numeral"] for item in found.items} == {""}
    assert {item["drawn"] for item in found.items} == {0}


@pytest.mark.usefixtures("undrawn")
def test_one_prompt_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_of(monkeypatch, 1, wrong={0})
    assert found.verdict == "inconclusive"
    assert found.rows[0]["right"] == (0, 0, 0, 1)
    assert found.rows[1]["right"].n == 0


@pytest.mark.usefixtures("undrawn")
def test_a_numeral_on_its_objects_has_an_ap_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(caption: str, seed: int) -> Mapped:
        scene = scene_of(caption, seed)
        masks = scene.masks.astype(np.float32)
        return by_word(caption, {scene.words[0]: masks[0]}, rest=1 - masks[0], seed=seed, image=scene.image)

    answered(monkeypatch, "numbers", answer)
    for item in study_numbers(MODEL, 4).items:
        assert item["AP of the numeral"] > 0.9  # the reader's masks against the drawn ones
        assert item["numeral covers at 0.4"] + item["noun covers at 0.4"] == pytest.approx(1, abs=2e-5)


@pytest.mark.parametrize("prompts", [0, -2])
def test_no_prompts_are_refused(prompts: int) -> None:
    with pytest.raises(OptionError, match=f"prompts is {prompts}; expected a whole number from 1 to 100000"):
        study_numbers(MODEL, prompts)


def test_four_prompts_from_beginning_to_end(scenes: Any, nothing_is_made: Any) -> None:
    found = study_numbers(scenes, 4, steps=3, seed=3)
    assert [item["prompt"] for item in found.items] == count_captions(4, 3)
    assert [item["seed"] for item in found.items] == [3, 4, 5, 6]
    covers = [f"{word} covers at {tau}" for word in ("numeral", "noun") for tau in TAUS]
    for item in found.items:
        assert list(item) == ["prompt", "seed", "held out", "asked", "drawn", "AP of the numeral", *covers]
        assert item["held out"] == held_out(item["prompt"])
        assert all(0 < item[name] <= 1 for name in covers)
    assert [row["asked"] for row in found.rows] == [2, 3]
    for row in found.rows:
        assert sum(value for name, value in row.items() if name.startswith("drawn")) == 2
    assert found.about["wrong"] == sum(item["asked"] != item["drawn"] for item in found.items)
    assert found.about.items() >= {"model": "studio/scenes", "prompts": 4, "seeds": "3 to 6", "steps": 3}.items()
    assert found.figure.width > found.figure.height > 200
    nothing_is_made()
    again = study_numbers(scenes, 4, steps=3, seed=3)
    assert (again.to_json(), list(again.items)) == (found.to_json(), list(found.items))


def test_a_prompt_alone_is_warned_about(scenes: Any) -> None:
    with pytest.warns(SfumatoWarning, match="one prompt gives no interval"):
        assert study_numbers(scenes, 1, steps=2).verdict == "inconclusive"
