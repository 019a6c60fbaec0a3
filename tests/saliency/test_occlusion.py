"""Masks follow from their seed, keep the share that is asked for, and are smooth where they should be."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from sfumato.errors import OptionError
from sfumato.saliency.occlusion import Masking, Masks

GRID = (8, 12)
KINDS: list[Masking] = ["iid", "grid"]


def drawn(kind: Masking, count: int = 10, *, keep: float = 0.5, cells: int = 2, seed: int = 3) -> torch.Tensor:
    return Masks(kind, GRID, keep, cells, seed).draw(count)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_do_not_depend_on_how_many_are_drawn_at_a_time(kind: Masking) -> None:
    some = Masks(kind, GRID, 0.5, 2, 3)
    parts = torch.cat([some.draw(1), some.draw(5), some.draw(4)])
    assert parts.shape == (10, *GRID)
    assert torch.equal(parts, drawn(kind))
    assert not torch.equal(parts[:5], parts[5:])
    assert not torch.equal(parts, drawn(kind, seed=4))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [2**63 - 1, 1009 * (2**63 - 1) + 7])
def test_any_seed_of_a_request_will_do(kind: Masking, seed: int) -> None:
    assert torch.equal(drawn(kind, seed=seed), drawn(kind, seed=seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_masks_keep_the_share_that_is_asked_for_at_every_place(kind: Masking, keep: float) -> None:
    masks = drawn(kind, 1500, keep=keep)
    assert 0 <= float(masks.min()) <= float(masks.max()) <= 1
    assert float(masks.mean()) == pytest.approx(keep, abs=0.015)
    np.testing.assert_allclose(masks.mean(0), keep, atol=0.06)  # 4.6 standard errors where it is most


def test_single_places_are_kept_or_not_by_themselves() -> None:
    masks = drawn("iid", 2000)
    assert set(masks.unique().tolist()) == {0, 1}
    near = (masks[:, :, 1:] - 0.5) * (masks[:, :, :-1] - 0.5)
    assert float(near.mean()) == pytest.approx(0, abs=0.005)


@pytest.mark.parametrize(("cells", "cell"), [(2, 4), (3, 3), (8, 1)])
def test_grid_masks_are_as_smooth_as_their_cells(cells: int, cell: int) -> None:
    masks = drawn("grid", 400, cells=cells)
    for axis in (1, 2):
        steps = masks.diff(dim=axis).abs()
        assert float(steps.max()) <= 1 / cell + 1e-6
        assert float(steps.max()) > 0.9 / cell
    between = ((masks > 0.01) & (masks < 0.99)).float().mean()
    assert float(between) > 0.3 if cell > 1 else float(between) == 0


def test_grid_masks_are_shifted() -> None:
    # without a shift, the slopes between two cells would begin at the same places in every mask
    bends = (drawn("grid", 300).diff(n=2, dim=2).abs() > 0.01).float().mean((0, 1))
    assert float(bends.min()) > 0.1
    assert float(bends.max()) < 2.5 * float(bends.min())


def test_a_grid_finer_than_the_latent_is_refused() -> None:
    with pytest.raises(OptionError, match=re.escape("grid is 9; the latent has 8 x 12 places, give 8 or fewer")):
        Masks("grid", GRID, 0.5, 9, 0)
    assert Masks("grid", GRID, 0.5, 8, 0).draw(1).shape == (1, *GRID)
    assert Masks("iid", GRID, 0.5, 9, 0).draw(1).shape == (1, *GRID)
