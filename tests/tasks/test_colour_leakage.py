"""The task of colour leakage: its captions, its sums on drawn images with known maps, then a run to the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import sfumato
from sfumato.models.model import Model
from sfumato.runs.finding import Finding
from sfumato.runs.running import run
from sfumato.runs.task import Item, find_task
from sfumato.studio.grammar import caption_of, parsed
from sfumato.studio.reader import read
from sfumato.studio.scenes import COLOURS, SIZE, scene_of
from sfumato.tasks import colour_leakage
from sfumato.tasks.colour_leakage import leak_record, plain_and_detailed, two_object_captions
from sfumato.tasks.shared import word_maps
from sfumato.tasks.shared.word_maps import Mapped, WordMapOptions
from tests.tasks.made_up import Maps, blank, by_word, with_items

MANY = st.integers(1, 20), st.integers(0, 10**6)
EVERYWHERE = np.ones((SIZE, SIZE), np.float32)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure is drawn."""
    for sheet in ("panels_sheet", "examples_sheet"):
        monkeypatch.setattr(colour_leakage, sheet, lambda *given, **more: Image.new("RGB", (4, 4)))


@pytest.fixture(scope="module")
def scenes() -> Model:
    """The embedded model."""
    return sfumato.load("studio/scenes")


@given(*MANY, st.booleans())
@settings(max_examples=30)
def test_captions_of_two_objects_differ_in_shape_and_colour(count: int, seed: int, detailed: bool) -> None:
    captions = two_object_captions(count, seed, detailed=detailed)
    assert len(captions) == count
    for caption in captions:
        plan = parsed(caption)
        first, second = plan.groups
        assert (plan.relation, plan.background) == ("and", None)
        assert first.shape != second.shape
        assert first.colour != second.colour
        assert any(group.size or group.texture for group in plan.groups) == detailed
        assert caption_of(plan) == caption


def test_plain_and_detailed_prompts_begin_with_the_same_seed() -> None:
    rows = plain_and_detailed(3, 5)
    assert [(row["prompt"], row["seed"]) for row in rows] == [
        *zip(two_object_captions(3, 5, detailed=False), [5, 6, 7], strict=True),
        *zip(two_object_captions(6, 5, detailed=True), range(5, 11), strict=True),
    ]


def found_of(images: Sequence[Mapped]) -> Finding:
    """What the task concludes from made-up images, with the rows of their colour words."""
    records = [(Item(one.request), leak_record(one)) for one in images]
    found = find_task("colour_leakage").parts.conclude(records, WordMapOptions(), {"model": "made up"})
    items = [{"prompt": item.request.prompt} | dict(row) for item, record in records for row in record.rows]
    return with_items(found, items)


def leaking(caption: str, seed: int, leak: float | None, *, detailed: bool = True, wrong: bool = False) -> Mapped:
    """An image of two objects; so much of each colour word's map is on the other object, the rest on its own."""
    plain = parsed(caption)
    groups = tuple(replace(group, size=None, texture=None) for group in plain.groups)
    first = groups[0]
    if wrong:  # the first object has a colour that nobody said
        first = replace(first, colour=next(c for c in COLOURS if c not in {group.colour for group in groups}))
    scene = scene_of(caption_of(replace(plain, groups=(first, groups[1]))), seed)
    own, other = (thing.mask for shape in groups for thing in read(scene.image).things if thing.shape == shape.shape)
    maps: dict[str, Maps] = {}
    for group, mine, theirs in zip(groups, (own, other), (other, own), strict=True):
        maps[group.colour] = np.zeros((SIZE, SIZE), np.float32)
        if leak is not None:
            maps[group.colour][mine], maps[group.colour][theirs] = 1 - leak, leak
    return by_word(caption, maps, rest=EVERYWHERE, seed=seed, image=scene.image)


def prompts(count: int, *, detailed: bool = True) -> list[str]:
    return two_object_captions(count, 0, detailed=detailed)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("leak", [0.0, 0.25, 1.0])
def test_the_leak_is_the_share_on_the_other_object(leak: float) -> None:
    found = found_of([leaking(caption, seed, leak) for seed, caption in enumerate(prompts(3))])
    assert [item["leak"] for item in found.items] == pytest.approx([leak] * 6)
    assert [item["word"] for item in found.items] == [g.colour for one in prompts(3) for g in parsed(one).groups]
    assert not any(item["wrong colour"] for item in found.items)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.filterwarnings("ignore:one prompt gives no interval")
def test_maps_that_are_nowhere_or_below_zero_leak_by_half() -> None:
    (caption,) = prompts(1)
    assert [item["leak"] for item in found_of([leaking(caption, 0, None)]).items] == [0.5, 0.5]
    below = leaking(caption, 0, 0.3)
    below = replace(below, maps=-below.maps)
    assert [item["leak"] for item in found_of([below]).items] == [0.5, 0.5]


