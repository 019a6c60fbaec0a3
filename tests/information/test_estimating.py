"""The integral over noise levels against Gaussian images, whose information is known in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from sfumato.errors import NonFinite
from sfumato.generation.generate import generate
from sfumato.generation.trace import Trace
from sfumato.information.estimating import PILOT, Contexts, Sampled, along, sample
from sfumato.information.levels import levels_at, trained_levels
from sfumato.models.model import Model
from tests.information import gaussian as toy
from tests.information.gaussian import CONTEXTS, DEAF, SIDE, drawn, gaussian, traced
from tests.information.made_up import bump, estimated, levels, total
from tests.labels import REQUEST
from tests.methods.steps import in_precision, model_of
from tests.pipelines import fingerprint


@cache
def run() -> Trace:
    return traced(gaussian())


@cache
def found(seed: int, **options: Any) -> Sampled:
    """Of one image of the Gaussian model."""
    trace = run()
    given = {"samples": 48, **options}
    return sample(trace, drawn(trace.model), CONTEXTS, trained_levels(trace.model), seed=seed, **given)


def ends(model: Model) -> tuple[float, float]:
    known = trained_levels(model)
    return float(known.log_snr[-1]), float(known.log_snr[0])


def closed_form() -> float:
    return toy.information(run().model, drawn(run().model), *ends(run().model))


def test_the_estimate_is_the_integral_in_closed_form() -> None:
    exact = closed_form()
    assert 20 < exact < 100  # there is something to measure
    for seed in range(20):
        one = found(seed)
        assert abs(one.totals[0] - exact) < 4 * one.errors[0]
    totals = np.array([found(seed).totals[0] for seed in range(20)])
    assert abs(totals.mean() - exact) < 4 * totals.std(ddof=1) / np.sqrt(20)
    assert totals.std(ddof=1) < 0.03 * exact


@pytest.mark.parametrize("options", [{}, {"estimator": "standard"}, {"samples": 80}, {"adapt": False, "samples": 64}])
def test_the_stated_error_is_as_large_as_estimates_differ(options: dict[str, Any]) -> None:
    ones = [found(seed, **options) for seed in range(20)]
    spread = np.std([one.totals[0] for one in ones], ddof=1)
    stated = np.sqrt(np.mean([one.errors[0] ** 2 for one in ones]))
    assert spread / 2 < stated < spread * 2


def test_maps_are_those_of_the_closed_form() -> None:
    model, (low, high) = run().model, ends(run().model)
    grid = np.linspace(low, high, 2000)
    each = np.array([toy.density(model, drawn(model), at).sum(0) for at in grid])  # (level, y, x)
    exact = np.trapezoid(each, grid, axis=0)
    maps = np.mean([found(seed).maps[0] for seed in range(20)], axis=0)
    errors = np.sqrt(np.mean([found(seed).map_errors[0] ** 2 for seed in range(20)], axis=0) / 20)
    far = np.abs(maps - exact)[2:] / errors[2:]
    assert far.max() < 4
    assert np.corrcoef(maps[2:].ravel(), exact[2:].ravel())[0, 1] > 0.99


def test_when_is_that_of_the_closed_form() -> None:
    model, (low, high) = run().model, ends(run().model)
    edges = np.linspace(-12, 12, 7)
    exact = [toy.information(model, drawn(model), max(a, low), min(b, high)) for a, b in pairwise(edges.tolist())]
    each = np.array([found(seed).over_levels(edges)[0] for seed in range(20)])
    np.testing.assert_allclose(each.sum(1), [found(seed).totals[0] for seed in range(20)])
    assert (np.abs(each.mean(0) - exact) < 4 * each.std(0, ddof=1) / np.sqrt(20) + 0.02 * sum(exact)).all()


def test_over_images_of_a_label_the_mean_is_the_divergence() -> None:
    trace = run()
    known = trained_levels(trace.model)
    each = [
        float(sample(trace, drawn(trace.model, n), CONTEXTS, known, samples=16, seed=n).totals[0]) for n in range(120)
    ]
    error = np.std(each, ddof=1) / np.sqrt(len(each))
    exact = toy.divergence(trace.model)
    assert abs(np.mean(each) - exact) < 4 * error
    assert error < 0.05 * exact


def test_the_standard_estimator_is_of_the_ratio_of_likelihoods_and_noisier() -> None:
    exact = toy.ratio(run().model, drawn(run().model))
    assert abs(exact - closed_form()) > 5  # of one image, the two are not the same
    orthogonal, standard = (
        np.array([found(seed, estimator=name).totals[0] for seed in range(30)]) for name in ("orthogonal", "standard")
    )
    assert abs(standard.mean() - exact) < 4 * standard.std(ddof=1) / np.sqrt(30)
    assert standard.std() > 2 * orthogonal.std()
    assert min(found(seed, estimator="standard").maps.min() for seed in range(5)) < 0


def test_places_add_up_and_those_without_influence_have_none() -> None:
    for name in ("orthogonal", "standard"):
        one = found(3, estimator=name)
        assert one.maps.shape == (1, SIDE, SIDE)
        assert one.totals[0] == pytest.approx(one.maps.sum())
        deaf = one.maps[DEAF[1:]]
        assert deaf.size == 2 * SIDE
        np.testing.assert_array_equal(deaf, 0)
        np.testing.assert_array_equal(one.map_errors[DEAF[1:]], 0)
        assert np.abs(one.maps[0, 2:]).min() > 0
    assert found(3).densities.min() >= 0


@pytest.mark.parametrize("kind", ["v_prediction", "flow"])
def test_nats_do_not_depend_on_what_the_network_predicts(kind: str) -> None:
    trace = traced(gaussian(kind))
    own = trained_levels(run().model)
    known = own
    if kind == "flow":  # the timesteps of the same log-SNRs
        known = levels_at(trace.model, [1000 / (1 + np.exp(at / 2)) for at in own.log_snr.tolist()])
        np.testing.assert_allclose(known.log_snr, own.log_snr, atol=1e-9)
    other = sample(trace, drawn(trace.model), CONTEXTS, known, samples=24)
    same = sample(run(), drawn(trace.model), CONTEXTS, own, samples=24)
    np.testing.assert_array_equal(other.places, same.places)
    np.testing.assert_allclose(other.maps, same.maps, rtol=1e-4, atol=1e-4 * same.maps.max())
    assert other.totals[0] == pytest.approx(same.totals[0], rel=1e-4)


def test_the_runs_own_samples_are_asked_without_any_chance() -> None:
    model = gaussian()
    trace = traced(model, steps=5)
    known = levels_at(model, [call.timestep for call in trace.calls])
    one = along(trace, CONTEXTS, known)
    assert one.densities.shape == (5, 1, SIDE, SIDE)
    assert one.calls == 10
    none, told = torch.tensor([toy.LABELS]), torch.tensor([toy.LABEL])
    expected = np.zeros((SIDE, SIDE))
    for call in trace.calls:
        lower, upper = (model.denoiser(call.sample.double(), call.timestep, label)[0] for label in (none, told))
        width = known.width[known.timesteps.tolist().index(call.timestep)]
        expected += width / 2 * (lower - upper).square().sum(1)[0].numpy()
    np.testing.assert_allclose(one.maps[0], expected, rtol=1e-4, atol=1e-6)
    assert one.totals[0] == pytest.approx(expected.sum(), rel=1e-4)
    np.testing.assert_array_equal(along(trace, CONTEXTS, known, rows=1).maps, one.maps)
    assert np.isnan(one.errors).all()  # nothing was drawn, so nothing is known of an error
    assert np.isnan(one.map_errors).all()


def test_as_many_samples_are_taken_as_are_asked_for() -> None:
    for so_many in (2, PILOT - 1, PILOT, PILOT + 1, 29):
        told: list[tuple[int, int]] = []
        one = found(0, samples=so_many, progress=lambda what, done, of, to=told: to.append((done, of)))
        assert len(one.places) == len(one.densities) == len(one.weights) == so_many
        assert one.calls == 2 * so_many
        assert told == [(n + 1, so_many) for n in range(so_many)]
        assert np.isfinite(one.errors).all() == (so_many >= 5)


@pytest.mark.parametrize("adapt", [True, False])
def test_an_estimate_that_is_good_enough_stops_early(adapt: bool) -> None:
    for until in (0.2, 0.05):
        one = found(1, samples=400, until=until, adapt=adapt)
        assert PILOT <= len(one.places) < 400
        assert one.errors[0] <= until * one.totals[0]
        assert abs(one.totals[0] - closed_form()) < 4 * one.errors[0]
    assert len(found(1, samples=400, until=0.999, adapt=adapt).places) >= PILOT
    assert len(found(1, samples=30, until=1e-6, adapt=adapt).places) == 30


@pytest.mark.parametrize("adapt", [True, False])
@pytest.mark.parametrize("middle", [-3.0, 4.0])
def test_stopping_early_has_no_bias(adapt: bool, middle: float) -> None:
    known, density = levels(), bump(middle, 1.5)
    ones = [estimated(density, known, samples=200, until=0.15, adapt=adapt, seed=seed) for seed in range(100)]
    assert max(len(one.places) for one in ones) < 200
    totals = np.array([one.totals[0] for one in ones])
    exact = total(density, known)
    assert abs(totals.mean() - exact) < 4 * totals.std(ddof=1) / np.sqrt(len(totals)) + 0.01 * exact
    assert (np.abs(totals - exact) < 4 * np.array([one.errors[0] for one in ones])).all()


def test_nothing_to_tell_is_zero_without_error_and_stops_at_once() -> None:
    one = estimated(lambda at: 0.0, levels(), samples=100, until=0.1)
    assert one.totals[0] == one.errors[0] == 0
    assert len(one.places) < 2 * PILOT


def test_how_contexts_are_batched_makes_no_difference() -> None:
    model = model_of("labels")
    trace = generate(model, REQUEST, record=(0,))
    texts = ("0011", "", "1011", "0111", "0001", "0010")
    terms = ((1, 0), (2, 0), (3, 0), (4, 0), (5, 0))
    order = (4, 2, 0, 5, 1, 3)
    mixed = Contexts(tuple(texts[place] for place in order), tuple((order.index(a), order.index(b)) for a, b in terms))
    known = trained_levels(model)
    before = fingerprint(model.pipeline)
    whole, alone, other, again = (
        sample(trace, trace.latents, contexts, known, samples=16, rows=rows, seed=2)
        for contexts, rows in ((Contexts(texts, terms), 32), (Contexts(texts, terms), 1), (mixed, 4), (mixed, 4))
    )
    assert fingerprint(model.pipeline) == before
    assert whole.calls == alone.calls == 6 * 16
    for one in (alone, other):
        np.testing.assert_array_equal(one.places, whole.places)
        np.testing.assert_allclose(one.maps, whole.maps, rtol=0, atol=min(1e-5, 1e-3 * whole.maps.max()))
        np.testing.assert_allclose(one.totals, whole.totals, rtol=1e-4)
    np.testing.assert_array_equal(again.densities, other.densities)
    np.testing.assert_array_equal(again.weights, other.weights)


def test_another_seed_has_other_noise() -> None:
    assert found(0).totals[0] != found(1).totals[0]
    np.testing.assert_array_equal(found(0).densities, found(0, rows=1).densities)


def test_guidance_of_the_run_has_no_say_in_what_a_latent_is_told() -> None:
    model = model_of("labels")
    plain, guided = (generate(model, REQUEST.with_(guidance=g), record=(0,)) for g in (1.0, 6.0))
    assert not torch.equal(plain.latents, guided.latents)
    contexts = Contexts(("0011", ""), ((1, 0),))
    one, other = (sample(trace, plain.latents, contexts, trained_levels(model), samples=8) for trace in (plain, guided))
    np.testing.assert_allclose(one.maps, other.maps, rtol=1e-6)


@contextmanager
def broken_below(model: Model, timestep: int) -> Iterator[None]:
    """The denoiser's output is NaN where there is little noise."""

    def spoil(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
        at = kwargs.get("timestep", args[1] if len(args) > 1 else None)
        return (output[0] * float("nan"),) if float(at) < timestep else None

    hook = model.denoiser.register_forward_hook(spoil, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def test_an_output_that_is_not_finite_is_an_error_that_names_the_level() -> None:
    trace = run()
    known = levels_at(trace.model, (900, 500, 40))
    with (
        broken_below(trace.model, 100),
        pytest.raises(NonFinite, match="the denoiser's output became NaN or infinite at timestep 40; try float32"),
    ):
        sample(trace, drawn(trace.model), CONTEXTS, known, samples=12, adapt=False)
    with broken_below(trace.model, 30):
        sample(trace, drawn(trace.model), CONTEXTS, known, samples=12, adapt=False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_works(dtype: torch.dtype) -> None:
    model = in_precision(dtype, "labels")
    trace = generate(model, REQUEST, record=(0,))
    one = sample(trace, trace.latents, Contexts(("0011", ""), ((1, 0),)), trained_levels(model), samples=8)
    assert np.isfinite(one.maps).all()
    assert one.totals[0] > 0
