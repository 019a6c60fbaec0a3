"""Scenes are what their captions say, and their masks are the pixels they claim to be."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from sfumato.errors import OptionError, RequestError
from sfumato.studio import scenes
from sfumato.studio.grammar import OUTER_SHAPES
from sfumato.studio.shapes import SECOND_TONES

SCENES = [scenes.scene(seed) for seed in range(160)]


def word_mask(scene: scenes.Scene, word: str) -> np.ndarray:
    """The mask of a word that occurs once."""
    (place,) = [index for index, text in enumerate(scene.words) if text == word]
    return scene.masks[place]


def test_the_vocabulary_is_as_documented() -> None:
    assert sorted(noun for group in scenes.COHYPONYMS.values() for noun in group) == sorted(scenes.SHAPES)
    colours = np.array([*scenes.COLOURS.values(), *SECOND_TONES.values(), *scenes.BACKGROUNDS.values()], float)
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 1e9 * np.eye(len(colours))
    assert apart.min() > 45


def test_a_seed_fixes_the_scene() -> None:
    for seed in (0, 7, 2**63):
        first, again = scenes.scene(seed), scenes.scene(seed)
        np.testing.assert_array_equal(first.image, again.image)
        np.testing.assert_array_equal(first.masks, again.masks)
        assert (first.caption, first.things, first.background) == (again.caption, again.things, again.background)
        assert scenes.caption_of(scenes.scene_plan(seed)) == first.caption
    assert len({scene.caption for scene in SCENES}) > 120


def test_shapes_and_types() -> None:
    for scene in SCENES[:50]:
        assert scene.image.shape == (scenes.SIZE, scenes.SIZE, 3)
        assert scene.image.dtype == np.uint8
        assert scene.masks.shape == (len(scene.words), scenes.SIZE, scenes.SIZE)
        assert scene.thing_masks.shape == (len(scene.things), scenes.SIZE, scenes.SIZE)
        assert scene.masks.dtype == scene.thing_masks.dtype == np.bool_
        assert scene.words == tuple(re.findall(r"\w+|[^\w\s]", scene.caption))


def test_masks_of_things_hold_their_own_colour() -> None:
    for scene in SCENES:
        assert scene.thing_masks.sum(axis=0).max() == 1
        palette = [scenes.BACKGROUNDS[scene.background]]
        for thing, mask in zip(scene.things, scene.thing_masks, strict=True):
            pixels = scene.image[mask].astype(int)
            own = np.array([scenes.COLOURS[thing.colour], SECOND_TONES[thing.colour]])
            exact = (np.abs(pixels[:, None] - own[None]).max(axis=-1) <= 1).any(axis=1)
            assert exact.mean() > 0.5
            palette.append(scenes.COLOURS[thing.colour])
        free = scene.image[~scene.thing_masks.any(axis=0)].astype(int)
        assert (np.abs(free - palette[0]).max(axis=-1) <= 1).mean() > 0.95


def test_a_plain_scene_is_split_at_half_coverage() -> None:
    scene = scenes.scene_of("a large white circle, gray background", seed=3)
    np.testing.assert_array_equal(scene.thing_masks[0], scene.image[..., 0] > (128 + 245) / 2)
    thing = scene.things[0]
    assert scene.thing_masks[0].sum() == pytest.approx(np.pi * thing.radius**2, rel=0.02)
    rows, columns = np.nonzero(scene.thing_masks[0])
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((thing.x, thing.y), abs=0.6)


def test_words_get_the_pixels_of_what_they_speak_of() -> None:
    scene = scenes.scene_of("a red circle left of an orange star on the gray background", seed=11)
    circle, star = scene.thing_masks
    free = ~(circle | star)
    expected = [circle, circle, circle, circle | star, circle | star, star, star, star]
    for mask, truth in zip(scene.masks, [*expected, np.ones_like(free), free, free, free], strict=True):
        np.testing.assert_array_equal(mask, truth)

    three = scenes.scene_of("three blue stars, pink background", seed=2)
    for word in ("three", "blue", "stars"):
        np.testing.assert_array_equal(word_mask(three, word), three.thing_masks.any(axis=0))
    np.testing.assert_array_equal(word_mask(three, "pink"), ~three.thing_masks.any(axis=0))
    assert not word_mask(three, ",").any()


def test_textures_show_both_tones() -> None:
    for texture, low, high in (("striped", 0.35, 0.65), ("dotted", 0.2, 0.5)):
        for colour in scenes.COLOURS:
            article = "an" if texture[0] in "aeiou" else "a"
            scene = scenes.scene_of(f"{article} large {texture} {colour} square", seed=1)
            pixels = scene.image[scene.thing_masks[0]].astype(float)
            tones = np.array([scenes.COLOURS[colour], SECOND_TONES[colour]], float)
            second = np.linalg.norm(pixels[:, None] - tones[None], axis=-1).argmin(axis=1)
            assert low < second.mean() < high


def test_captions_are_english() -> None:
    for scene in SCENES:
        words = scene.words
        for word, following in pairwise(words):
            if word in ("a", "an"):
                assert (word == "an") == (following[0] in "aeiou")
        many = any(word in scenes.NUMERALS for word in words)
        assert many == any(word in {scenes.plural(noun) for noun in scenes.SHAPES} for word in words)
    assert scenes.caption_of(scenes.ScenePlan((scenes.Group("cross", "red", count=2),))) == "two red crosses"
    assert scenes.caption_of(scenes.ScenePlan((scenes.Group("star", "orange"),))) == "an orange star"


def test_a_caption_says_exactly_what_was_planned() -> None:
    plans = [scenes.scene_plan(seed) for seed in range(3000)]
    for plan in plans:
        assert scenes.parse(scenes.caption_of(plan)) == plan
    assert len({scenes.caption_of(plan) for plan in plans}) == len(set(plans))


def test_expectations_are_the_things_that_are_drawn() -> None:
    for scene in SCENES:
        promise = scenes.expected(scene.caption)
        drawn = [(thing.shape, thing.colour, thing.size, thing.texture) for thing in scene.things]
        assert [tuple(thing) for thing in promise.things] == drawn
        assert promise.relation == scene.relation
        assert promise.background in (None, scene.background)
        assert (promise.count is None) != any(word in scenes.NUMERALS for word in scene.words)
        if promise.count is not None:
            assert promise.count == len(scene.things)


@pytest.mark.parametrize(
    "text",
    [
        "", "red", "a circle", "a red circle a blue square", "a orange star", "an red star", "two red star",
        "a red stars", "two red stars and a blue ring", "a red circle left a blue square", "a blue large star",
        "a red circle, gray", "a red circle gray background", "a red circle on an gray background",
        "a red circle, red background", "a red circle touching two blue stars", "the red circle", "a red circle !",
    ],
)  # fmt: skip
def test_other_texts_are_not_captions(text: str) -> None:
    assert scenes.parse(text) is None
    with pytest.raises(RequestError, match="not a caption of the scenes"):
        scenes.expected(text)


def test_letter_case_and_spacing_do_not_matter() -> None:
    assert scenes.parse("A  Red circle ,gray background") == scenes.parse("a red circle, gray background")


def test_relations_are_true_of_the_pixels() -> None:
    seen: Counter[str] = Counter()
    for seed in range(400):
        if scenes.scene_plan(seed).kind != "relation":
            continue
        scene = scenes.scene(seed)
        relation = scene.relation
        assert relation is not None
        seen[relation] += 1
        (y1, x1), (y2, x2) = (np.argwhere(mask).mean(axis=0) for mask in scene.thing_masks)
        low, high = zip(
            *[(np.argwhere(m).min(axis=0), np.argwhere(m).max(axis=0)) for m in scene.thing_masks], strict=True
        )
        first, second = scene.thing_masks
        near = ndimage.distance_transform_cdt(~second, "chessboard")[first].min()
        if relation == "inside":
            assert (low[0] > low[1]).all()
            assert (high[0] < high[1]).all()
            assert 2 * scene.things[0].radius < 1.2 * scene.things[1].radius
        elif relation == "touching":
            assert near == 1
            assert abs(x1 - x2) > abs(y1 - y2)
        else:
            along, across = {
                "left of": (x2 - x1, y2 - y1), "right of": (x1 - x2, y2 - y1),
                "above": (y2 - y1, x2 - x1), "below": (y1 - y2, x2 - x1),
            }[relation]  # fmt: skip
            assert along > 1.4 * abs(across)
            assert near > 3
    assert set(seen) == set(scenes.RELATIONS)
    assert min(seen.values()) > 8


@pytest.mark.parametrize("outer", OUTER_SHAPES)
def test_every_shape_fits_inside(outer: str) -> None:
    for seed, inner in enumerate(scenes.SHAPES):
        scene = scenes.scene_of(f"a red {inner} inside a blue {outer}", seed)
        within = ndimage.binary_fill_holes(scene.thing_masks[1])
        grown = ndimage.binary_dilation(scene.thing_masks[0], iterations=2)
        assert not (grown & ~within).any()


def test_objects_stay_in_the_picture_and_apart() -> None:
    for scene in SCENES:
        frame = scene.thing_masks.any(axis=0)
        assert not frame[:3].any()
        assert not frame[-3:].any()
        assert not frame[:, :3].any()
        assert not frame[:, -3:].any()
        if scene.relation not in ("inside", "touching"):
            assert ndimage.label(frame, np.ones((3, 3)))[1] == len(scene.things)


def test_two_objects_differ_in_colour() -> None:
    pairs = [plan for plan in map(scenes.scene_plan, range(1000)) if len(plan.groups) == 2]
    assert all(first.colour != second.colour for first, second in (plan.groups for plan in pairs))
    assert any(first.shape == second.shape for first, second in (plan.groups for plan in pairs))


def test_sizes_do_not_overlap() -> None:
    widths: dict[str | None, list[float]] = {"small": [], None: [], "large": []}
    for scene in SCENES:
        if len(scene.things) == 1:
            widths[scene.things[0].size].append(scene.things[0].radius)
    assert max(widths["small"]) < min(widths[None])
    assert max(widths[None]) < min(widths["large"])


def test_kinds_are_as_frequent_as_documented() -> None:
    plans = [scenes.scene_plan(seed) for seed in range(4000)]
    kinds = Counter(plan.kind for plan in plans)
    for kind, share in {"one": 0.33, "count": 0.17, "relation": 0.38, "and": 0.12}.items():
        assert kinds[kind] / len(plans) == pytest.approx(share, abs=0.025)
    assert sum(plan.background is not None for plan in plans) / len(plans) == pytest.approx(0.5, abs=0.025)


def test_training_never_sees_what_is_held_out() -> None:
    trained = {scenes.training_scene(index).caption for index in range(100)}
    kept = scenes.held_out_captions(200)
    assert trained.isdisjoint(kept)
    assert not any(scenes.held_out(caption) for caption in trained)
    assert all(scenes.held_out(caption) for caption in kept)
    drawn = [scenes.held_out(scenes.caption_of(scenes.scene_plan(seed))) for seed in range(4000)]
    assert np.mean(drawn) == pytest.approx(0.04, abs=0.012)


def test_a_training_scene_is_the_first_allowed_of_its_stream() -> None:
    skipped = 0
    for index in range(60):
        seed = 64 * index
        while scenes.held_out(scenes.caption_of(scenes.scene_plan(seed))):
            seed, skipped = seed + 1, skipped + 1
        assert scenes.training_scene(index).caption == scenes.scene(seed).caption
    assert skipped > 0
    with pytest.raises(OptionError, match="numbered from 0; got -1"):
        scenes.training_scene(-1)


def test_the_split_does_not_depend_on_the_background() -> None:
    for seed in range(500):
        plan = scenes.scene_plan(seed)
        bare = scenes.caption_of(replace(plan, background=None, phrase=None))
        named = scenes.caption_of(replace(plan, background="teal", phrase="on a"))
        assert scenes.held_out(bare) == scenes.held_out(named)
    assert scenes.held_out("two red stars")
    assert not scenes.held_out("a red circle left of a blue square")


def test_held_out_captions_are_fixed_and_balanced() -> None:
    kept = scenes.held_out_captions(200)
    assert kept == scenes.held_out_captions(200)
    assert kept[:40] == scenes.held_out_captions(40)
    assert kept != scenes.held_out_captions(200, seed=1)
    assert len(set(kept)) == 200
    plans = [plan for caption in kept if (plan := scenes.parse(caption)) is not None]
    assert Counter(plan.kind for plan in plans) == {"one": 50, "count": 50, "relation": 50, "and": 50}
    relations = Counter(plan.relation for plan in plans if plan.kind == "relation")
    assert set(relations) == set(scenes.RELATIONS)
    assert min(relations.values()) >= 8
    assert Counter(plan.groups[0].count for plan in plans if plan.kind == "count") == {2: 25, 3: 25}
    of_relations = [plan for plan in plans if plan.kind == "relation"]
    assert scenes.held_out_captions(50, kinds=("relation",)) == tuple(map(scenes.caption_of, of_relations))
    with pytest.raises(OptionError, match="no more than 345 held-out captions, and 5000 are asked for"):
        scenes.held_out_captions(5000)
