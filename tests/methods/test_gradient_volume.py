"""The volume is the derivative that it claims to be, pixel for pixel of the mask."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

import sfumato
from sfumato.errors import BudgetExceeded, OptionError
from sfumato.generation.generate import generate
from sfumato.generation.step_gradients import region_gradients, step_with_gradients
from sfumato.generation.trace import Trace
from sfumato.methods.gradient_volume import thresholded
from sfumato.metrics import effective_area
from sfumato.metrics.structure import maximum_channel
from sfumato.models import noise
from sfumato.models.model import Model
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.upscale import resized
from tests.labels import REQUEST, SIDE, square, tiny_labels
from tests.pipelines import PROMPT, fingerprint

WIDE = Request(PROMPT, seed=2, steps=3, guidance=4.0, height=16, width=24)
TIMES = (990, 500)
LAYERS = ("downs.0.3", "mid_attn.fn", "final_conv.1")


@pytest.fixture(scope="module")
def model() -> Model:
    return sfumato.wrap(tiny_labels())


@pytest.fixture(scope="module")
def trace(model: Model) -> Trace:
    return generate(model, REQUEST, record=True)


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> str:
    return painted(tmp_path_factory.mktemp("mask") / "square.png", square())


@pytest.fixture(scope="module")
def found(model: Model, mask: str) -> Explanation:
    before = fingerprint(model.pipeline)
    made = sfumato.explain(model, REQUEST, "gradient_volume", mask=mask, timesteps=TIMES, layers=LAYERS)
    assert fingerprint(model.pipeline) == before
    assert all(parameter.grad is None for parameter in model.denoiser.parameters())
    return made


def painted(file: Path, inside: NDArray[np.bool_]) -> str:
    """A mask as a picture on disk."""
    Image.fromarray(inside).save(file)
    return str(file)


def volume(explanation: Explanation) -> xr.Dataset:
    return explanation.tree["gradient_volume"].to_dataset()


def next_sum(trace: Trace, step: int, sample: torch.Tensor) -> torch.Tensor:
    """The colours of the next sample summed, (y, x), from one sample (1, channel, y, x)."""
    call = trace.call(step)
    with torch.no_grad():
        rows = torch.cat((sample, sample))
        plain, told = trace.model.denoiser(rows, call.timestep, call.condition, return_dict=False)[0].chunk(2)
    guided = plain + 2.0 * (told - plain)
    return noise.previous(trace.scheduler, guided, sample, call.timestep)[0].sum(0)


def test_a_volume_predicts_what_a_small_change_of_the_sample_does(found: Explanation, trace: Trace) -> None:
    data = volume(found)
    assert data["step"].values.tolist() == [0, 3]
    assert data["timestep"].values.tolist() == [999.0, 499.0]
    generator = torch.Generator().manual_seed(5)
    push = torch.randn(1, 1, SIDE, SIDE, generator=generator).expand(1, 3, SIDE, SIDE)  # alike in all colours
    for place, step in enumerate((0, 3)):
        sample = trace.call(step).sample[1:]
        up, down = (next_sum(trace, step, sample + sign * 1e-2 * push) for sign in (1, -1))
        change = ((up - down) / 2e-2)[torch.from_numpy(square())].numpy()
        predicted = (data["volume"].values[place] * push[0, 0].numpy()).sum((1, 2))
        np.testing.assert_allclose(predicted, change, rtol=0.05, atol=0.05 * np.abs(change).max())


def test_pixels_are_those_of_the_mask_in_reading_order(found: Explanation) -> None:
    data = volume(found)
    places = list(zip(data["pixel_y"].values.tolist(), data["pixel_x"].values.tolist(), strict=True))
    assert places == [(y, x) for y in (4, 5) for x in (4, 5, 6, 7, 8)]
    assert data["volume"].shape == (2, 10, SIDE, SIDE)
    np.testing.assert_array_equal(data["mask"].values, square())


def test_the_effective_area_is_a_mean_over_pixels_so_the_size_of_the_mask_does_not_count(model: Model) -> None:
    """Masks of 1, 5, 20 and 52 pixels at one step: each pixel has the area that it has in every other mask."""
    order = [(y, x) for y in range(4, 12) for x in range(4, 12)]
    areas, pixels = {}, {}
    for count in (1, 5, 20, 52):
        inside = np.zeros((16, 16), bool)
        inside[tuple(zip(*order[:count], strict=True))] = True
        data = volume(sfumato.explain(model, REQUEST, "gradient_volume", mask=inside, timesteps=500))
        found = effective_area(data["volume"].values[0])
        np.testing.assert_allclose(data["effective_area"].values[0], found.mean())
        areas[count], pixels[count] = float(found.mean()), found
    for count in (1, 5, 20):
        np.testing.assert_allclose(pixels[count], pixels[52][:count], rtol=1e-4)
    assert max(areas.values()) < 1.5 * min(areas.values())  # 15, 45, 71 and 82% of a union over pixels


def test_a_region_is_the_sum_of_its_pixels(found: Explanation, model: Model, mask: str) -> None:
    options = {"mask": mask, "timesteps": TIMES, "layers": LAYERS, "mode": "region"}
    region = sfumato.explain(model, REQUEST, "gradient_volume", **options)
    whole, alone = volume(found), volume(region)
    assert "volume" not in alone
    np.testing.assert_allclose(whole["region"].values, whole["volume"].values.sum(1), rtol=1e-6)
    np.testing.assert_allclose(alone["region"].values, whole["region"].values, rtol=1e-3, atol=1e-4)
    for name in LAYERS:
        one, other = (made.tree[f"gradient_maps/{name}"].to_dataset() for made in (found, region))
        top = np.abs(one["map"].values).max()
        np.testing.assert_allclose(other["map"].values, one["map"].values, rtol=1e-3, atol=1e-4 * top)


def test_gradient_maps_are_the_derivatives_of_the_part_by_the_layers(found: Explanation, trace: Trace) -> None:
    for place, step in enumerate((0, 3)):
        stepped = step_with_gradients(trace, step, layers=LAYERS)
        _, *expected = region_gradients(stepped, torch.from_numpy(square()))
        for name, gradient in zip(stepped.features, expected, strict=True):
            data = found.tree[f"gradient_maps/{name}"].to_dataset().isel(step=place)
            values = gradient[0].numpy()
            assert np.abs(values).max() > 0
            np.testing.assert_allclose(data["map"].values, values, rtol=1e-3, atol=1e-4 * np.abs(values).max())
            inside = resized(square(), values.shape[-2:])
            assert int(data["max_channel"]) == maximum_channel(data["map"].values)
            assert int(data["max_channel_in_mask"]) == maximum_channel(data["map"].values, inside)


def test_the_predicted_noise_alone_can_be_derived(found: Explanation, model: Model, trace: Trace, mask: str) -> None:
    options: dict[str, Any] = {"mask": mask, "timesteps": 500, "mode": "region"}
    made = volume(sfumato.explain(model, REQUEST, "gradient_volume", reading="noise", **options))
    assert made.attrs["reading"] == "noise"
    scheduler, call = trace.scheduler, trace.call(3)
    now, after = (scheduler.alphas_cumprod[time] for time in (499, 499 - 1000 // 6))
    # DDIM: the next sample is a x + b eps, so its derivative is a times that of x and b times that of eps
    a = (after / now).sqrt()
    b = (1 - after).sqrt() - a * (1 - now).sqrt()
    assert call.timestep == 499
    expected = 3 * float(a) * square() + float(b) * made["region"].values[0]
    np.testing.assert_allclose(volume(found)["region"].values[1], expected, rtol=1e-3, atol=1e-3)


def test_the_conditional_branch_alone_is_that_of_guidance_one(model: Model, mask: str) -> None:
    options: dict[str, Any] = {"mask": mask, "timesteps": 999, "mode": "region"}
    guided = volume(sfumato.explain(model, REQUEST, "gradient_volume", **options))["region"].values
    alone = volume(sfumato.explain(model, REQUEST, "gradient_volume", branch="conditional", **options))
    plain = volume(sfumato.explain(model, REQUEST.with_(guidance=1.0), "gradient_volume", **options))
    np.testing.assert_allclose(alone["region"].values, plain["region"].values, rtol=1e-4, atol=1e-4)
    assert np.abs(alone["region"].values - guided).max() > 1e-2


def test_a_mask_may_be_an_array(found: Explanation, model: Model) -> None:
    made = sfumato.explain(model, REQUEST, "gradient_volume", mask=square(), timesteps=TIMES)
    xr.testing.assert_equal(volume(made), volume(found))


def test_several_requests_have_a_volume_each(found: Explanation, model: Model, mask: str) -> None:
    requests = [REQUEST.with_(seed=8), REQUEST]
    other, same = sfumato.explain(model, requests, "gradient_volume", mask=mask, timesteps=TIMES)
    np.testing.assert_array_equal(volume(same)["volume"].values, volume(found)["volume"].values)
    assert other.request.seed == 8
    assert not np.array_equal(volume(other)["volume"].values, volume(found)["volume"].values)


def test_thresholding_keeps_what_exceeds_the_mean() -> None:
    values = np.array([[[1.0, 2.0], [3.0, -2.0]]])
    np.testing.assert_array_equal(thresholded(values), [[[0, 2], [3, 0]]])


def test_the_grid_is_that_of_the_latent(tiny_pipeline: StableDiffusionPipeline, tmp_path: Path) -> None:
    model = sfumato.wrap(tiny_pipeline)
    inside = np.zeros((16, 24), bool)
    inside[4:8, 10:16] = True
    inside[0, 0] = True  # a quarter of a cell
    made = sfumato.explain(
        model, WIDE, "gradient_volume", mask=painted(tmp_path / "mask.png", inside), timesteps=(500,)
    )
    data = volume(made)
    cells = list(zip(data["pixel_y"].values.tolist(), data["pixel_x"].values.tolist(), strict=True))
    assert cells == [(y, x) for y in (2, 3) for x in (5, 6, 7)]
    assert data["volume"].shape == (1, 6, 8, 12)
    trace = generate(model, WIDE, record=True)
    step = int(data["step"][0])
    mask = torch.zeros(8, 12)
    mask[3, 6] = 1
    (expected,) = region_gradients(step_with_gradients(trace, step), mask)
    one = data["volume"].values[0, cells.index((3, 6))]
    np.testing.assert_allclose(one, expected[0].sum(0).numpy(), rtol=1e-4, atol=1e-5)


def test_a_mask_smaller_than_a_cell_is_refused(tiny_pipeline: StableDiffusionPipeline, tmp_path: Path) -> None:
    inside = np.zeros((16, 24), bool)
    inside[0, 0] = True
    file = painted(tmp_path / "dot.png", inside)
    with pytest.raises(OptionError, match="the mask is smaller than one cell of the latent"):
        sfumato.explain(sfumato.wrap(tiny_pipeline), WIDE, "gradient_volume", mask=file)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "gradient_volume follows a part of the image; give it: mask=FILE.png or mask=REGION"),
        ({"mask": np.ones((8, 8), bool)}, "the mask is 8 x 8 pixels (height x width), the image 16 x 16"),
        ({"mask": np.ones((16, 16), bool)}, "the mask marks every pixel"),
        ({"mask": np.zeros((16, 16), bool)}, "the mask marks no pixel"),
        ({"mask": "absent.png"}, "the mask 'absent.png' cannot be read: No such file"),
        ({"mask": square(), "reading": "velocity"}, "reading is 'velocity'; choose from: mean, noise"),
        ({"mask": square(), "branch": "negative"}, "branch is 'negative'; choose from: guided, conditional"),
        ({"mask": square(), "mode": "pixel"}, "mode is 'pixel'; choose from: volume, region"),
        ({"mask": square(), "timesteps": ()}, "timesteps is empty; give some, such as 950,700,600,100"),
        ({"mask": square(), "timesteps": (1000,)}, "timesteps has 1000; this model has timesteps 0 to 999"),
        ({"mask": square(), "layers": "mid_atn"}, "no layer matches 'mid_atn'; near are: mid_attn"),
        ({"mask": square(), "budget": -1.0}, "budget is -1.0; expected a number above 0, at most 10000000"),
    ],
)
def test_wrong_options_say_what_to_do(model: Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        sfumato.explain(model, REQUEST, "gradient_volume", **options)


def test_a_volume_beyond_the_budget_is_refused_but_not_its_sum(model: Model) -> None:
    options: dict[str, Any] = {"mask": square(), "budget": 0.01, "timesteps": TIMES}  # 2 * 10 * 256 * 4 bytes
    with pytest.raises(BudgetExceeded, match="the volumes need .* MB; .* take fewer timesteps, .* mode=region"):
        sfumato.explain(model, REQUEST, "gradient_volume", **options)
    made = sfumato.explain(model, REQUEST, "gradient_volume", mode="region", **options)
    assert volume(made)["region"].shape == (2, SIDE, SIDE)


def test_several_images_are_refused(model: Model) -> None:
    with pytest.raises(OptionError, match="gradient_volume follows one image"):
        sfumato.explain(model, REQUEST.with_(images=2), "gradient_volume", mask=square())
