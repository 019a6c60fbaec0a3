"""The task of counts: counts and coverages that are known, then four prompts from beginning to end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import sfumato
from sfumato.errors import OptionError, SfumatoWarning
from sfumato.models.model import Model
from sfumato.runs.finding import Finding
from sfumato.runs.running import run
from sfumato.runs.task import Item, find_task
from sfumato.studio.grammar import NUMERALS, caption_of, parsed
from sfumato.studio.scenes import SIZE, held_out, scene_of
from sfumato.tasks import counts
from sfumato.tasks.counts import count_captions, count_record
from sfumato.tasks.shared import word_maps
from sfumato.tasks.shared.word_maps import TAUS, Mapped, WordMapOptions
from tests.tasks.made_up import blank, by_word, covering, with_items

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


@pytest.fixture(scope="module")
def scenes() -> Model:
    """The embedded model."""
    return sfumato.load("studio/scenes")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure is drawn."""
    monkeypatch.setattr(counts, "threshold_sheet", lambda *given, **more: Image.new("RGB", (4, 4)))


def found_of(images: Sequence[Mapped]) -> Finding:
    """What the task concludes from made-up images, with their rows."""
    records = [(Item(one.request), count_record(one)) for one in images]
    found = find_task("counts").parts.conclude(records, WordMapOptions(), {"model": "made up"})
    return with_items(found, [dict(row) for _, record in records for row in record.rows])


