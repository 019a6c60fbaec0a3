from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
)

from sfumato.errors import ModelError
from sfumato.models import noise

PREDICTIONS = ["epsilon", "v_prediction", "sample"]
HALF = 400


def known(prediction_type: str = "epsilon") -> DDIMScheduler:
    """Alphas that can be reckoned with by hand: 0.64 of the clean latent's variance at every timestep, less at 400."""
    scheduler = DDIMScheduler(prediction_type=prediction_type, clip_sample=False)
    scheduler.alphas_cumprod = torch.full((1000,), 0.64, dtype=torch.float64)
    scheduler.alphas_cumprod[HALF] = 0.36
    return scheduler


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_levels_are_the_roots_of_signal_and_noise() -> None:
    signal, lost = noise.levels(known(), 10)
    assert (float(signal), float(lost)) == pytest.approx((0.8, 0.6), abs=1e-12)
    signal, lost = noise.levels(known(), HALF)
    assert (float(signal), float(lost)) == pytest.approx((0.6, 0.8), abs=1e-12)
    scheduler = DDIMScheduler(beta_start=0.1, beta_end=0.1, beta_schedule="linear")
    for timestep in (0.0, 2.0, 2.4):  # a timestep between two trained ones counts as the nearer
        signal, lost = noise.levels(scheduler, timestep)
        assert float(signal) ** 2 == pytest.approx(0.9 ** (round(timestep) + 1), rel=1e-6)
        assert float(signal) ** 2 + float(lost) ** 2 == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("prediction_type", "output", "clean", "predicted"),
    [
        ("epsilon", 0.5, (1 - 0.6 * 0.5) / 0.8, 0.5),
        ("v_prediction", 0.5, 0.8 * 1 - 0.6 * 0.5, 0.8 * 0.5 + 0.6 * 1),
        ("sample", 0.5, 0.5, (1 - 0.8 * 0.5) / 0.6),
    ],
)
def test_a_prediction_implies_the_clean_latent_and_its_noise(
    prediction_type: str, output: float, clean: float, predicted: float
) -> None:
    scheduler = known(prediction_type)
    given, sample = torch.full((1, 1, 2, 2), output), torch.ones(1, 1, 2, 2)
    torch.testing.assert_close(noise.clean(scheduler, given, sample, 10), torch.full((1, 1, 2, 2), clean))
    torch.testing.assert_close(noise.predicted_noise(scheduler, given, sample, 10), torch.full((1, 1, 2, 2), predicted))


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_clean_latent_and_noise_make_the_sample_again(prediction_type: str) -> None:
    scheduler = known(prediction_type)
    output, sample = drawn(2, 3, 4, 4), drawn(2, 3, 4, 4, seed=1)
    clean = noise.clean(scheduler, output, sample, HALF)
    predicted = noise.predicted_noise(scheduler, output, sample, HALF)
    torch.testing.assert_close(0.6 * clean + 0.8 * predicted, sample)


def test_another_prediction_is_an_error() -> None:
    scheduler = DDIMScheduler(prediction_type="flow")
    with pytest.raises(ModelError, match="predicts 'flow'; known are: epsilon, v_prediction, sample"):
        noise.clean(scheduler, torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), 3)


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
@pytest.mark.parametrize("place", [0, 3, 4])
def test_the_previous_latent_is_that_of_the_schedulers_own_step(prediction_type: str, place: int) -> None:
    scheduler = DDIMScheduler(prediction_type=prediction_type, clip_sample=False)
    scheduler.set_timesteps(5)
    timestep = float(scheduler.timesteps[place])
    output, sample = drawn(1, 3, 4, 4), drawn(1, 3, 4, 4, seed=1)
    found = noise.previous(scheduler, output, sample, timestep)
    assert torch.equal(found, scheduler.step(output, int(timestep), sample).prev_sample)


def test_the_previous_latent_follows_the_formula_of_ddim() -> None:
    scheduler = known()
    scheduler.set_timesteps(5)  # 800, 600, 400, 200, 0
    output, sample = torch.full((1, 1, 2, 2), 0.5), torch.ones(1, 1, 2, 2)
    expected = 0.8 * (1 - 0.8 * 0.5) / 0.6 + 0.6 * 0.5  # from 0.36 at 400 to 0.64 at 200
    found = noise.previous(scheduler, output, sample, HALF)
    torch.testing.assert_close(found, torch.full((1, 1, 2, 2), expected))


