"""The reader finds in a picture what was drawn, also when the picture is blurred and noisy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from sfumato.errors import OptionError, RequestError
from sfumato.studio import scenes
from sfumato.studio.reader import Reading, SeenThing, holds, masks_of_words, matches, read
from sfumato.studio.shapes import paint

SCENES = [scenes.scene(seed) for seed in range(100_000, 100_050)]


def soiled(image: np.ndarray, blur: float, noise: float, seed: int) -> np.ndarray:
    """The image blurred and with noise, as a small autoencoder might return it."""
    rng = np.random.default_rng(seed)
    soft = ndimage.gaussian_filter(image.astype(float), (blur, blur, 0)) + rng.normal(0, noise, image.shape)
    return np.clip(soft, 0, 255).round().astype(np.uint8)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union."""
    return float((first & second).sum() / (first | second).sum())


def seen(shape: str, colour: str, x: float, y: float, radius: float = 10) -> SeenThing:
    """An object as the reader would report it, drawn perfectly."""
    mask = paint([(shape, colour, None, x, y, radius)], "gray")[1][0]
    return SeenThing(shape, colour, None, x, y, radius, int(mask.sum()), mask, 1.0)


SOILS = [(0.0, 0.0, 0.99), (1.2, 6.0, 0.95), (1.8, 4.0, 0.95)]


@pytest.mark.parametrize(("blur", "noise", "least"), SOILS)
def test_scenes_are_read_as_they_were_drawn(blur: float, noise: float, least: float) -> None:
    check_reading(SCENES, blur, noise, least)


@pytest.mark.slow
@pytest.mark.parametrize(("blur", "noise", "least"), SOILS)
def test_many_scenes_are_read_as_they_were_drawn(blur: float, noise: float, least: float) -> None:
    check_reading([scenes.scene(seed) for seed in range(200_000, 200_300)], blur, noise, least)


def check_reading(drawn: list[scenes.Scene], blur: float, noise: float, least: float) -> None:
    """Read soiled scenes and hold what was read against what was drawn."""
    right, overlaps, relations, counts, textures, backgrounds, extra = [], [], [], [], [], [], 0
    for seed, scene in enumerate(drawn):
        reading = read(soiled(scene.image, blur, noise, seed))
        score = matches(reading, scenes.expected(scene.caption))
        right += score.objects
        relations += [score.relation] if score.relation is not None else []
        counts += [score.count] if score.count is not None else []
        extra += score.extra
        backgrounds.append(reading.background == scene.background)
        for thing, mask in zip(scene.things, scene.thing_masks, strict=True):
            best = max(reading.things, key=lambda found: overlap(found.mask, mask))
            overlaps.append(overlap(best.mask, mask))
            textures.append(best.texture == thing.texture)
    assert np.mean(right) >= least
    assert np.mean(overlaps) >= 0.9
    assert np.mean(relations) >= least
    assert np.mean(counts) >= least
    assert np.mean(textures) >= least
    assert np.mean(backgrounds) == 1.0
    assert extra <= 0.02 * len(drawn)


@pytest.mark.parametrize("shape", scenes.SHAPES)
@pytest.mark.parametrize("texture", [None, *scenes.TEXTURES])
def test_one_object_is_measured(shape: str, texture: str | None) -> None:
    image, masks = paint([(shape, "blue", texture, 50.0, 70.0, 24.0)], "brown")
    (thing,) = read(image).things
    assert (thing.shape, thing.colour, thing.texture) == (shape, "blue", texture)
    assert (thing.x, thing.y) == pytest.approx((50, 70), abs=1.5)
    assert thing.radius == pytest.approx(24, abs=1.5)
    assert thing.area == thing.mask.sum() == pytest.approx(masks[0].sum(), rel=0.06)
    assert 0.9 < thing.confidence <= 1


@pytest.mark.parametrize("background", scenes.BACKGROUNDS)
@pytest.mark.parametrize("colour", scenes.COLOURS)
def test_every_colour_is_told_from_every_background(colour: str, background: str) -> None:
    image, masks = paint([("star", colour, None, 64.0, 60.0, 20.0)], background)
    reading = read(soiled(image, 1.2, 6, 0))
    assert reading.background == background
    assert [(thing.shape, thing.colour) for thing in reading.things] == [("star", colour)]
    assert overlap(reading.things[0].mask, masks[0]) > 0.85


@pytest.mark.parametrize("outer", ["circle", "square", "ring", "heart"])
@pytest.mark.parametrize("inner", ["circle", "ring", "cross"])
def test_an_object_inside_another_hides_neither(inner: str, outer: str) -> None:
    scene = scenes.scene_of(f"a red {inner} inside a blue {outer}", seed=4)
    reading = read(scene.image)
    assert {(thing.shape, thing.colour) for thing in reading.things} == {(inner, "red"), (outer, "blue")}
    assert matches(reading, scenes.expected(scene.caption)).relation is True
    assert matches(reading, scenes.expected(f"a blue {outer} inside a red circle")).relation is False


