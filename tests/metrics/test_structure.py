from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from sfumato.errors import OptionError
from sfumato.metrics.structure import frobenius, maximum_channel, normalised_ssim
from sfumato.results.upscale import resized


def drawn(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=shape)


# normalised_ssim


@pytest.mark.parametrize("shape", [(3, 16, 16), (4, 8, 12), (1, 7, 9), (3, 6, 16), (3, 3, 3)])
def test_equal_images_have_a_similarity_of_one(shape: tuple[int, ...]) -> None:
    image = drawn(*shape)
    assert normalised_ssim(image, image.copy()) == pytest.approx(1, abs=1e-12)
    assert normalised_ssim(image, drawn(*shape, seed=1)) < 0.9


@pytest.mark.parametrize(("scale", "other"), [(5.0, 1.0), (1.0, 0.01), (3.0, 255.0)])
def test_the_scale_of_either_image_does_not_count(scale: float, other: float) -> None:
    one, two = drawn(3, 16, 16), drawn(3, 16, 16) + 0.5 * drawn(3, 16, 16, seed=1)
    assert normalised_ssim(scale * one, other * two) == pytest.approx(normalised_ssim(one, two), abs=1e-9)
    assert normalised_ssim(scale * one, other * one) == pytest.approx(1, abs=1e-9)


def test_similarity_is_symmetric() -> None:
    one, two = drawn(3, 16, 20), 7 * drawn(3, 16, 20) + drawn(3, 16, 20, seed=1)
    assert normalised_ssim(one, two) == pytest.approx(normalised_ssim(two, one), abs=1e-12)
    assert 0 < normalised_ssim(one, two) < 1


def test_similarity_falls_with_noise() -> None:
    image, noise = drawn(3, 24, 24), drawn(3, 24, 24, seed=1)
    found = [normalised_ssim(image, image + size * noise) for size in (0, 0.2, 0.5, 1, 4)]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize(("side", "window"), [(16, 7), (7, 7), (6, 5), (5, 5), (4, 3), (3, 3)])
def test_similarity_is_scikit_images_on_images_of_unit_spread(side: int, window: int) -> None:
    one, two = 3 * drawn(2, side, 16) + 1, 0.1 * drawn(2, side, 16, seed=1)
    first, second = one / one.std(), two / two.std()
    spread = max(first.max() - first.min(), second.max() - second.min())
    expected = [
        structural_similarity(a, b, win_size=window, data_range=spread) for a, b in zip(first, second, strict=True)
    ]
    assert normalised_ssim(one, two) == pytest.approx(float(np.mean(expected)), abs=1e-12)


def test_constant_images_can_be_compared() -> None:
    flat = np.zeros((3, 8, 8))
    assert normalised_ssim(flat, flat) == 1
    assert normalised_ssim(np.full((3, 8, 8), 2.0), np.full((3, 8, 8), 3.0)) == 1  # only their scale differs
    assert normalised_ssim(flat, drawn(3, 8, 8)) == pytest.approx(0, abs=0.1)


def test_images_that_cannot_be_compared_are_an_error() -> None:
    with pytest.raises(OptionError, match=r"images of one size; got \(3, 8, 8\) and \(3, 8, 9\)"):
        normalised_ssim(drawn(3, 8, 8), drawn(3, 8, 9))
    with pytest.raises(OptionError, match=r"3 x 3 pixels at least; got \(3, 2, 8\)"):
        normalised_ssim(drawn(3, 2, 8), drawn(3, 2, 8, seed=1))


# distances and channels


def test_the_distance_is_euclidean_over_all_values() -> None:
    assert frobenius([[3.0, 0.0]], [[0.0, 4.0]]) == 5
    assert frobenius(np.zeros((2, 2, 2)), np.ones((2, 2, 2))) == pytest.approx(8**0.5)
    one, two = drawn(4, 5, 6), drawn(4, 5, 6, seed=1)
    assert frobenius(one, two) == pytest.approx(float(np.linalg.norm((one - two).ravel())))
    assert frobenius(one, one) == 0
    pixels = np.array([[0, 255]], np.uint8)  # differences of whole numbers do not wrap around
    assert frobenius(pixels, pixels[:, ::-1]) == pytest.approx(255 * 2**0.5)


def test_a_distance_needs_one_shape() -> None:
    with pytest.raises(OptionError, match=r"arrays of one shape; got \(2, 3\) and \(3,\)"):
        frobenius(np.zeros((2, 3)), np.zeros(3))


def test_the_maximum_channel_has_the_largest_sum() -> None:
    features = np.zeros((3, 4, 4))
    features[0, 0, 0] = 5
    features[1] = 0.5  # sums to 8
    features[2, 3] = 1.5  # sums to 6, all of it in the last row
    assert maximum_channel(features) == 1
    last = np.zeros((4, 4))
    last[3] = 1
    assert maximum_channel(features, last) == 2
    first = np.zeros((4, 4), bool)
    first[0, 0] = True
    assert maximum_channel(features, first) == 0
    assert maximum_channel(-features) == 0  # signed: -5 is the largest
    assert maximum_channel(features, 0.1 * last + 0.9 * first) == 0


# resized


def test_shrinking_takes_means_over_areas() -> None:
    mask = drawn(6, 8) > 0
    expected = mask.reshape(3, 2, 4, 2).mean((1, 3))
    np.testing.assert_allclose(resized(mask, (3, 4)), expected, atol=1e-6)
    assert resized(mask, (1, 1)) == pytest.approx(mask.mean(), abs=1e-6)


def test_growing_is_bilinear() -> None:
    np.testing.assert_allclose(resized([[0.0, 1.0]], (1, 4)), [[0, 0.25, 0.75, 1]], atol=1e-6)
    np.testing.assert_allclose(resized([[0.0], [1.0]], (4, 1)), [[0], [0.25], [0.75], [1]], atol=1e-6)
    np.testing.assert_allclose(resized([[0.0, 1.0]], (2, 4)), [[0, 0.25, 0.75, 1]] * 2, atol=1e-6)


def test_the_same_size_changes_nothing_and_shares_stay_shares() -> None:
    mask = drawn(5, 7) > 0.5
    np.testing.assert_array_equal(resized(mask, (5, 7)), mask.astype(float))
    for shape in ((2, 3), (10, 14), (3, 20)):
        found = resized(mask, shape)
        assert found.shape == shape
        assert found.min() >= 0
        assert found.max() <= 1
        np.testing.assert_allclose(resized(np.ones((5, 7)), shape), np.ones(shape), atol=1e-6)