def counted(prompts: int, wrong: set[int], **more: Any) -> Finding:
    """What it concludes from so many images, some of which show another number of objects."""
    captions = enumerate(count_captions(prompts, 0))
    return found_of([image_of(caption, seed, wrong=seed in wrong, **more) for seed, caption in captions])


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
def test_a_numeral_that_covers_less_where_the_count_is_wrong_makes_the_finding_hold() -> None:
    found = counted(10, wrong={0, 1, 4, 6, 8})
    assert found.verdict == "replicated"
    assert found.sentence == (
        "50% of 10 images show the number asked for. The numeral covers -0.400 [-0.400, -0.400] (n=10) more of the "
        "image where the count is wrong; its coverage separates wrong from right with an AUC of 0.000 [0.000, 0.000] "
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
def test_a_numeral_that_covers_more_or_as_much_does_not(right: float, less: float, verdict: str) -> None:
    wrong = set(range(5))
    assert counted(10, wrong=wrong, right=right, less=less).verdict == verdict
    assert counted(8, wrong=wrong).verdict == "inconclusive"  # of three right ones


@pytest.mark.usefixtures("undrawn")
def test_an_interval_that_includes_no_difference_is_no_evidence() -> None:
    covers = (0.1, 0.2, 0.6, 0.1, 0.9, 0.7, 0.4, 0.9, 0.3, 0.5)  # of five wrong counts and of five right ones
    found = found_of(
        [
            image_of(caption, seed, wrong=seed < 5, right=covers[seed], less=covers[seed])
            for seed, caption in enumerate(count_captions(10, 0))
        ]
    )
    assert "covers -0.180 [" in found.sentence
    assert found.verdict == "inconclusive"


@pytest.mark.parametrize("wrong", [set(), set(range(4))], ids=["all right", "all wrong"])
def test_counts_that_are_alike_say_nothing(wrong: set[int]) -> None:
    found = counted(4, wrong=wrong)
    assert found.verdict == "inconclusive"
    share = "0%" if wrong else "100%"
    assert found.sentence == (
        f"{share} of 4 images show the number asked for. All counts are alike right or wrong, so there is nothing to "
        "compare."
    )
    column = f"numeral covers where {'right' if wrong else 'wrong'}"
    assert [row[column].n for row in found.rows] == [0, 0]
    assert found.figure is not None
    assert found.figure.width > 200
    json.loads(found.to_json())


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("prompts", [2, 5])
def test_a_single_wrong_count_is_no_evidence(prompts: int) -> None:
    found = counted(prompts, wrong={1})
    assert found.verdict == "inconclusive"
    assert f"covers -0.400 [nan, nan] (n={prompts}) more" in found.sentence
    assert counted(prompts, wrong=set(range(prompts)) - {1}).verdict == "inconclusive"


@pytest.mark.usefixtures("undrawn")
def test_images_that_show_nothing_are_wrong() -> None:
    found = found_of([blank(caption, seed) for seed, caption in enumerate(count_captions(4, 0))])
    assert found.verdict == "inconclusive"
    assert [row["drawn 0"] for row in found.rows] == [2, 2]
    assert {item["AP of the numeral"] for item in found.items} == {None}
    assert {item["drawn"] for item in found.items} == {0}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.filterwarnings("ignore:one prompt gives no interval")
def test_one_prompt_shows_nothing() -> None:
    found = counted(1, wrong={0})
    assert found.verdict == "inconclusive"
    assert found.rows[0]["right"] == (0, 0, 0, 1)
    assert found.rows[1]["right"].n == 0


@pytest.mark.usefixtures("undrawn")
def test_a_numeral_on_its_objects_has_an_ap_of_one() -> None:
    def answer(caption: str, seed: int) -> Mapped:
        scene = scene_of(caption, seed)
        masks = scene.masks.astype(np.float32)
        return by_word(caption, {scene.words[0]: masks[0]}, rest=1 - masks[0], seed=seed, image=scene.image)

    for item in found_of([answer(caption, seed) for seed, caption in enumerate(count_captions(4, 0))]).items:
        assert item["AP of the numeral"] > 0.9  # the reader's masks against the drawn ones
        assert item["numeral covers at 0.4"] + item["noun covers at 0.4"] == pytest.approx(1, abs=2e-5)


@pytest.mark.parametrize("prompts", [0, -2])
def test_no_prompts_are_refused(prompts: int, scenes: Model, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=f"prompts is {prompts}; expected a whole number from 1 to 100000"):
        run("counts", scenes, out=tmp_path / "run", prompts=prompts)


def test_four_prompts_from_beginning_to_end(scenes: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("counts", scenes, out=tmp_path / "run", prompts=4, common={"steps": 3, "seed": 3})
    found, items = Finding.from_json(done.finding), done.items
    assert items["prompt"].tolist() == count_captions(4, 3)
    assert items["seed"].tolist() == [3, 4, 5, 6]
    covers = [f"{word} covers at {tau}" for word in ("numeral", "noun") for tau in TAUS]
    assert items.columns[-22:].tolist() == ["held out", "asked", "drawn", "AP of the numeral", *covers]
    assert items["held out"].tolist() == [held_out(prompt) for prompt in items["prompt"]]
    assert ((items[covers] > 0) & (items[covers] <= 1)).all(axis=None)
    assert [row["asked"] for row in found.rows] == [2, 3]
    for row in found.rows:
        assert sum(value for name, value in row.items() if name.startswith("drawn")) == 2
    assert found.about["wrong"] == (items["asked"] != items["drawn"]).sum()
    assert found.about.items() >= {"model": "studio/scenes", "prompts": 4, "seeds": "3 to 6", "steps": 3}.items()
    with Image.open(tmp_path / "run" / "figure.png") as figure:
        assert figure.width > figure.height > 200
    monkeypatch.setattr(word_maps, "explain", lambda *given, **more: pytest.fail("an image was made"))
    again = run("counts", scenes, out=tmp_path / "run", prompts=4, common={"steps": 3, "seed": 3})
    assert (again.finding, again.items.equals(items)) == (done.finding, True)


def test_captions_of_no_number_are_invalid_and_a_prompt_alone_is_warned_about(scenes: Model, tmp_path: Path) -> None:
    prompts = ["two large red circles, gray background", "a red circle", "two zebras"]
    with pytest.warns(SfumatoWarning, match="one prompt gives no interval"):
        done = run("counts", scenes, out=tmp_path / "run", prompts=prompts, common={"steps": 2})
    assert done.finding["verdict"] == "inconclusive"
    assert (done.counts.ok, done.counts.invalid) == (1, 2)
    reasons = done.items.sort_values("row")["reason"].tolist()
    assert reasons[1] == "it asks for no number of objects; expected a numeral, as: two red circles"
    assert "zebras" in reasons[2]
