"""Noise levels against the formulas of their schedulers, and drawing them against what it must average to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from diffusers import DDIMScheduler
from numpy.typing import NDArray

from sfumato.errors import OptionError
from sfumato.information.levels import LIMIT, Levels, drawn_levels, fitted_chances, levels_at, trained_levels
from sfumato.models.model import Model
from tests.information.gaussian import gaussian
from tests.information.made_up import bump, levels, repeated, total

Floats = NDArray[np.float64]


def alpha_bar(count: int = 1000) -> Floats:
    """Of the tests' schedulers: the product of what each step keeps."""
    return np.cumprod(1 - np.linspace(1e-4, 0.02, count))


def with_scheduler(kind: Any, **config: Any) -> Model:
    """A model whose scheduler is another one."""
    model = gaussian()
    model.pipeline.scheduler = kind(**config)
    return model


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def spread_of(chances: Floats, values: Floats) -> tuple[float, float]:
    mean = float((chances * values).sum() / chances.sum())
    return mean, float(np.sqrt((chances * (values - mean) ** 2).sum() / chances.sum()))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_log_snr_of_a_product_of_alphas(kind: str) -> None:
    found = trained_levels(gaussian(kind))
    assert found.timesteps.tolist() == list(range(1000))
    np.testing.assert_allclose(found.log_snr, np.log(alpha_bar() / (1 - alpha_bar())), atol=2e-3)  # betas of 24 bits
    assert (np.diff(found.log_snr) < 0).all()


def test_log_snr_of_a_flow() -> None:
    found = trained_levels(gaussian("flow"))
    share = np.arange(3, 998) / 1000  # beyond, there is too much of either
    assert found.timesteps.tolist() == list(range(3, 998))
    np.testing.assert_allclose(found.log_snr, 2 * np.log((1 - share) / share))


def test_levels_beyond_the_limit_are_left_out() -> None:
    for model in (
        gaussian("flow"),
        with_scheduler(DDIMScheduler, rescale_betas_zero_snr=True),
        with_scheduler(DDIMScheduler, beta_start=1e-9),
    ):
        found = trained_levels(model)
        assert len(found.timesteps) < 1000
        assert np.abs(found.log_snr).max() <= LIMIT
        assert np.isfinite(found.width).all()
    assert 999.0 not in trained_levels(with_scheduler(DDIMScheduler, rescale_betas_zero_snr=True)).timesteps


@pytest.mark.parametrize("count", [100, 1000])
def test_there_are_as_many_levels_as_were_trained(count: int) -> None:
    scheduler = {"num_train_timesteps": count, "beta_start": 1e-3 * 100 / count, "beta_end": 0.2 * 100 / count}
    assert len(trained_levels(with_scheduler(DDIMScheduler, **scheduler)).timesteps) == count


@pytest.mark.parametrize("kind", ["epsilon", "flow"])
def test_widths_share_out_the_range(kind: str) -> None:
    model = gaussian(kind)
    for found in (trained_levels(model), levels_at(model, (900, 30, 500, 200))):
        assert found.width.sum() == pytest.approx(found.log_snr[0] - found.log_snr[-1])
        assert (found.width > 0).all()
        between = (found.log_snr[:-2] - found.log_snr[2:]) / 2
        np.testing.assert_allclose(found.width[1:-1], between)
        np.testing.assert_allclose(
            [found.width[0], found.width[-1]],
            [(found.log_snr[0] - found.log_snr[1]) / 2, (found.log_snr[-2] - found.log_snr[-1]) / 2],
        )