@pytest.mark.usefixtures("undrawn")
def test_leaks_where_the_colour_is_wrong_make_the_finding_hold() -> None:
    given = [leaking(one, seed, float(seed < 5), wrong=seed < 5) for seed, one in enumerate(prompts(10))]
    found = found_of(given)
    wrong = [item for item in found.items if item["wrong colour"]]
    assert len(wrong) == 5
    assert [item["leak"] for item in wrong] == [1] * 5
    assert {item["colour drawn"] for item in wrong}.isdisjoint({item["word"] for item in wrong})
    assert found.verdict == "replicated"
    # of the fifteen right ones, five are in the images that leak
    assert found.sentence.startswith(
        "In 10 of 10 images the two objects are seen and nothing else. There 0 of 0 objects of plain prompts have the "
        "wrong colour, 5 of 20 of detailed ones. Among the latter the colour word's map lies 0.667 ["
    )
    assert "with an AUC of 0.833 [" in found.sentence
    assert [row["prompts"] for row in found.rows] == ["detailed, right colour", "detailed, wrong colour"]
    assert [row["words"] for row in found.rows] == [15, 5]
    back = [leaking(one, seed, float(seed >= 5), wrong=seed < 5) for seed, one in enumerate(prompts(10))]
    assert found_of(back).verdict == "not replicated"
    few = [leaking(one, seed, float(seed < 4), wrong=seed < 4) for seed, one in enumerate(prompts(10))]
    assert found_of(few).verdict == "inconclusive"


@pytest.mark.usefixtures("undrawn")
def test_plain_prompts_are_no_part_of_the_comparison() -> None:
    plain = [leaking(one, seed, 1.0, wrong=True) for seed, one in enumerate(prompts(3, detailed=False))]
    given = [*plain, *(leaking(one, seed, 0.0) for seed, one in enumerate(prompts(3)))]
    found = found_of(given)
    assert found.verdict == "inconclusive"
    assert found.sentence == (
        "In 6 of 6 images the two objects are seen and nothing else. There 3 of 6 objects of plain prompts have the "
        "wrong colour, 0 of 6 of detailed ones. So nothing can be said of leakage as a cause."
    )
    assert [row["prompts"] for row in found.rows] == [
        "plain, right colour", "plain, wrong colour", "detailed, right colour",
    ]  # fmt: skip


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("all_wrong", [False, True])
def test_colours_that_are_all_right_or_one_wrong_say_nothing(all_wrong: bool) -> None:
    given = [leaking(one, seed, float(seed < 1), wrong=seed < 1 and all_wrong) for seed, one in enumerate(prompts(3))]
    found = found_of(given)
    assert found.verdict == "inconclusive"
    assert ("1 of 6 of detailed" if all_wrong else "0 of 6 of detailed") in found.sentence


def test_a_piece_of_an_object_is_not_taken_for_an_object_of_the_wrong_colour() -> None:
    captions = prompts(3)
    given = [leaking(one, seed, 1.0, wrong=seed < 2) for seed, one in enumerate(captions)]
    pieces = []
    for one in given[:2]:
        image = one.image.copy()
        image[4:18, 4:18] = 0  # a black square, which nobody asked for
        assert len(read(image).things) == 3
        pieces.append(replace(one, image=image))
    found = found_of([*pieces, given[2]])
    assert {item["prompt"] for item in found.items} == {captions[2]}
    assert found.about["clear_images"] == 1
    assert "0 of 2 of detailed ones" in found.sentence


def test_images_in_which_no_object_is_found_say_nothing() -> None:
    found = found_of([blank(caption, seed) for seed, caption in enumerate(prompts(3))])
    assert found.verdict == "inconclusive"
    assert found.sentence.startswith("In 0 of 3 images the two objects are seen and nothing else. There 0 of 0 objects")
    assert list(found.rows) == list(found.items) == []
    assert found.figure is not None
    assert found.figure.width > 100
    json.loads(found.to_json())


def test_prompts_from_beginning_to_end(scenes: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("colour_leakage", scenes, out=tmp_path / "run", prompts=1, common={"steps": 2})
    found, items = Finding.from_json(done.finding), done.items
    assert (found.verdict, done.counts.ok) == ("inconclusive", 3)
    assert items["seed"].drop_duplicates().tolist() == [0, 1]
    if "leak" in items:
        assert items["leak"].dropna().between(0, 1).all()
    assert found.about.items() >= {"prompts": 3, "model": "studio/scenes", "steps": 2, "method": "daam"}.items()
    with Image.open(tmp_path / "run" / "figure.png") as figure:
        assert figure.width > 300
    monkeypatch.setattr(word_maps, "explain", lambda *given, **more: pytest.fail("an image was made"))
    again = run("colour_leakage", scenes, out=tmp_path / "run", prompts=1, common={"steps": 2})
    assert (again.finding, again.items.equals(items)) == (done.finding, True)
