"""Garments: the same again, masks that enclose, a correspondence that is exact, and a reader that reads it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from sfumato.errors import ModelError, OptionError
from sfumato.studio.garments import (
    COLOURS,
    LOGOS,
    MARGIN,
    PATTERNS,
    SHAPES,
    SIZE,
    SPAN,
    Placing,
    pair,
    reference,
    variants,
    worn_as,
)
from sfumato.studio.garments_reader import measured_garment, read_garment

SEEDS = range(12)


def test_a_seed_gives_the_same_pair_bit_for_bit() -> None:
    one, again, other = pair(3), pair(3), pair(4)
    for name in ("reference", "reference_mask", "scene", "mask", "target", "worn", "source"):
        np.testing.assert_array_equal(getattr(one, name), getattr(again, name))
    assert (one.reference != other.reference).any()
    assert one.reference.shape == one.scene.shape == one.target.shape == (SIZE, SIZE, 3)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_mask_encloses_the_garment_and_nothing_else_changes(seed: int) -> None:
    one = pair(seed)
    assert (one.worn <= one.mask).all()
    assert 0.1 < one.mask.mean() < 0.6
    np.testing.assert_array_equal(one.target[~one.mask], one.scene[~one.mask])
    grown = ndimage.binary_dilation(one.worn, iterations=2 * MARGIN, structure=np.ones((3, 3)))
    assert (one.mask <= grown).all()
    np.testing.assert_array_equal(np.isnan(one.source[..., 0]), ~one.worn)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_pixel_shows_the_place_that_it_is_said_to_come_from(seed: int) -> None:
    one = pair(seed)
    places = np.nan_to_num(one.source)
    assert places.min() >= 0
    assert places.max() < SIZE
    fetched = one.reference[places[..., 0].astype(int), places[..., 1].astype(int)].astype(float)
    inner = ndimage.binary_erosion(one.worn, iterations=2)
    apart = np.abs(fetched - one.target).mean(-1)[inner]
    # apart from the edges of patterns, where averages differ, colours are the same
    assert np.median(apart) < 1
    assert apart.mean() < 8
    elsewhere = np.abs(np.roll(fetched, 9, axis=1) - one.target).mean(-1)[inner]
    assert elsewhere.mean() > 2 * apart.mean()


def test_a_placing_and_its_inverse_agree() -> None:
    placing = Placing(x=30.0, y=35.0, across=0.8, down=0.9, turn=0.3, bend=2.0)
    for u, v in ((0.0, 0.0), (10.0, -12.0), (-8.0, 20.0)):
        x, y = placing.target(u, v)
        np.testing.assert_allclose(placing.source(np.array(y), np.array(x)), (v + SPAN / 2, u + SPAN / 2), atol=1e-9)
    straight = Placing(x=32.0, y=32.0, across=1.0, down=1.0, turn=0.0, bend=0.0)
    np.testing.assert_allclose(straight.source(np.array(10.0), np.array(20.0)), (10, 20))


def test_garments_differ_in_one_thing_alone() -> None:
    one = pair(5)
    found = variants(one.garment)
    assert {name: set(kinds) for name, kinds in found.items()} == {
        "pattern": set(PATTERNS), "base": set(COLOURS), "logo": set(LOGOS)
    }  # fmt: skip
    assert one.garment.shape in SHAPES
    assert found["pattern"][one.garment.pattern] == one.garment
    assert found["base"][one.garment.base] == one.garment
    assert found["logo"][one.garment.logos[0].kind] == one.garment
    np.testing.assert_array_equal(reference(one.garment), one.reference)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_reader_reads_true_targets_also_when_they_are_blurred_and_noisy(seed: int) -> None:
    one = pair(seed)
    wanted = {"pattern": one.garment.pattern, "base": one.garment.base, "logo": one.garment.logos[0].kind}
    assert read_garment(one, one.target) == wanted
    random = np.random.default_rng(seed)
    worn_out = ndimage.gaussian_filter(one.target.astype(float), (1.5, 1.5, 0)) + random.normal(0, 12, one.target.shape)
    assert read_garment(one, worn_out.clip(0, 255).astype(np.uint8)) == wanted


def test_the_reader_sees_another_pattern_colour_or_mark() -> None:
    one = pair(0)
    for thing, value in (("pattern", "dots"), ("base", "teal"), ("logo", "cross")):
        changed = variants(one.garment)[thing][value]
        image = worn_as(changed, one.placing, one.scene)
        assert read_garment(one, image)[thing] == value
        assert measured_garment(one, image)[thing] == float(changed == one.garment)


def test_measures_of_a_perfect_and_of_an_untouched_picture() -> None:
    one = pair(2)
    best = measured_garment(one, one.target)
    assert (best["pattern"], best["base"], best["logo"], best["colour error"]) == (1, 1, 1, 0)
    assert best["psnr inside"] > 100
    bare = measured_garment(one, one.scene)
    assert bare["psnr inside"] < 25
    assert bare["psnr outside"] > 100
    shifted = one.target.astype(int) + np.where(one.mask, 10, 0)[..., None]
    assert measured_garment(one, shifted.clip(0, 255).astype(np.uint8))["psnr inside"] == pytest.approx(28.13, abs=1.5)


def test_what_cannot_be_scored_is_refused() -> None:
    import sfumato
    from sfumato.studio.garments_scoring import score_garments

    with pytest.raises(ModelError, match="reads no reference"):
        score_garments(sfumato.load("studio/scenes"), 1)
    with pytest.raises(OptionError, match="samples is 0"):
        score_garments(sfumato.load("studio/scenes"), 0)


def test_a_garment_can_be_changed() -> None:
    one = pair(1).garment
    assert (reference(replace(one, base="teal", yoke=None)) != reference(one)).any()
