"""The games on a step whose picture depends on known places, and the numbers of known curves."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sfumato.errors import NonFinite, OptionError
from sfumato.judging.games import (
    BLUR,
    BLUR_SIGMA,
    DISTANCES,
    GAMES,
    Curve,
    Game,
    Judge,
    judge_of,
    perturbation_curves,
    saliency_order,
)
from sfumato.saliency.recovering import Recovery
from sfumato.saliency.similarities import blurred
from sfumato.similarity.clip import Clip
from tests.saliency.toy import toy

GRID = (8, 12)
WEIGHTS = torch.zeros(GRID)
WEIGHTS[2:5, 3:6] = torch.linspace(0.2, 1, 9).reshape(3, 3)
"""How much each place of the latent counts in the picture."""


def recovery() -> Recovery:
    return toy(lambda sample: 0.1 * WEIGHTS * sample, grid=GRID)


def energy(one: Recovery) -> NDArray[np.float64]:
    """What the loss of each place adds to the squared distance: (y, x)."""
    return np.asarray((one.clean[0] ** 2).sum(0).double())


def squared(one: Recovery) -> Judge:
    """The squared distance, and how much of the own picture is seen."""
    own = one.pictures(one.clean)
    return Judge(
        {"squared": lambda pictures: ((pictures - own) ** 2).sum((1, 2, 3))},
        lambda pictures: (pictures * own).sum((1, 2, 3)) / (own**2).sum(),
    )


def played(saliency: NDArray[np.floating], game: Game, points: int = 96) -> dict[str, Curve]:
    one = recovery()
    return {curve.measure: curve for curve in perturbation_curves(one, saliency, game, squared(one), points)}


def random_map(seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).random(GRID)


@pytest.mark.parametrize("game", GAMES)
def test_a_perfect_map_beats_random_ones(game: Game) -> None:
    perfect = played(energy(recovery()), game)
    inverse = played(-energy(recovery()), game)
    for seed in range(5):
        random = played(random_map(seed), game)
        for measure in ("squared", "score"):
            assert perfect[measure].higher_is_better == random[measure].higher_is_better
            sign = 1 if perfect[measure].higher_is_better else -1
            assert sign * (perfect[measure].auc - random[measure].auc) > 0.1
            assert sign * (random[measure].auc - inverse[measure].auc) > 0.1
    sign = 1 if perfect["squared"].higher_is_better else -1
    assert sign * perfect["squared"].slope > 5  # the first tenth holds nearly all that counts
    assert abs(inverse["squared"].slope) < 0.1


def test_deletion_is_the_energy_of_what_is_gone() -> None:
    each = energy(recovery()).ravel()
    order = np.argsort(-each, kind="stable")
    expected = np.concatenate([[0], np.cumsum(each[order])]) / each.sum()
    found = played(energy(recovery()), "deletion")["squared"]
    np.testing.assert_allclose(found.values, expected, atol=1e-5)
    np.testing.assert_allclose(found.shares, np.arange(97) / 96)
    assert (found.values[0], found.values[-1]) == (0, 1)


def test_insertion_begins_with_a_blurred_latent() -> None:
    one = recovery()
    lost = 0.1 * WEIGHTS * (one.sample - blurred(one.sample, BLUR, BLUR_SIGMA))
    each = (lost[0] ** 2).sum(0).double().numpy().ravel()
    saliency = random_map(3)
    order = np.argsort(-saliency.ravel())
    expected = 1 - np.concatenate([[0], np.cumsum(each[order])]) / each.sum()
    found = played(saliency, "insertion")["squared"]
    np.testing.assert_allclose(found.values, expected, atol=1e-5)
    assert (found.values[0], found.values[-1]) == (1, 0)


def test_a_score_is_left_as_it_is() -> None:
    each = energy(recovery()).ravel()
    gone = np.cumsum(each[np.argsort(-each, kind="stable")]) / each.sum()
    deleted = played(energy(recovery()), "deletion")["score"].values
    np.testing.assert_allclose(deleted, [1, *(1 - gone)], atol=1e-5)
    restored = played(energy(recovery()), "insertion")["score"].values
    one = recovery()
    shown = (0.1 * WEIGHTS * blurred(one.sample, BLUR, BLUR_SIGMA) * one.clean).sum() / (one.clean**2).sum()
    assert float(shown) != 0
    np.testing.assert_allclose(restored[[0, -1]], [float(shown), 1], atol=1e-5)


@pytest.mark.parametrize("points", [1, 7, 64, 96])
def test_places_are_taken_in_parts_of_nearly_equal_size(points: int) -> None:
    curve = played(random_map(0), "deletion", points)["squared"]
    assert curve.shares.shape == curve.values.shape == (points + 1,)
    sizes = np.diff(curve.shares) * 96
    np.testing.assert_allclose(sizes, sizes.round(), atol=1e-9)
    assert sizes.max() - sizes.min() <= 1 + 1e-9
    assert (curve.shares[0], curve.shares[-1]) == (0, 1)
    whole = played(random_map(0), "deletion", 96)["squared"]
    np.testing.assert_allclose(curve.values, whole.values[(curve.shares * 96).round().astype(int)], atol=1e-6)


@pytest.mark.parametrize("points", [0, -1, 97])
def test_points_that_cannot_be_are_refused(points: int) -> None:
    with pytest.raises(OptionError, match=f"points is {points}; this latent has 96 places, so take 1 to 96"):
        played(random_map(0), "deletion", points)


def test_ranks_order_the_places() -> None:
    saliency = np.array([[0.1, 5.0, -2.0], [3.0, 0.2, 4.0]])
    np.testing.assert_array_equal(saliency_order(saliency, (2, 3)), [4, 0, 5, 2, 3, 1])
    np.testing.assert_array_equal(saliency_order(saliency.astype(np.float16), (2, 3)), [4, 0, 5, 2, 3, 1])


def test_ties_are_broken_always_alike_and_not_by_their_place() -> None:
    saliency = np.zeros(GRID)
    saliency[0, 0] = 1
    first = saliency_order(saliency, GRID)
    assert first[0] == 0
    assert sorted(first.tolist()) == list(range(96))
    np.testing.assert_array_equal(first, saliency_order(5 * saliency, GRID))
    assert abs(np.corrcoef(first[1:], np.arange(95))[0, 1]) < 0.3
    np.testing.assert_allclose(
        played(saliency, "deletion")["squared"].values, played(saliency, "deletion")["squared"].values
    )


@pytest.mark.parametrize(
    ("saliency", "message"),
    [
        (np.ones((12, 8)), "the map is (12, 8); the latent is 8 x 12: resample it"),
        (np.ones(96), "the map is (96,); the latent is 8 x 12: resample it"),
        (np.ones(GRID), "the map is the same everywhere, so it says nothing about which places matter"),
        (np.where(np.arange(96).reshape(GRID) == 7, np.nan, 1.0), "the map holds NaN or infinite values"),
        (np.where(np.arange(96).reshape(GRID) == 7, np.inf, 1.0), "the map holds NaN or infinite values"),
    ],
)
def test_maps_without_an_order_are_refused(saliency: NDArray[np.float64], message: str) -> None:
    for game in GAMES:
        with pytest.raises(OptionError, match=re.escape(message)):
            played(saliency, game)


def curve(values: list[float], shares: list[float] | None = None, game: Game = "deletion", measure: str = "x") -> Curve:
    at = np.linspace(0, 1, len(values)) if shares is None else np.array(shares)
    return Curve(game, measure, at, np.array(values, float))


def test_areas_and_slopes_of_known_curves() -> None:
    line = curve([0, 0.25, 0.5, 0.75, 1])
    assert (line.auc, line.slope) == (pytest.approx(0.5), pytest.approx(1))
    early = curve([0, 1, 1], [0, 0.05, 1])
    assert (early.auc, early.slope) == (pytest.approx(0.975), pytest.approx(10))
    late = curve([0.2, 0.2, 1.2], [0, 0.9, 1])
    assert (late.auc, late.slope) == (pytest.approx(0.2 * 0.9 + 0.07), pytest.approx(0))
    falling = curve([1, 0.5, 0.5], [0, 0.2, 1])
    assert (falling.auc, falling.slope) == (pytest.approx(0.15 + 0.4), pytest.approx(-2.5))


def test_what_is_better_depends_on_the_game_and_on_the_measure() -> None:
    assert curve([0, 1], game="deletion", measure="local_ssim").higher_is_better
    assert not curve([0, 1], game="insertion", measure="local_ssim").higher_is_better
    assert not curve([0, 1], game="deletion", measure="score").higher_is_better
    assert curve([0, 1], game="insertion", measure="score").higher_is_better


def test_a_picture_that_nothing_changes_has_no_distance() -> None:
    one = toy(torch.zeros_like, grid=GRID)
    for game in GAMES:
        for found in perturbation_curves(one, random_map(0), game, squared(one), 8):
            if found.measure == "squared":
                np.testing.assert_array_equal(found.values, np.zeros(9))


def test_pictures_that_are_not_finite_are_an_error() -> None:
    one = toy(lambda sample: torch.where(sample == 0, float("nan"), sample), grid=GRID)
    with pytest.raises(NonFinite, match="the denoiser's output is NaN or infinite at step 0"):
        perturbation_curves(one, random_map(0), "deletion", Judge({}, None), 8)


def test_the_latent_and_what_it_recovers_stay_as_they_are() -> None:
    one = recovery()
    sample, clean = one.sample.clone(), one.clean.clone()
    for game in GAMES:
        perturbation_curves(one, energy(one), game, squared(one), 8)
    assert torch.equal(one.sample, sample)
    assert torch.equal(one.clean, clean)
    assert one.calls == 1 + 2 * 9


def test_every_distance_is_nothing_for_the_picture_itself_and_more_for_others() -> None:
    one = toy(lambda sample: 0.4 * sample, grid=(16, 16))
    judge = judge_of(one, "a red circle", Clip(), tuple(DISTANCES))
    own = one.pictures(one.clean)
    near = (own + 0.1 * torch.randn(own.shape, generator=torch.Generator().manual_seed(1))).clamp(-1, 1)
    pictures = torch.cat([own, near, -own])
    assert set(judge.distances) == {"local_ssim", "features", "clip"}
    for name, measure in judge.distances.items():
        values = measure(pictures)
        assert values.shape == (3,)
        assert float(values[0]) == pytest.approx(0, abs=1e-5), name
        assert float(values[2]) > float(values[1]) > 1e-4, name
    assert judge.score is not None
    clip = Clip()
    expected = clip.directions(pictures) @ clip.texts(["a red circle"])[0]
    np.testing.assert_allclose(judge.score(pictures), expected, atol=1e-5)


def test_measures_do_not_depend_on_how_many_pictures_there_are() -> None:
    one = toy(lambda sample: 0.4 * sample, grid=(8, 8))
    judge = judge_of(one, "a red circle", Clip(), tuple(DISTANCES))
    pictures = torch.rand(35, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for name, measure in [*judge.distances.items(), ("score", judge.score)]:
        assert measure is not None
        np.testing.assert_allclose(measure(pictures)[-1:], measure(pictures[-1:]), atol=1e-5, err_msg=name)


def test_without_a_prompt_there_is_no_score_and_an_unknown_distance_is_refused() -> None:
    assert judge_of(recovery(), "", Clip()).score is None
    with pytest.raises(OptionError, match="there is no distance 'fid'; choose from: local_ssim, features, clip"):
        judge_of(recovery(), "", Clip(), ("local_ssim", "fid"))
