from __future__ import annotations

import numpy as np
import pytest

from sfumato.metrics.controls import CONTROLS, control_map


@pytest.mark.parametrize("name", sorted(CONTROLS))
@pytest.mark.parametrize("size", [(32, 32), (24, 40), (1, 1)])
def test_a_control_is_a_usable_map_of_the_size_asked_for(name: str, size: tuple[int, int]) -> None:
    heat = control_map(name, size, seed=0, item=0)
    assert heat.shape == size
    assert np.isfinite(heat).all()
    assert heat.min() >= 0
    assert heat.max() > 0


@pytest.mark.parametrize("name", sorted(CONTROLS))
def test_a_control_depends_on_seed_and_item_alone(name: str) -> None:
    np.testing.assert_array_equal(control_map(name, (16, 16), 3, 4), control_map(name, (16, 16), 3, 4))
    drawn = "random" in name
    for seed, item in ((3, 5), (4, 4)):
        same = np.array_equal(control_map(name, (16, 16), 3, 4), control_map(name, (16, 16), seed, item))
        assert same != drawn


def test_the_centre_is_the_middle_of_any_image() -> None:
    heat = control_map("centre", (33, 65), 0, 0)
    assert np.unravel_index(int(heat.argmax()), heat.shape) == (16, 32)
    np.testing.assert_allclose(heat, heat[::-1, ::-1])
    # a quarter of each side from the middle is one standard deviation
    edge = control_map("centre", (400, 400), 0, 0)
    assert edge[200, 300] == pytest.approx(np.exp(-0.5), rel=0.01)


def test_smooth_random_is_smooth_and_random_is_not() -> None:
    def neighbours(heat: np.ndarray) -> float:
        return float(np.corrcoef(heat[:, 1:].ravel(), heat[:, :-1].ravel())[0, 1])

    assert neighbours(control_map("smooth random", (64, 64), 0, 0)) > 0.95
    assert abs(neighbours(control_map("random", (64, 64), 0, 0))) < 0.1
