"""Two profiles are compared step by step, by what both of them kept."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import xarray as xr
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

import sfumato
from sfumato.errors import SfumatoError
from sfumato.metrics.divergence import APART, diverge, parts_in_words
from sfumato.metrics.structure import frobenius, normalised_ssim
from sfumato.models.model import Model
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from tests.labels import REQUEST, square, tiny_labels

LAYERS = ("mid_attn.fn", "downs.0.3")


@pytest.fixture(scope="module")
def model() -> Model:
    return sfumato.wrap(tiny_labels(prediction_type="v_prediction"))


@pytest.fixture(scope="module")
def one(model: Model) -> Explanation:
    return sfumato.explain(model, REQUEST, "profile", layers=LAYERS)


@pytest.fixture(scope="module")
def other(model: Model) -> Explanation:
    return sfumato.explain(model, REQUEST.with_(label="1100"), "profile", layers=LAYERS)


def made_of(latents: list[np.ndarray], times: list[float], like: Explanation) -> Explanation:
    """A profile of nothing but samples."""
    samples = xr.Dataset(
        {
            "latent": (("step", "latent_channel", "y", "x"), np.stack(latents)),
            "picture": (("step", "row", "column", "channel"), np.zeros((len(times), 16, 16, 3), np.uint8)),
        },
        coords={"step": list(range(len(times))), "timestep": ("step", times)},
    )
    nodes = {"image": like.tree["image"].to_dataset(), "samples": samples}
    return Explanation(xr.DataTree.from_dict(nodes), like.request, {})


def test_a_profile_and_itself_never_part(one: Explanation) -> None:
    found = diverge(one, one)
    np.testing.assert_allclose(found.steps["normalised_ssim"].values, 1)
    assert not found.steps["attention"].values[:-1].any()
    assert not found.steps["layers"].values[:, :-1].any()
    assert found.parts_at is None
    assert parts_in_words(found) == "their samples stay alike (normalised SSIM of at least 1.000) to the end"


def test_samples_attention_and_layers_are_compared_at_every_step(one: Explanation, other: Explanation) -> None:
    steps = diverge(one, other).steps
    assert steps["timestep"].values.tolist() == [999.0, 832.0, 666.0, 499.0, 332.0, 166.0, 0.0]
    assert steps["layer"].values.tolist() == list(LAYERS)[::-1]  # in order of execution
    for place in range(7):
        ours, theirs = (made.tree["samples"]["latent"].values[place] for made in (one, other))
        assert float(steps["normalised_ssim"][place]) == pytest.approx(normalised_ssim(ours, theirs))
    for place in range(6):
        ours, theirs = (made.tree["attention_map"]["map"].values[place] for made in (one, other))
        assert float(steps["attention"][place]) == pytest.approx(frobenius(ours, theirs))
        for row, name in enumerate(steps["layer"].values.tolist()):
            ours, theirs = (made.tree[f"activations/{name}"]["map"].values[place] for made in (one, other))
            assert float(steps["layers"][row, place]) == pytest.approx(np.linalg.norm((ours - theirs).ravel()))
    assert float(steps["normalised_ssim"][0]) == 1  # the same noise
    assert np.isnan(steps["attention"].values[-1])  # the final sample is no input of the denoiser
    assert np.isnan(steps["layers"].values[:, -1]).all()


def test_they_part_where_the_samples_first_differ_by_more_than_the_limit(one: Explanation) -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(3, 16, 16))
    noise = rng.normal(size=(3, 16, 16))
    ours = made_of([base, base, base, base], [900.0, 600.0, 300.0, 0.0], one)
    theirs = made_of([base, base + 0.01 * noise, base + 2 * noise, base], [900.0, 600.0, 300.0, 0.0], one)
    found = diverge(ours, theirs)
    assert set(found.steps.data_vars) == {"normalised_ssim"}
    assert found.parts_at == 300
    assert parts_in_words(found) == "their samples part at t = 300"
    assert diverge(ours, theirs, apart=-0.9).parts_at is None
    exact = float(found.steps["normalised_ssim"][1])
    assert APART < exact < 1
    assert diverge(ours, theirs, apart=exact + 1e-6).parts_at == 600
    assert diverge(ours, theirs, apart=exact).parts_at == 300  # as alike as the limit is alike


def test_only_common_steps_and_parts_are_compared(model: Model, one: Explanation) -> None:
    few = sfumato.explain(model, REQUEST, "profile", objects=("samples", "activations"), layers=LAYERS[0], every=3)
    found = diverge(one, few)
    assert found.steps["timestep"].values.tolist() == [999.0, 499.0, 0.0]
    assert found.steps["step"].values.tolist() == [0, 3, 6]
    assert "attention" not in found.steps
    assert found.steps["layer"].values.tolist() == [LAYERS[0]]


def test_rows_are_numbers_by_step(one: Explanation, other: Explanation) -> None:
    rows = diverge(one, other).rows()
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5, 6]
    assert all(set(row) == {"step", "timestep", "normalised_ssim", "attention"} for row in rows)
    assert all(isinstance(value, int | float) for row in rows for value in row.values())


def test_what_is_no_profile_is_named(model: Model, one: Explanation) -> None:
    volume = sfumato.explain(model, REQUEST, "gradient_volume", mask=square(), mode="region", timesteps=500)
    with pytest.raises(SfumatoError, match="the second result holds no samples; make it with --method profile"):
        diverge(one, volume)
    with pytest.raises(SfumatoError, match="the first result holds no samples"):
        diverge(volume, one)


def test_profiles_without_a_common_step_are_refused(one: Explanation) -> None:
    base = np.ones((3, 16, 16))
    with pytest.raises(SfumatoError, match="kept no common timestep; make both with the same steps"):
        diverge(made_of([base], [900.0], one), made_of([base], [901.0], one))


def test_profiles_of_different_sizes_are_refused(one: Explanation) -> None:
    ours, theirs = (made_of([np.ones((3, side, side))], [900.0], one) for side in (16, 8))
    with pytest.raises(SfumatoError, match=re.escape("are of images of different sizes or models")):
        diverge(ours, theirs)


def test_the_final_sample_counts_where_the_schedule_ends_at_zero() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )
    model = sfumato.wrap(DDPMPipeline(unet.eval().requires_grad_(False), DDPMScheduler()))
    ours, theirs = (sfumato.explain(model, Request(seed=seed, steps=4), "profile") for seed in (1, 2))
    steps = diverge(ours, theirs).steps
    last = (made.tree["samples"]["latent"].values[-1] for made in (ours, theirs))
    assert steps["step"].values.tolist() == [0, 1, 2, 3, 4]
    assert float(steps["normalised_ssim"][-1]) == pytest.approx(normalised_ssim(*last))