def test_timesteps_come_in_any_order_and_count_once() -> None:
    model = gaussian()
    one, other = levels_at(model, (700, 100, 400)), levels_at(model, (400, 100, 700, 400, 100.0))
    for name in ("timesteps", "log_snr", "width"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.timesteps.tolist() == [100, 400, 700]


def test_a_single_level_stands_for_one_unit() -> None:
    found = levels_at(gaussian(), (300,))
    assert found.timesteps.tolist() == [300]
    assert found.width.tolist() == [1.0]


def test_timesteps_that_were_not_trained_are_refused() -> None:
    with pytest.raises(OptionError, match="there is no timestep 1000; this model was trained on 0 to 999"):
        levels_at(gaussian(), (300, 1000))
    with pytest.raises(OptionError, match="there is no timestep 5000; this model was trained on 0 to 1000"):
        levels_at(gaussian("flow"), (5000,))
    with pytest.raises(OptionError, match="there is no timestep -1"):
        levels_at(gaussian(), (-1, 300))
    assert levels_at(gaussian("flow"), (1000.0, 500.0, 250.0)).timesteps.tolist() == [250, 500]


def test_where_nothing_is_left_that_is_said() -> None:
    with pytest.raises(OptionError, match="no timestep of these has a log-SNR within 12; give some between 1 and 999"):
        levels_at(gaussian("flow"), (0, 1000))


def test_draws_are_spread_evenly_over_the_chances() -> None:
    random = chance(3)
    for count in (1, 7, 48):
        chances = random.dirichlet(np.full(20, 0.4))
        chances[[2, 11]] = 0
        chances /= chances.sum()
        found = drawn_levels(chances, count, random)
        often = np.bincount(found, minlength=20)
        assert often.sum() == count
        assert (np.abs(often - count * chances) < 1 + 1e-9).all()
        assert often[[2, 11]].tolist() == [0, 0]
        sums = np.abs(np.cumsum(often) - count * np.cumsum(chances))  # which plain rounding would not keep small
        assert (sums < 1 + 1e-9).all()


def test_every_beginning_of_the_draws_is_spread_as_well() -> None:
    for seed in range(20):
        found = drawn_levels(np.full(480, 1 / 480), 48, chance(seed))
        for so_many in (8, 16, 24, 40):
            quarters = np.bincount(found[:so_many] // 120, minlength=4)
            assert np.abs(quarters - so_many / 4).max() <= 2, (seed, so_many, quarters)


def test_draws_are_those_of_the_seed() -> None:
    chances = np.full(100, 0.01)
    np.testing.assert_array_equal(drawn_levels(chances, 30, chance(1)), drawn_levels(chances, 30, chance(1)))
    assert (drawn_levels(chances, 30, chance(1)) != drawn_levels(chances, 30, chance(2))).any()


@pytest.mark.parametrize("so_many", [1, 5, 16])
def test_a_level_is_drawn_as_often_as_its_chance_says_at_every_place(so_many: int) -> None:
    chances = np.array([0.05, 0.3, 0.15, 0.4, 0.1])
    often = np.mean(
        [np.bincount(drawn_levels(chances, 16, chance(s))[:so_many], minlength=5) for s in range(4000)], axis=0
    )
    np.testing.assert_allclose(often / so_many, chances, atol=4 * 0.5 / np.sqrt(4000))


@pytest.mark.parametrize("seed", range(5))
def test_weighing_by_chances_has_no_bias_whatever_they_are(seed: int) -> None:
    known, random = levels(40), chance(seed)
    values = random.exponential(size=40) * random.integers(0, 2, 40)
    chances = random.dirichlet(np.full(40, 0.7))
    chances = 0.9 * chances + 0.1 / 40
    estimates = []
    for _ in range(3000):
        places = drawn_levels(chances, 6, random)
        estimates.append(np.mean(values[places] * known.width[places] / chances[places]))
    error = np.std(estimates, ddof=1) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - (values * known.width).sum()) < 4 * error


@pytest.mark.parametrize(("middle", "spread"), [(-5.0, 1.0), (0.0, 2.0), (4.0, 0.7)])
def test_chances_go_where_the_integrand_is(middle: float, spread: float) -> None:
    known = levels()
    even = known.width / known.width.sum()
    places = drawn_levels(even, 100, chance())
    values = np.array([bump(middle, spread)(at) for at in known.log_snr[places]])
    chances = fitted_chances(known, places, values)
    assert chances.sum() == pytest.approx(1)
    assert (chances >= 0.1 * even - 1e-12).all()
    of_bump = chances - 0.1 * even
    found = spread_of(of_bump, known.log_snr)
    assert found[0] == pytest.approx(middle, abs=0.15)
    assert found[1] == pytest.approx(spread, rel=0.15)
    near = np.abs(known.log_snr - middle) < 2 * spread
    assert chances[near].sum() > 0.8


@pytest.mark.parametrize("values", [np.zeros(12), np.full(12, -2.0)])
def test_where_nothing_was_found_chances_are_even(values: Floats) -> None:
    known = levels()
    np.testing.assert_allclose(fitted_chances(known, np.arange(0, 120, 10), values), known.width / known.width.sum())


def test_one_sample_alone_leaves_chances_to_all_levels() -> None:
    known = levels()
    chances = fitted_chances(known, np.array([150]), np.array([3.0]))
    assert chances.sum() == pytest.approx(1)
    assert abs(known.log_snr[np.argmax(chances / known.width)] - known.log_snr[150]) < 0.1
    assert chances.min() > 0


@pytest.mark.parametrize("middle", [-6.0, 5.0])
@pytest.mark.parametrize("options", [{"adapt": False}, {"samples": 16}, {"samples": 48}, {"samples": 5}])
def test_estimates_of_made_up_densities_have_no_bias(middle: float, options: dict[str, Any]) -> None:
    known: Levels = levels()
    density = bump(middle, 1.5)
    found = repeated(density, known, 150, **{"samples": 24, **options})
    exact = total(density, known)
    # chances that follow the first samples may bias the sum, but by little
    assert abs(found.mean() - exact) < 4 * found.std(ddof=1) / np.sqrt(len(found)) + 0.005 * exact
    assert found.std(ddof=1) < 0.6 * exact
