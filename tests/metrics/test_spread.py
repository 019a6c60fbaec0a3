"""The effective area of a map: known cases, and what it does not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.metrics import effective_area


@pytest.mark.parametrize("pixels", [1, 2, 7, 24])
def test_a_map_that_is_the_same_on_some_pixels_covers_these(pixels: int) -> None:
    heat = np.zeros((4, 6))
    heat.flat[:pixels] = 3.0
    assert effective_area(heat) == pytest.approx(pixels / 24)


@given(st.integers(0, 10**6), st.floats(1e-6, 1e6))
def test_scale_sign_and_order_do_not_count(seed: int, scale: float) -> None:
    generator = np.random.default_rng(seed)
    heat = generator.normal(size=(5, 7))
    area = effective_area(heat)
    assert 1 / 35 <= area <= 1 + 1e-12
    assert effective_area(scale * np.abs(heat)) == pytest.approx(area)
    assert effective_area(generator.permuted(heat)) == pytest.approx(area)
    assert effective_area(np.abs(heat) + 100 * np.abs(heat).max()) > area  # nearer to the same everywhere


def test_a_map_of_zeros_has_none_and_maps_are_measured_one_by_one() -> None:
    heat = np.random.default_rng(0).random((2, 3, 5, 4))
    heat[1, 2] = 0
    found = effective_area(heat)
    assert found.shape == (2, 3)
    assert np.isnan(found[1, 2])
    np.testing.assert_allclose(found[0, 1], effective_area(heat[0, 1]))


@pytest.mark.parametrize("pixels", [1, 5, 20, 52])
def test_the_mean_over_the_pixels_of_a_mask_does_not_grow_with_the_mask(pixels: int) -> None:
    """Every pixel draws from the same neighbourhood of 9: whatever the mask, that is 9 pixels of 400."""
    volume = np.zeros((pixels, 20, 20))
    for number in range(pixels):
        y, x = divmod(number, 13)
        volume[number, y : y + 3, x : x + 3] = -0.1
    assert effective_area(volume).mean() == pytest.approx(9 / 400)
