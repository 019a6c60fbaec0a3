"""The estimator, on a step whose answer is known: one place decides everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfumato.saliency.occlusion import Masking, Masks
from sfumato.saliency.recovering import Recovery
from sfumato.saliency.rise import LEAST, Compare, Rise, rise
from sfumato.saliency.similarities import local_similarity
from tests.saliency.toy import toy

GRID = (8, 12)
PLACE = (5, 3)


def kept(recovery: Recovery) -> Compare:
    """The similarity is what the mask keeps of one place, everywhere alike."""
    own = recovery.sample[0, 0][PLACE]
    return lambda samples: (samples[:, 0, PLACE[0], PLACE[1]] / own)[:, None, None].expand(-1, *GRID)


def estimate(
    kind: Masking = "iid",
    count: int = 300,
    *,
    local: bool = True,
    until: float | None = None,
    rows: int = 64,
    seed: int = 1,
) -> Rise:
    recovery = toy(lambda sample: sample, grid=GRID, rows=rows)
    return rise(recovery, Masks(kind, GRID, 0.4, 3, seed), kept(recovery), count, local=local, until=until)


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("kind", ["iid", "grid"])
def test_the_map_peaks_at_the_only_place_that_matters(kind: Masking, local: bool) -> None:
    found = estimate(kind, 1500, local=local)
    assert found.map.shape == found.error.shape == GRID
    peak = tuple(int(place) for place in np.unravel_index(found.map.argmax(), GRID))
    assert peak == PLACE
    assert found.score == pytest.approx(0.4, abs=0.05)
    others = np.ones(GRID, bool)
    rows, columns = (slice(max(0, place - 4), place + 5) for place in PLACE)
    others[rows, columns] = False  # a smooth mask of cells of 3 keeps no place by itself
    expected = found.score if local else 0
    np.testing.assert_allclose(found.map[others], expected, atol=5 * found.error.max())


def test_the_values_are_means_weighed_by_the_masks() -> None:
    masks = Masks("grid", GRID, 0.4, 3, 1).draw(300).double().numpy()
    scores = masks[:, PLACE[0], PLACE[1]]
    weighed = (masks * scores[:, None, None]).sum(0) / masks.sum(0)
    found = estimate("grid")
    np.testing.assert_allclose(found.map, weighed, rtol=1e-5)
    np.testing.assert_allclose(estimate("grid", local=False).map, weighed - scores.mean(), atol=1e-6)
    assert found.score == pytest.approx(scores.mean())
    assert found.masks == 300
    assert estimate("iid").map[PLACE] == 1  # where it is kept, all is kept


def test_a_place_has_its_own_similarity_or_that_of_the_whole() -> None:
    recovery = toy(lambda sample: sample, grid=GRID)
    pattern = torch.linspace(0, 1, GRID[0] * GRID[1]).reshape(GRID)

    def compare(samples: torch.Tensor) -> torch.Tensor:
        return pattern.expand(len(samples), -1, -1)

    local = rise(recovery, Masks("iid", GRID, 0.5, 3, 0), compare, 64)
    np.testing.assert_allclose(local.map, pattern, atol=1e-6)
    np.testing.assert_allclose(local.error, 0, atol=1e-6)
    whole = rise(recovery, Masks("iid", GRID, 0.5, 3, 0), compare, 64, local=False)
    np.testing.assert_allclose(whole.map, 0, atol=1e-6)


@pytest.mark.parametrize("kind", ["iid", "grid"])
def test_a_recovery_that_depends_on_one_place_says_so(kind: Masking) -> None:
    pattern = torch.randn(1, 3, *GRID, generator=torch.Generator().manual_seed(9))
    noise = torch.randn(1, 3, *GRID, generator=torch.Generator().manual_seed(8))
    place = (slice(None), slice(None, 1), slice(PLACE[0], PLACE[0] + 1), slice(PLACE[1], PLACE[1] + 1))
    start = toy(lambda sample: sample).sample[place]

    def denoise(sample: torch.Tensor) -> torch.Tensor:
        share = sample[place] / start
        return share * pattern + (1 - share) * noise

    recovery = toy(denoise, grid=GRID)
    found = rise(
        recovery,
        Masks(kind, GRID, 0.5, 3, 0),
        lambda samples: local_similarity("local_ssim", recovery.clean, recovery.recovered(samples)),
        600,
        local=False,
    )
    assert tuple(int(one) for one in np.unravel_index(found.map.argmax(), GRID)) == PLACE
    assert recovery.calls == 601


@pytest.mark.parametrize("kind", ["iid", "grid"])
def test_the_error_shrinks_as_the_root_of_the_masks(kind: Masking) -> None:
    few, many = (estimate(kind, count).error for count in (200, 3200))
    others = few > 0  # where one place alone decides, its own value is certain
    assert others.mean() > 0.9
    assert float((few[others] / many[others]).mean()) == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("kind", ["iid", "grid"])
def test_the_error_is_how_much_maps_of_other_masks_differ(kind: Masking, local: bool) -> None:
    found = [estimate(kind, 70, seed=seed, local=local) for seed in range(120)]
    spread = np.std([one.map for one in found], axis=0, ddof=1)
    told = np.mean([one.error for one in found], axis=0)
    assert float(told.mean()) == pytest.approx(float(spread.mean()), rel=0.12)


def test_it_stops_once_it_is_sure_enough() -> None:
    all_of_them = estimate(count=640)
    assert all_of_them.masks == 640
    wanted = 1.5 * all_of_them.relative_error
    early = estimate(count=640, until=wanted)
    assert LEAST <= early.masks < 640
    assert early.relative_error <= wanted < estimate(count=early.masks - 64).relative_error
    np.testing.assert_array_equal(early.map, estimate(count=early.masks).map)
    assert estimate(count=640, until=1e-9).masks == 640
    assert estimate(count=640, until=1e9).masks == LEAST
    assert estimate(count=640, until=1e9, rows=10).masks == 70  # judged from 64 on, after a whole batch
    assert estimate(count=20, until=1e9).masks == 20


@pytest.mark.parametrize("kind", ["iid", "grid"])
@pytest.mark.parametrize("rows", [1, 7])
def test_nothing_depends_on_the_batch(kind: Masking, rows: int) -> None:
    one, other = estimate(kind), estimate(kind, rows=rows)
    np.testing.assert_allclose(one.map, other.map, atol=1e-7)
    np.testing.assert_allclose(one.error, other.error, atol=1e-7)
    assert one.score == pytest.approx(other.score, abs=1e-12)


def test_batches_hold_no_more_rows_than_allowed() -> None:
    recovery = toy(lambda sample: sample, grid=GRID, rows=7)
    told: list[int] = []
    rise(
        recovery,
        Masks("iid", GRID, 0.5, 3, 0),
        lambda samples: recovery.recovered(samples).mean(1),
        17,
        told=told.append,
    )
    assert told == [7, 14, 17]
    assert recovery.trace.largest == 7  # type: ignore[attr-defined]


def test_places_that_no_mask_keeps_are_zero() -> None:
    found = estimate(count=1)
    (mask,) = Masks("iid", GRID, 0.4, 3, 1).draw(1).numpy()
    assert 0 < mask.mean() < 1
    assert not found.map[mask == 0].any()
    assert not found.error[mask == 0].any()
    assert np.isfinite(found.map).all()


def test_a_map_without_range_is_never_sure() -> None:
    flat = np.ones(GRID, np.float32)
    assert Rise(flat, flat, 10, 1.0).relative_error == float("inf")
    risen = flat.copy()
    risen[0, 0] = 3
    assert Rise(risen, 0.1 * flat, 10, 1.0).relative_error == pytest.approx(0.05)
