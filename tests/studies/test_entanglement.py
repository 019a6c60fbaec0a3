"""The study of entanglement: its captions, its sums on drawn images with known maps, then a run to the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sfumato.errors import OptionError
from sfumato.mapped import Mapped
from sfumato.studies.adjectives import adjectives, swapped_captions
from sfumato.studies.cohyponyms import cohyponym_captions, cohyponyms
from sfumato.studies.entanglement import study_entanglement
from sfumato.studies.leakage import leakage, two_object_captions
from sfumato.studio.grammar import caption_of, parsed
from sfumato.studio.reader import read
from sfumato.studio.scenes import COHYPONYMS, COLOURS, SIZE, Scene, scene_of
from tests.studies.made_up import MODEL, Maps, answered, blank, by_word, covering, drawn

MANY = st.integers(1, 20), st.integers(0, 10**6)
LEFT, RIGHT = covering(0.5, SIZE).T.copy(), 1 - covering(0.5, SIZE).T
EVERYWHERE = np.ones((SIZE, SIZE), np.float32)


# Captions.


@given(*MANY)
@settings(max_examples=30)
def test_cohyponym_captions_differ_in_the_second_noun_alone(pairs: int, seed: int) -> None:
    captions = cohyponym_captions(pairs, seed)
    kind_of = {shape: kind for kind, shapes in COHYPONYMS.items() for shape in shapes}
    assert len(captions) == 2 * pairs
    for similar, unrelated in zip(captions[::2], captions[1::2], strict=True):
        one, other = parsed(similar), parsed(unrelated)
        assert one.groups[0] == other.groups[0]
        assert replace(one.groups[1], shape="star") == replace(other.groups[1], shape="star")
        assert one.relation == other.relation == "and"
        assert one.groups[1].shape != one.groups[0].shape
        assert one.groups[1].colour != one.groups[0].colour
        assert kind_of[one.groups[1].shape] == kind_of[one.groups[0].shape]
        assert kind_of[other.groups[1].shape] != kind_of[other.groups[0].shape]
        words = [set(enumerate(caption.split())) for caption in (similar, unrelated)]
        assert len(words[0] - words[1]) == len(words[1] - words[0]) == 1
    assert cohyponym_captions(pairs, seed) == captions
    assert cohyponym_captions(pairs + 3, seed)[: 2 * pairs] == captions


@given(*MANY)
@settings(max_examples=30)
def test_swapped_captions_differ_in_the_first_colour_alone(pairs: int, seed: int) -> None:
    captions = swapped_captions(pairs, seed)
    assert len(captions) == 2 * pairs
    for caption, swapped in zip(captions[::2], captions[1::2], strict=True):
        one, other = parsed(caption), parsed(swapped)
        assert one.groups[1] == other.groups[1]
        assert one.groups[0].shape == other.groups[0].shape != one.groups[1].shape
        assert len({one.groups[0].colour, other.groups[0].colour, one.groups[1].colour}) == 3
    assert swapped_captions(pairs, seed) == captions


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


@pytest.mark.usefixtures("undrawn")
def test_each_question_has_its_own_prompts_and_pairs_share_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answered(monkeypatch, "entanglement", blank)
    found = study_entanglement(MODEL, 3, seed=5)
    assert [one.name for one in found] == ["cohyponyms", "adjectives", "leakage"]
    assert asked == [
        *zip(cohyponym_captions(3, 5), [5, 5, 6, 6, 7, 7], strict=True),
        *zip(swapped_captions(3, 5), [5, 5, 6, 6, 7, 7], strict=True),
        *zip(two_object_captions(3, 5, detailed=False), [5, 6, 7], strict=True),
        *zip(two_object_captions(6, 5, detailed=True), range(5, 11), strict=True),
    ]


@pytest.mark.parametrize("pairs", [0, -1])
def test_no_pairs_are_refused(pairs: int) -> None:
    with pytest.raises(OptionError, match=f"pairs is {pairs}; expected a whole number from 1 to 100000"):
        study_entanglement(MODEL, pairs)


# Cohyponyms.


def related(pairs: int, *, alike: tuple[Maps, Maps], apart: tuple[Maps, Maps], wrong: str = "similar") -> list[Mapped]:
    """Pairs of images with one pair of maps for similar nouns and one for others; either kind shows nothing."""
    found = []
    for place, caption in enumerate(cohyponym_captions(pairs, 0)):
        nouns = [group.shape for group in parsed(caption).groups]
        maps = dict(zip(nouns, apart if place % 2 else alike, strict=True))
        image = scene_of(caption, place // 2).image
        if wrong == ("unrelated" if place % 2 else "similar"):
            image = blank(caption).image
        found.append(by_word(caption, maps, rest=EVERYWHERE, seed=place // 2, image=image))
    return found


@pytest.mark.usefixtures("undrawn")
def test_similar_nouns_that_share_their_maps_and_go_wrong_make_the_finding_hold() -> None:
    found = cohyponyms(MODEL, related(5, alike=(LEFT, LEFT), apart=(LEFT, RIGHT)), "daam")
    assert found.verdict == "replicated"
    assert found.sentence == (
        "With a cohyponym instead of an unrelated noun the maps' IoU is 1.000 [1.000, 1.000] (n=5) higher, and both "
        "objects are right -1.000 [-1.000, -1.000] (n=5) more often."
    )
    shared, ranked, right = found.rows
    assert (shared["cohyponyms"], shared["unrelated"]) == ((1, 1, 1, 5), (0, 0, 0, 5))
    assert str(ranked["cohyponyms more"]) == "2.000 [2.000, 2.000] (n=5)"
    assert right["measure"] == "both objects right"
    assert [item["nouns"] for item in found.items] == ["cohyponyms", "unrelated"] * 5


@pytest.mark.usefixtures("undrawn")
def test_cohyponyms_need_shared_maps_and_wrong_images_both() -> None:
    half = LEFT + 0.5 * RIGHT
    assert cohyponyms(MODEL, related(5, alike=(LEFT, RIGHT), apart=(LEFT, LEFT)), "daam").verdict == "not replicated"
    assert cohyponyms(MODEL, related(5, alike=(half, half), apart=(half, half)), "daam").verdict == "inconclusive"
    right = cohyponyms(MODEL, related(5, alike=(LEFT, LEFT), apart=(LEFT, RIGHT), wrong="none"), "daam")
    assert right.verdict == "inconclusive"
    back = cohyponyms(MODEL, related(5, alike=(LEFT, LEFT), apart=(LEFT, RIGHT), wrong="unrelated"), "daam")
    assert back.verdict == "not replicated"
    assert cohyponyms(MODEL, related(4, alike=(LEFT, LEFT), apart=(LEFT, RIGHT)), "daam").verdict == "inconclusive"


# Adjectives.


def swaps(pairs: int, change: Callable[[Scene, str], NDArray[np.uint8]]) -> list[Mapped]:
    """Pairs of images, the second of which is what a function makes of the first scene and the other colour."""
    captions = swapped_captions(pairs, 0)
    found = []
    for seed, (caption, swapped) in enumerate(zip(captions[::2], captions[1::2], strict=True)):
        scene = scene_of(caption, seed)
        image = change(scene, parsed(swapped).groups[0].colour)
        found += [
            drawn(caption, seed, scene),
            by_word(swapped, {}, rest=EVERYWHERE, seed=seed, image=image),
        ]
    return found


def recoloured(scene: Scene, colour: str) -> NDArray[np.uint8]:
    image = scene.image.copy()
    image[scene.thing_masks[0]] = COLOURS[colour]
    return image


def with_another_half(scene: Scene, colour: str) -> NDArray[np.uint8]:
    """The upper half of the background is a little brighter or darker."""
    image = recoloured(scene, colour)
    above = ~scene.thing_masks.any(0) & (np.arange(SIZE) < SIZE // 2)[:, None]
    image[above] = np.where(image[above] > 128, image[above] - 20, image[above] + 20)
    return image


def without_the_other(scene: Scene, colour: str) -> NDArray[np.uint8]:
    (grey,) = {tuple(pixel) for pixel in scene.image[[0, -1], [0, -1]]}
    image = recoloured(scene, colour)
    image[scene.thing_masks[1]] = grey
    return image


def shares(found: Any) -> dict[str, float]:
    return {row["measure"]: row["mean"].mean for row in found.rows}


@pytest.mark.usefixtures("undrawn")
def test_a_swap_that_changes_the_noun_alone_changes_nothing_outside() -> None:
    found = adjectives(MODEL, swaps(5, recoloured))
    measured = shares(found)
    assert measured["changed outside"] == measured["share of the change outside"] == 0
    assert 0.5 < measured["changed inside"] <= 1
    assert measured["other object stays"] == measured["background stays"] == 1
    assert found.about["images_without_the_object"] == 0
    assert found.verdict == "not replicated"
    for item in found.items:
        one, other = item["prompt"], item["swapped to"]
        assert other in COLOURS
        assert other not in one


@pytest.mark.usefixtures("undrawn")
def test_a_swap_that_changes_the_surroundings_makes_the_finding_hold() -> None:
    found = adjectives(MODEL, swaps(5, with_another_half))
    for item in found.items:
        assert 0.3 < item["changed outside"] <= 0.5 / item["share of the image outside"] + 1e-4
        assert 0 < item["share of the change outside"] < 1
    assert found.verdict == "replicated"
    assert adjectives(MODEL, swaps(4, with_another_half)).verdict == "inconclusive"


@pytest.mark.usefixtures("undrawn")
def test_an_object_that_goes_away_does_not_stay() -> None:
    measured = shares(adjectives(MODEL, swaps(3, without_the_other)))
    assert measured["other object stays"] == 0
    assert measured["background stays"] == 1
    assert measured["changed outside"] > 0


@pytest.mark.usefixtures("undrawn")
def test_equal_images_have_no_change() -> None:
    found = adjectives(MODEL, swaps(2, lambda scene, colour: scene.image))
    measured = shares(found)
    assert measured["changed outside"] == measured["changed inside"] == measured["share of the change outside"] == 0


def test_images_without_the_object_say_nothing() -> None:
    found = adjectives(MODEL, swaps(2, lambda scene, colour: blank("a red circle").image))
    assert found.verdict == "inconclusive"
    assert found.about["images_without_the_object"] == 2
    assert found.sentence == (
        "No pair shows the object whose colour was exchanged in both images, so nothing can be said."
    )
    assert {item["changed outside"] for item in found.items} == {""}
    assert found.figure.width > 100
    json.loads(found.to_json())


@pytest.mark.usefixtures("undrawn")
def test_an_object_that_fills_the_image_has_no_outside() -> None:
    captions = ["a red square and a white star", "a blue square and a white star"]
    found = adjectives(
        MODEL,
        [
            by_word(caption, {}, rest=EVERYWHERE, image=np.full((SIZE, SIZE, 3), COLOURS[colour], np.uint8))
            for caption, colour in zip(captions * 2, ["red", "blue"] * 2, strict=True)
        ],
    )
    assert shares(found)["share of the image outside"] == 0
    assert shares(found)["changed inside"] == 1
    assert np.isnan(shares(found)["changed outside"])
    assert found.verdict == "inconclusive"


# Leakage.


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
    found = leakage(MODEL, [leaking(caption, seed, leak) for seed, caption in enumerate(prompts(3))], "daam")
    assert [item["leak"] for item in found.items] == pytest.approx([leak] * 6)
    assert [item["word"] for item in found.items] == [g.colour for one in prompts(3) for g in parsed(one).groups]
    assert not any(item["wrong colour"] for item in found.items)


@pytest.mark.usefixtures("undrawn")
def test_maps_that_are_nowhere_or_below_zero_leak_by_half() -> None:
    (caption,) = prompts(1)
    assert [item["leak"] for item in leakage(MODEL, [leaking(caption, 0, None)], "daam").items] == [0.5, 0.5]
    below = leaking(caption, 0, 0.3)
    below = replace(below, maps=-below.maps)
    assert [item["leak"] for item in leakage(MODEL, [below], "daam").items] == [0.5, 0.5]


@pytest.mark.usefixtures("undrawn")
def test_leaks_where_the_colour_is_wrong_make_the_finding_hold() -> None:
    given = [leaking(one, seed, float(seed < 5), wrong=seed < 5) for seed, one in enumerate(prompts(10))]
    found = leakage(MODEL, given, "daam")
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
    assert leakage(MODEL, back, "daam").verdict == "not replicated"
    few = [leaking(one, seed, float(seed < 4), wrong=seed < 4) for seed, one in enumerate(prompts(10))]
    assert leakage(MODEL, few, "daam").verdict == "inconclusive"


@pytest.mark.usefixtures("undrawn")
def test_plain_prompts_are_no_part_of_the_comparison() -> None:
    plain = [leaking(one, seed, 1.0, wrong=True) for seed, one in enumerate(prompts(3, detailed=False))]
    given = [*plain, *(leaking(one, seed, 0.0) for seed, one in enumerate(prompts(3)))]
    found = leakage(MODEL, given, "daam")
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
    found = leakage(MODEL, given, "daam")
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
    found = leakage(MODEL, [*pieces, given[2]], "daam")
    assert {item["prompt"] for item in found.items} == {captions[2]}
    assert found.about["clear_images"] == 1
    assert "0 of 2 of detailed ones" in found.sentence


def test_images_in_which_no_object_is_found_say_nothing() -> None:
    found = leakage(MODEL, [blank(caption, seed) for seed, caption in enumerate(prompts(3))], "daam")
    assert found.verdict == "inconclusive"
    assert found.sentence.startswith("In 0 of 3 images the two objects are seen and nothing else. There 0 of 0 objects")
    assert list(found.rows) == list(found.items) == []
    assert found.figure.width > 100
    json.loads(found.to_json())


# From beginning to end.


def test_one_pair_from_beginning_to_end(scenes: Any, nothing_is_made: Any) -> None:
    found = study_entanglement(scenes, 1, steps=2)
    pairs, swapped, leaks = found
    assert [one.name for one in found] == ["cohyponyms", "adjectives", "leakage"]
    assert {one.verdict for one in found} == {"inconclusive"}  # one pair has no interval
    assert [one.about["prompts"] for one in found] == [2, 2, 3]
    assert all(one.about["model"] == "studio/scenes" and one.about["steps"] == 2 for one in found)
    assert [item["prompt"] for item in pairs.items] == cohyponym_captions(1, 0)
    assert all(0 <= item["IoU of the nouns' maps"] <= 1 for item in pairs.items)
    assert len(pairs.rows) == 3
    assert [item["prompt"] for item in swapped.items] == swapped_captions(1, 0)[:1]
    assert len(swapped.rows) == 6
    assert all(0 <= item["leak"] <= 1 for item in leaks.items)
    for one in found:
        assert one.figure.width > 300
        json.loads(one.to_json())
    nothing_is_made()
    again = study_entanglement(scenes, 1, steps=2)
    assert [(one.to_json(), list(one.items)) for one in again] == [(one.to_json(), list(one.items)) for one in found]
