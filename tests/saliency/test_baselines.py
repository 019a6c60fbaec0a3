"""Gradients are derivatives, their integral is complete, and LIME finds the part that decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sfumato
from sfumato.errors import NonFinite
from sfumato.generation.generate import generate
from sfumato.saliency import baselines
from sfumato.saliency.baselines import INTEGRATED, gradient, integrated_gradients, lime_map
from sfumato.saliency.recovering import Recovery
from tests.labels import REQUEST, tiny_labels
from tests.saliency.toy import Function, toy

GRID = (8, 12)


def normal(seed: int, grid: tuple[int, int] = GRID) -> torch.Tensor:
    return torch.randn(1, 3, *grid, generator=torch.Generator().manual_seed(seed))


def test_the_gradient_is_what_small_changes_of_the_latent_do() -> None:
    pipeline = tiny_labels()
    pipeline.unet.double()
    recovery = Recovery(generate(sfumato.wrap(pipeline), REQUEST, record=True), 3)
    found = gradient(recovery)
    assert found.shape == (16, 16)
    call = recovery.trace.call(3)
    sample, condition = call.sample[1:], call.condition[1:]  # type: ignore[index]
    for y, x in ((0, 0), (5, 9), (12, 3)):
        slopes = []
        for channel in range(3):
            change = torch.zeros_like(sample)
            change[0, channel, y, x] = 1e-4
            up, down = (
                pipeline.unet(sample + sign * change, call.timestep, condition).sample.sum() for sign in (1, -1)
            )
            slopes.append(float(up - down) / 2e-4)
        assert np.linalg.norm(slopes) > 0
        assert float(found[y, x]) == pytest.approx(np.linalg.norm(slopes), rel=1e-4)


def test_a_linear_step_has_its_weights_as_gradient_and_their_products_as_integral() -> None:
    weights = normal(1)
    recovery = toy(lambda sample: sample * weights)
    np.testing.assert_allclose(gradient(recovery), weights.norm(dim=1)[0], rtol=1e-5)
    products = (weights * recovery.sample).sum(1)[0]
    np.testing.assert_allclose(integrated_gradients(recovery), products.abs(), rtol=1e-4, atol=1e-6)
    assert recovery.calls == 1 + INTEGRATED


def test_integrated_gradients_sum_to_what_the_latent_adds() -> None:
    weights = normal(1).abs()
    recovery = toy(lambda sample: weights * sample**3, sample=normal(2).abs())  # no part has a negative sum
    found = integrated_gradients(recovery)
    expected = (weights * recovery.sample**3).sum(1)[0]
    np.testing.assert_allclose(found, expected, rtol=2e-3)  # the midpoint rule on a parabola: 1 / (4 * 16^2)
    assert float(found.sum()) == pytest.approx(float(recovery.clean.sum()), rel=2e-3)
    assert not np.allclose(found, (gradient(recovery)), rtol=0.1)


def quarters(colours: int = 4) -> torch.Tensor:
    """A picture of as many flat quarters, (1, 3, y, x), on the grid of a latent of 16 x 16."""
    picture = torch.zeros(1, 3, 16, 16)
    shades = torch.tensor([[-0.9, -0.9, -0.9], [0.9, -0.9, -0.9], [-0.9, 0.9, 0.4], [0.9, 0.9, 0.9]])
    for number in range(4):
        y, x = divmod(number, 2)
        picture[0, :, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] = shades[number % colours, :, None, None]
    return picture


def deciding(part: tuple[slice, slice]) -> Function:
    """Its result is one pattern by as much as a part of the latent is kept, another pattern by the rest."""
    start = toy(lambda sample: sample, grid=(16, 16)).sample[(..., *part)].abs().sum()
    one, other = normal(5, (16, 16)), normal(6, (16, 16))

    def denoise(sample: torch.Tensor) -> torch.Tensor:
        share = (sample[(..., *part)].abs().sum((1, 2, 3)) / start)[:, None, None, None]
        return share * one + (1 - share) * other

    return denoise


@pytest.mark.parametrize("quarter", [0, 3])
def test_lime_finds_the_superpixel_that_decides(quarter: int) -> None:
    y, x = divmod(quarter, 2)
    part = (slice(8 * y, 8 * y + 8), slice(8 * x, 8 * x + 8))
    recovery = toy(deciding(part), grid=(16, 16), decode=lambda clean: quarters().expand(len(clean), -1, -1, -1))
    labels = baselines._superpixels(recovery, baselines.SEGMENTS)
    assert labels.shape == (16, 16)
    assert sorted(set(labels.ravel().tolist())) == list(range(labels.max() + 1))
    assert not set(labels[part].ravel()) & set(labels.ravel()) - set(labels[part].ravel())
    found = lime_map(recovery, 300, seed=0)
    inside = np.zeros((16, 16), bool)
    inside[part] = True
    assert found[inside].min() > np.abs(found[~inside]).max()
    assert np.median(found[inside]) > 10 * np.abs(found[~inside]).mean()
    # all parts of the quarter together: from the other pattern's similarity to 1
    weights = {label: float(found[labels == label][0]) for label in set(labels[part].ravel())}
    assert sum(weights.values()) == pytest.approx(1, abs=0.2)


def test_superpixels_follow_the_colours_of_the_picture() -> None:
    recovery = toy(lambda sample: sample, grid=(16, 16), decode=lambda clean: quarters().expand(len(clean), -1, -1, -1))
    labels = baselines._superpixels(recovery, baselines.SEGMENTS)
    corners = [set(labels[y : y + 8, x : x + 8].ravel().tolist()) for y in (0, 8) for x in (0, 8)]
    for number, corner in enumerate(corners):
        assert all(not corner & other for other in corners[:number])


def test_maps_have_as_many_values_as_the_picture_has_parts() -> None:
    recovery = toy(
        lambda sample: sample * torch.linspace(0.1, 1, 256).reshape(16, 16),
        grid=(16, 16),
        decode=lambda clean: quarters(2).expand(len(clean), -1, -1, -1),
    )
    found = lime_map(recovery, 300, seed=0)
    assert len(np.unique(found)) > 10  # quickshift as Park et al. 2024 use it finds 2 to 4
    assert len(np.unique(lime_map(recovery, 300, seed=0, segments=6))) <= 6
    for samples in (4, 10, 30):
        assert baselines._superpixels(recovery, samples // 2).max() < samples // 2


def test_a_picture_of_one_superpixel_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    recovery = toy(lambda sample: sample)
    monkeypatch.setattr(baselines, "_superpixels", lambda recovery, most: np.zeros(GRID, int))
    np.testing.assert_array_equal(lime_map(recovery, 100, seed=0), np.zeros(GRID))


def test_lime_depends_on_neither_batch_nor_chance_once_all_coalitions_are_listed() -> None:
    part = (slice(0, 8), slice(0, 8))

    def made(rows: int, samples: int = 300, seed: int = 0) -> np.ndarray:
        decode: Function = lambda clean: quarters().expand(len(clean), -1, -1, -1)  # noqa: E731
        return lime_map(toy(deciding(part), grid=(16, 16), decode=decode, rows=rows), samples, seed)

    np.testing.assert_allclose(made(5), made(64), atol=1e-5)
    np.testing.assert_array_equal(made(64), made(64))


def test_gradients_that_are_not_finite_are_an_error() -> None:
    recovery = toy(lambda sample: sample * float("nan"))
    for baseline in (gradient, integrated_gradients):
        with pytest.raises(NonFinite, match="the gradient is NaN or infinite at step 0; try float32"):
            baseline(recovery)
    with pytest.raises(NonFinite, match="the denoiser's output is NaN or infinite at step 0"):
        lime_map(recovery, 100, seed=0)