@pytest.mark.parametrize(
    "kind", [DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler, DPMSolverMultistepScheduler]
)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_step_on_a_copy_leaves_the_scheduler_unchanged(kind: Any) -> None:
    scheduler = kind()
    scheduler.set_timesteps(5)
    before = copy.deepcopy(vars(scheduler))
    timestep = float(scheduler.timesteps[2])
    output, sample = drawn(1, 3, 4, 4), drawn(1, 3, 4, 4, seed=1)
    first = noise.previous(scheduler, output, sample, timestep)
    noise.input_scale(scheduler, timestep)
    assert torch.equal(noise.previous(scheduler, output, sample, timestep), first)
    assert vars(scheduler).keys() == before.keys()
    for name, value in vars(scheduler).items():
        np.testing.assert_equal(np.asarray(value, object), np.asarray(before[name], object), err_msg=name)


@pytest.mark.parametrize("kind", [DDPMScheduler, EulerDiscreteScheduler])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_previous_latent_of_other_schedulers_is_that_of_their_step(kind: Any) -> None:
    scheduler = kind()
    scheduler.set_timesteps(5)
    sample = drawn(1, 3, 4, 4, seed=1)
    for step, timestep in enumerate(scheduler.timesteps):
        output = drawn(1, 3, 4, 4, seed=10 + step)
        scheduler.scale_model_input(sample, timestep)
        found = noise.previous(scheduler, output, sample, float(timestep))
        following = scheduler.step(output, timestep, sample, generator=torch.Generator().manual_seed(0)).prev_sample
        assert torch.equal(found, following), step
        sample = following


@pytest.mark.parametrize("kind", [PNDMScheduler, DPMSolverMultistepScheduler, HeunDiscreteScheduler])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_step_of_a_finished_run_uses_none_of_its_earlier_outputs(kind: Any) -> None:
    used, fresh = (kind(**({"skip_prk_steps": True} if kind is PNDMScheduler else {})) for _ in range(2))
    sample = drawn(1, 3, 4, 4, seed=1)
    for scheduler in (used, fresh):
        scheduler.set_timesteps(5)
    run = sample
    for step, timestep in enumerate(used.timesteps):
        used.scale_model_input(run, timestep)
        run = used.step(drawn(1, 3, 4, 4, seed=10 + step), timestep, run).prev_sample
    timestep, output = float(used.timesteps[3]), drawn(1, 3, 4, 4)
    torch.testing.assert_close(
        noise.previous(used, output, sample, timestep), noise.previous(fresh, output, sample, timestep)
    )


def test_the_step_has_derivatives() -> None:
    scheduler = known()
    scheduler.set_timesteps(5)
    output = torch.full((1, 1, 2, 2), 0.5, requires_grad=True)
    sample = torch.ones(1, 1, 2, 2, requires_grad=True)
    by_output, by_sample = torch.autograd.grad(noise.previous(scheduler, output, sample, HALF).sum(), [output, sample])
    torch.testing.assert_close(by_sample, torch.full((1, 1, 2, 2), 0.8 / 0.6))
    torch.testing.assert_close(by_output, torch.full((1, 1, 2, 2), 0.6 - 0.8 * 0.8 / 0.6))


def test_a_timestep_that_was_not_run_is_an_error() -> None:
    scheduler = known()
    scheduler.set_timesteps(5)
    with pytest.raises(ModelError, match=r"DDIMScheduler cannot make a single step .*take ddim, ddpm or euler"):
        noise.previous(scheduler, torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), 7.0)


def test_ddim_gives_the_denoiser_its_sample_as_it_is() -> None:
    scheduler = known()
    scheduler.set_timesteps(5)
    assert [noise.input_scale(scheduler, float(t)) for t in scheduler.timesteps] == [1.0] * 5


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_euler_scales_the_sample_by_its_noise() -> None:
    scheduler = EulerDiscreteScheduler(timestep_spacing="trailing")
    scheduler.set_timesteps(5)
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        scale = noise.input_scale(scheduler, float(timestep))
        assert scale == pytest.approx(float(sigma**2 + 1) ** -0.5, rel=1e-6)
        # which is what the clean latent is multiplied by in variance-preserving form
        assert scale == pytest.approx(float(noise.levels(scheduler, float(timestep))[0]), rel=1e-3)
    assert scheduler._step_index is None