def test_an_empty_background_and_odd_images_are_read() -> None:
    plain = np.full((128, 128, 3), scenes.BACKGROUNDS["pink"], np.uint8)
    assert read(plain) == Reading("pink", ())
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    assert all(thing.area >= 60 for thing in read(noise).things)
    assert [thing.colour for thing in read(np.zeros((128, 128, 3), np.uint8)).things] == ["black"]


def test_specks_are_dropped() -> None:
    image = np.full((128, 128, 3), scenes.BACKGROUNDS["gray"], np.uint8)
    image[20:26, 20:26] = scenes.COLOURS["red"]
    assert read(image).things == ()


@pytest.mark.parametrize(
    "image", [np.zeros((64, 64, 3), np.uint8), np.zeros((128, 128, 3)), np.zeros((128, 128), np.uint8)]
)
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(OptionError, match=r"needs a uint8 array of shape \(128, 128, 3\)"):
        read(image)


def test_relations_between_seen_things() -> None:
    west, east = seen("circle", "red", 30, 60), seen("square", "blue", 90, 70)
    truth = {"left of": True, "right of": False, "above": False, "below": False, "inside": False, "touching": False}
    assert {relation: holds(relation, west, east) for relation in scenes.RELATIONS} == truth
    assert holds("right of", east, west)
    assert holds("below", seen("star", "red", 60, 90), seen("star", "blue", 65, 40))
    assert not holds("above", seen("star", "red", 60, 60), seen("star", "blue", 110, 70))
    assert holds("touching", west, seen("circle", "blue", 51, 60))
    assert holds("inside", seen("star", "red", 60, 60, 8), seen("ring", "blue", 60, 60, 40))


def test_scores_say_what_is_wrong() -> None:
    west, east = seen("circle", "red", 30, 60), seen("square", "blue", 90, 60)
    promise = scenes.expected("a red circle left of a green square, teal background")
    score = matches(Reading("gray", (west, east)), promise)
    assert (score.objects, score.relation, score.count, score.background, score.extra) == (
        [True, False],
        True,
        None,
        False,
        0,
    )
    assert matches(Reading("teal", (west,)), promise).relation is False
    nothing = matches(Reading("teal", ()), promise)
    assert (nothing.objects, nothing.relation, nothing.background) == ([False, False], False, True)
    three = scenes.expected("three red circles")
    lone = matches(Reading("gray", (west, east)), three)
    assert (lone.objects, lone.count, lone.relation) == ([True, False, False], False, None)
    assert lone.extra == 1
    assert matches(Reading("gray", (west, west, west)), three).count is True


def test_one_seen_object_keeps_one_promise_only() -> None:
    west, east = seen("circle", "red", 30, 60), seen("circle", "blue", 90, 60)
    promise = scenes.expected("a blue circle and a red circle")
    assert matches(Reading("gray", (west, east)), promise).objects == [True, True]
    assert matches(Reading("gray", (west,)), promise).objects == [False, True]


def test_words_get_the_masks_of_what_is_seen() -> None:
    circle, square = seen("circle", "red", 30, 60), seen("square", "blue", 90, 60)
    words, masks, present = masks_of_words(
        "a blue square left of a green star, gray background", Reading("pink", (circle, square))
    )
    by_word = dict(zip(words, zip(masks, present, strict=True), strict=True))
    assert words == ("a", "blue", "square", "left", "of", "a", "green", "star", ",", "gray", "background")
    for word in ("blue", "square"):
        np.testing.assert_array_equal(by_word[word][0], square.mask)
        assert by_word[word][1]
    for word in ("left", "of", "green", "star", ",", "gray"):
        assert not by_word[word][1]
        assert not by_word[word][0].any()
    np.testing.assert_array_equal(by_word["background"][0], ~(circle.mask | square.mask))
    with pytest.raises(RequestError, match="not a caption"):
        masks_of_words("a photo of a dog", Reading("pink", ()))


def test_words_of_a_perfect_image_get_the_masks_of_the_scene() -> None:
    for scene in SCENES[:30]:
        words, masks, present = masks_of_words(scene.caption, read(scene.image))
        assert words == scene.words
        np.testing.assert_array_equal(present, scene.masks.any(axis=(1, 2)))
        for mask, truth in zip(masks[present], scene.masks[present], strict=True):
            assert overlap(mask, truth) > 0.85


def test_a_repeated_object_belongs_to_its_noun_phrase() -> None:
    first, second, other = seen("star", "red", 30, 30), seen("star", "red", 90, 30), seen("ring", "red", 60, 90)
    words, masks, present = masks_of_words("a red star", Reading("gray", (first, second, other)))
    assert words[2] == "star"
    assert present.all()
    np.testing.assert_array_equal(masks[2], first.mask | second.mask)
