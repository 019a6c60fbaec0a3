from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfumato.results.upscale import bicubic, bicubic_matrix

sides = st.integers(1, 40)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("given_size", "wanted"),
    [
        ((16, 16), (128, 128)),
        ((8, 12), (64, 40)),
        ((64, 64), (512, 768)),
        ((33, 20), (10, 7)),
        ((1, 5), (9, 9)),
        ((7, 7), (7, 7)),
    ],
)
def test_equals_torch(given_size: tuple[int, int], wanted: tuple[int, int], dtype: torch.dtype) -> None:
    maps = np.random.default_rng(1).random((3, *given_size))
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(maps).to(dtype)[None], size=wanted, mode="bicubic", align_corners=False
    )[0].numpy()
    ours = bicubic(maps.astype(reference.dtype), wanted)
    assert ours.dtype == reference.dtype
    # In float32 torch rounds the places between cells, so what is left there is its own error, worst on white noise.
    np.testing.assert_allclose(ours, reference, atol=1e-12 if dtype == torch.float64 else 5e-6, rtol=0)


@given(sides, sides)
def test_weights_sum_to_one_and_are_at_most_four(n_in: int, n_out: int) -> None:
    matrix = bicubic_matrix(n_in, n_out)
    assert matrix.shape == (n_out, n_in)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    assert (matrix != 0).sum(axis=1).max() <= 4


@given(sides)
def test_the_same_size_changes_nothing(n: int) -> None:
    np.testing.assert_array_equal(bicubic_matrix(n, n), np.eye(n))


def test_reproduces_straight_lines_inside() -> None:
    line = np.tile(np.arange(16.0), (4, 1))
    fine = bicubic(line, (4, 64))
    inside = slice(8, -8)  # away from the repeated edges
    expected = np.tile((np.arange(64) + 0.5) / 4 - 0.5, (4, 1))
    # a = -0.75 is no interpolating choice for lines (that is a = -0.5): PyTorch's kernel wobbles around them
    np.testing.assert_allclose(fine[:, inside], expected[:, inside], atol=0.05)
    assert np.abs(fine - expected)[:, inside].max() > 1e-3


def test_whole_numbers_become_floats() -> None:
    assert bicubic(np.eye(4, dtype=int), (8, 8)).dtype == np.float64


def test_a_nan_spreads_over_its_own_map_only() -> None:
    maps = np.zeros((2, 4, 4))
    maps[0, 1, 1] = np.nan
    fine = bicubic(maps, (8, 8))
    assert np.isnan(fine[0]).all()
    assert (fine[1] == 0).all()


def test_the_matrix_cannot_be_changed_by_its_user() -> None:
    with pytest.raises(ValueError, match="read-only"):
        bicubic_matrix(3, 5)[0, 0] = 2.0


@pytest.mark.parametrize(("n_in", "n_out"), [(0, 3), (3, 0), (3, -1)])
def test_empty_axes_are_refused(n_in: int, n_out: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        bicubic_matrix(n_in, n_out)


def test_a_row_is_no_map() -> None:
    with pytest.raises(ValueError, match=r"expected \(\.\.\., y, x\)"):
        bicubic(np.arange(4), (8, 8))
