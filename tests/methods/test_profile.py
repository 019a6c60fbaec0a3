"""The profile holds what the generation itself did, step by step, and watching changes nothing."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from diffusers import DDPMPipeline, DDPMScheduler, StableDiffusionPipeline, UNet2DModel
from PIL import Image

import sfumato
from sfumato.errors import BudgetExceeded, ModelError, OptionError, StoreError
from sfumato.generation.feature_layers import layers_of
from sfumato.generation.generate import generate
from sfumato.generation.step_gradients import region_gradients, step_with_gradients
from sfumato.generation.trace import Trace
from sfumato.metrics.structure import frobenius, maximum_channel, normalised_ssim
from sfumato.models import schedulers
from sfumato.models.model import Model
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.upscale import resized
from tests.families import family
from tests.labels import REQUEST, square, tiny_labels
from tests.pipelines import PROMPT, fingerprint

WIDE = Request(PROMPT, seed=2, steps=3, guidance=4.0, height=16, width=24)
ATTENTION = ("downs.0.2.fn", "downs.1.2.fn", "mid_attn.fn", "ups.0.2.fn")


@pytest.fixture(scope="module")
def model() -> Model:
    return sfumato.wrap(tiny_labels())


@pytest.fixture(scope="module")
def trace(model: Model) -> Trace:
    return generate(model, REQUEST, record=True)


@pytest.fixture(scope="module")
def found(model: Model, mask: str) -> Explanation:
    before = fingerprint(model.pipeline)
    profile = sfumato.explain(model, REQUEST, "profile", mask=mask)
    assert fingerprint(model.pipeline) == before
    return profile


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("mask") / "square.png"
    Image.fromarray(square()).save(file)
    return str(file)


def node(explanation: Explanation, name: str) -> xr.Dataset:
    return explanation.tree[name].to_dataset()


def outputs_of(model: Model, request: Request, layers: tuple[str, ...]) -> dict[str, list[torch.Tensor]]:
    """What hooks of PyTorch's own see of layers, one output (row, ...) for each step."""
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
    hooks = [
        model.denoiser.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: seen[name].append(output)
        )
        for name in layers
    ]
    try:
        generate(model, request)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def test_watching_does_not_change_the_image(found: Explanation, trace: Trace) -> None:
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(trace.images[0]))


def test_samples_are_the_inputs_of_the_denoiser_and_the_final_latent(found: Explanation, trace: Trace) -> None:
    samples = node(found, "samples")
    inputs = [trace.call(step).sample[1] for step in range(6)]
    expected = torch.stack([*inputs, trace.latents[0]])
    np.testing.assert_array_equal(samples["latent"].values, expected.numpy())
    assert samples["timestep"].values.tolist() == [*(trace.call(step).timestep for step in range(6)), 0.0]
    np.testing.assert_array_equal(samples["picture"].values[-1], np.asarray(found.image))


def test_clean_estimates_are_those_of_the_guided_output(found: Explanation, model: Model, trace: Trace) -> None:
    for step in range(6):
        call = trace.call(step)
        guided = call.output[:1] + 2.0 * (call.output[1:] - call.output[:1])
        expected = model.clean(guided, call.sample[1:], call.timestep)[0]
        estimate = node(found, "clean")["latent"].values[step]
        np.testing.assert_allclose(estimate, expected.numpy(), rtol=1e-5, atol=1e-4)


def test_the_trajectory_compares_consecutive_samples(found: Explanation) -> None:
    latents = node(found, "samples")["latent"].values
    expected = [normalised_ssim(one, other) for one, other in zip(latents[1:], latents[:-1], strict=True)]
    trajectory = node(found, "trajectory")
    np.testing.assert_allclose(trajectory["normalised_ssim"].values, expected)
    assert trajectory["step"].values.tolist() == [1, 2, 3, 4, 5, 6]


def test_activations_are_the_conditional_outputs_of_the_layers(found: Explanation, model: Model) -> None:
    seen = outputs_of(model, REQUEST, ATTENTION)
    assert tuple(found.tree["activations"].children) == ATTENTION
    for name in ATTENTION:
        data = node(found, f"activations/{name}")
        maps = torch.stack([output[1] for output in seen[name]]).numpy()
        np.testing.assert_array_equal(data["map"].values, maps)
        assert data["max_channel"].values.tolist() == [int(one.sum((1, 2)).argmax()) for one in maps]
        inside = resized(square(), maps.shape[-2:])
        expected = [int((one * inside).sum((1, 2)).argmax()) for one in maps]
        assert data["max_channel_in_mask"].values.tolist() == expected
        moved = [np.linalg.norm((one - other).ravel()) for one, other in zip(maps[1:], maps[:-1], strict=True)]
        assert np.isnan(data["distance"].values[0])
        np.testing.assert_allclose(data["distance"].values[1:], moved, rtol=1e-5)


def test_the_attention_map_sums_channels_and_layers_bilinearly(found: Explanation, model: Model) -> None:
    seen = outputs_of(model, REQUEST, ATTENTION)
    maps = node(found, "attention_map")["map"].values
    for step in range(6):
        sums = [seen[name][step][1:].sum(1, keepdim=True) for name in ATTENTION]
        scaled = [F.interpolate(one, (16, 16), mode="bilinear", align_corners=False)[0, 0] for one in sums]
        np.testing.assert_allclose(maps[step], torch.stack(scaled).sum(0).numpy(), rtol=1e-4, atol=1e-4)


def test_maximum_channel_and_distance_of_small_arrays() -> None:
    features = np.zeros((3, 4, 4))
    features[1, 0, 0], features[2] = 9, 0.5
    corner = np.ones((4, 4))
    corner[0, 0] = 0
    assert maximum_channel(features) == 1
    assert maximum_channel(features, corner) == 2
    assert frobenius([[3, 0]], [[0, 4]]) == 5
    assert normalised_ssim(features, features) == 1


def test_gradients_are_those_of_the_masked_part(model: Model, trace: Trace, mask: str) -> None:
    layers = ("downs.0.3", "mid_attn.fn")
    found = sfumato.explain(model, REQUEST, "profile", objects="gradients", layers=layers, mask=mask, every=2)
    assert set(found.tree.children) == {"image", "gradients", "mask"}
    np.testing.assert_array_equal(node(found, "mask")["mask"].values, square())
    for place, step in enumerate((0, 2, 4)):
        stepped = step_with_gradients(trace, step, layers=layers)
        _, *expected = region_gradients(stepped, torch.from_numpy(square()))
        for name, gradient in zip(layers, expected, strict=True):
            data = node(found, f"gradients/{name}")
            assert float(gradient.abs().max()) > 0
            np.testing.assert_allclose(data["map"].values[place], gradient[0].numpy(), rtol=1e-4, atol=1e-6)
            assert int(data["max_channel"][place]) == int(gradient[0].sum((1, 2)).argmax())


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"every": 1}, [0, 1, 2, 3, 4, 5]),
        ({"every": 4}, [0, 4]),
        ({"timesteps": (166, 990)}, [0, 5]),
        ({"timesteps": 500}, [3]),
        ({"timesteps": (700, 680, 0)}, [2, 5]),
    ],
)
def test_steps_can_be_chosen(model: Model, trace: Trace, options: dict[str, Any], steps: list[int]) -> None:
    found = sfumato.explain(model, REQUEST, "profile", objects=("samples", "ssim", "attention"), **options)
    assert node(found, "samples")["step"].values.tolist() == [*steps, 6]
    assert node(found, "attention_map")["step"].values.tolist() == steps
    assert node(found, "trajectory").sizes["step"] == 6
    latents = node(found, "samples")["latent"].values[:-1]
    np.testing.assert_array_equal(latents, np.stack([trace.call(step).sample[1].numpy() for step in steps]))


def test_about_ten_steps_of_a_long_run_are_kept(model: Model) -> None:
    found = sfumato.explain(model, REQUEST.with_(steps=31), "profile", objects=("clean", "ssim"))
    assert node(found, "clean")["step"].values.tolist() == list(range(0, 31, 3))
    assert node(found, "trajectory").sizes["step"] == 31


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ("downs.*.3", ["downs.0.3", "downs.1.3"]),
        (("mid_attn", "ups.0.0"), ["mid_attn", "ups.0.0"]),
        ("**.fn", list(ATTENTION)),
    ],
)
def test_layers_can_be_chosen(model: Model, patterns: Any, names: list[str]) -> None:
    found = sfumato.explain(model, REQUEST, "profile", objects="activations", layers=patterns, timesteps=500)
    assert set(found.tree.children) == {"image", "activations"}
    assert list(found.tree["activations"].children) == names


@pytest.mark.parametrize("one", ["samples", "clean", "ssim", "attention", "activations"])
def test_objects_can_be_asked_for_one_by_one(model: Model, found: Explanation, one: str) -> None:
    alone = sfumato.explain(model, REQUEST, "profile", objects=one)
    name = {"ssim": "trajectory", "attention": "attention_map"}.get(one, one)
    assert set(alone.tree.children) == {"image", name}
    for part in alone.tree[name].subtree:
        whole = found.tree[part.path].to_dataset()
        data = part.to_dataset()
        xr.testing.assert_equal(whole[list(data.data_vars)], data)


def test_a_wide_image_of_a_latent_model(tiny_pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(tiny_pipeline)
    trace = generate(model, WIDE, record=True)
    found = sfumato.explain(model, WIDE, "profile", layers="down_blocks.0.resnets.0")
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(trace.images[0]))
    samples = node(found, "samples")
    expected = torch.stack([*(trace.call(step).sample[1] for step in range(3)), trace.latents[0]])
    np.testing.assert_array_equal(samples["latent"].values, expected.numpy())
    assert samples["picture"].shape == (4, 16, 24, 3)
    assert np.abs(samples["picture"].values[-1].astype(int) - np.asarray(found.image)).max() <= 1
    sites = tuple(site.name for site in model.sites() if site.kind == "self")
    seen = outputs_of(model, WIDE, sites)
    sums = [seen[name][1][1].sum(1).reshape(1, 1, 4, 6) for name in sites]
    scaled = [F.interpolate(one, (8, 12), mode="bilinear", align_corners=False)[0, 0] for one in sums]
    maps = node(found, "attention_map")["map"].values
    np.testing.assert_allclose(maps[1], torch.stack(scaled).sum(0).numpy(), rtol=1e-4, atol=1e-4)
    assert node(found, "activations/down_blocks.0.resnets.0")["map"].shape == (3, 32, 8, 12)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers with numpy 2
def test_a_scheduler_that_scales_its_input(tiny_pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(tiny_pipeline)
    request = WIDE.with_(scheduler="euler")
    latents: list[torch.Tensor] = []

    def keep(pipeline: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        latents.append(values["latents"][0])
        return values

    found = sfumato.explain(model, request, "profile", objects=("samples", "clean"))
    trace = generate(model, request, record=True)
    with schedulers.using(tiny_pipeline, model.complete(request)):
        model.call([model.complete(request)], keep)
    samples = node(found, "samples")["latent"].values
    np.testing.assert_allclose(samples[1:], torch.stack(latents).numpy(), rtol=1e-4, atol=1e-5)
    call = trace.call(0)
    guided = call.output[:1] + 4.0 * (call.output[1:] - call.output[:1])
    expected = model.clean(guided, call.sample[1:], call.timestep)[0]
    np.testing.assert_allclose(node(found, "clean")["latent"].values[0], expected.numpy(), rtol=1e-4, atol=1e-4)


def test_an_unconditional_model() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=(8, 12),
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )
    pipeline = DDPMPipeline(unet.eval().requires_grad_(False), DDPMScheduler(clip_sample=False))
    model = sfumato.wrap(pipeline)
    request = Request(seed=1, steps=4)
    trace = generate(model, request, record=True)
    found = sfumato.explain(model, request, "profile")
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(trace.images[0]))
    samples, clean = node(found, "samples")["latent"].values, node(found, "clean")["latent"].values
    for step in range(4):
        call = trace.call(step)
        np.testing.assert_array_equal(samples[step], call.sample[0].numpy())
        expected = model.clean(call.output, call.sample, call.timestep)[0]
        np.testing.assert_allclose(clean[step], expected.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(samples[-1], trace.latents[0].numpy())
    assert list(found.tree["activations"].children) == [site.name for site in model.sites()]


def test_joint_attention_is_profiled_as_any_other() -> None:
    """Stable Diffusion 3: attention over text and image, of which the image's positions are kept."""
    sd3 = family("Stable Diffusion 3")
    model, request = sd3.wrapped(), sd3.request()
    sites = tuple(site.name for site in model.sites())
    assert {site.kind for site in model.sites()} == {"joint"}
    found = sfumato.explain(model, request, "profile")
    assert tuple(found.tree["activations"].children) == sites
    seen = outputs_of(model, request, sites)
    for step in range(2):
        maps = [seen[name][step][0][1].T.reshape(1, 32, 8, 12) for name in sites]  # type: ignore[index]
        for name, one in zip(sites, maps, strict=True):
            np.testing.assert_array_equal(node(found, f"activations/{name}")["map"].values[step], one[0].numpy())
        sums = [one.sum(1, keepdim=True) for one in maps]
        scaled = [F.interpolate(one, (16, 24), mode="bilinear", align_corners=False)[0, 0] for one in sums]
        expected = torch.stack(scaled).sum(0).numpy()
        np.testing.assert_allclose(node(found, "attention_map")["map"].values[step], expected, rtol=1e-4, atol=1e-4)


def test_gradients_reach_joint_attention() -> None:
    sd3 = family("Stable Diffusion 3")
    inside = np.zeros((64, 96), bool)
    inside[:32, :32] = True
    found = sfumato.explain(sd3.wrapped(), sd3.request(), "profile", objects="gradients", mask=inside)
    for data in found.tree["gradients"].children.values():
        assert data["map"].shape == (2, 32, 8, 12)
        assert np.abs(data["map"].values[0]).sum() > 0


def test_what_cannot_be_profiled_is_refused_and_never_empty() -> None:
    flux = family("Flux dev")
    with pytest.raises(ModelError, match="profile needs replay, which FluxPipeline"):
        sfumato.explain(flux.wrapped(), flux.request(), "profile")
    bare = sfumato.wrap(without_attention())
    with pytest.raises(OptionError, match="has no attention over the image, so there is no attention map; choose"):
        sfumato.explain(bare, Request(seed=1, steps=2), "profile", objects="attention")
    found = sfumato.explain(bare, Request(seed=1, steps=2), "profile")
    assert list(found.tree["activations"].children)  # the outputs of blocks


def without_attention() -> DDPMPipeline:
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        norm_num_groups=4,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        add_attention=False,
    )
    return DDPMPipeline(unet.eval().requires_grad_(False), DDPMScheduler(clip_sample=False))


def test_a_profile_beyond_the_budget_names_its_largest_part(model: Model) -> None:
    expected = r"needs 2\.44 MB; the budget is 0.1 MB; the largest part is activations/downs\.0\.2\.fn\.1\.to_qkv"
    with pytest.raises(BudgetExceeded, match=expected):
        sfumato.explain(model, REQUEST, "profile", layers=("downs.0.2.fn.1.to_qkv", "mid_attn"), budget=0.1)
    with pytest.raises(BudgetExceeded, match="the largest part is clean"):
        sfumato.explain(model, REQUEST, "profile", objects=("clean", "attention"), budget=0.01)


def test_a_streamed_profile_is_the_same_and_leaves_nothing_behind(
    model: Model, found: Explanation, mask: str, tmp_path: Path
) -> None:
    place = tmp_path / "runs" / "face.partial"
    streamed = sfumato.explain(model, REQUEST, "profile", mask=mask, stream=str(place))
    assert not place.exists()
    xr.testing.assert_identical(streamed.tree, found.tree)


KILLED = """
import os, signal, sys
import sfumato
from tests.families import family
from tests.labels import REQUEST, tiny_labels

def kill(what, done, total):
    if done == 4:
        os.kill(os.getpid(), signal.SIGKILL)

sfumato.explain(sfumato.wrap(tiny_labels()), REQUEST, "profile", stream=sys.argv[1], progress=kill)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_what_a_killed_run_leaves_can_be_opened(
    model: Model, found: Explanation, root: Path, tmp_path: Path, mask: str
) -> None:
    place = tmp_path / "face.partial"
    run = subprocess.run([sys.executable, "-c", KILLED, str(place)], cwd=root, capture_output=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    left = sfumato.open(place)
    assert left.request == model.complete(REQUEST)
    assert left.provenance["partial"] is True
    assert left.provenance["method"] == "profile"
    count = left.tree["clean"].sizes["step"]
    assert 3 <= count < 6
    for name in ("samples", "clean", "attention_map", "activations/mid_attn.fn"):
        some = node(left, name)
        whole = node(found, name)[list(some.data_vars)].isel(step=slice(some.sizes["step"]))
        assert some.sizes["step"] >= count
        xr.testing.assert_equal(some, whole)
    assert left.tree["trajectory"].sizes["step"] >= count - 1
    np.testing.assert_array_equal(np.asarray(left.image), node(left, "clean")["picture"].values[-1])
    again = sfumato.explain(model, REQUEST, "profile", stream=str(place), mask=mask)  # over what was left
    xr.testing.assert_identical(again.tree, found.tree)
    assert not place.exists()


def test_a_stream_never_replaces_other_files(model: Model, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(StoreError, match="is not empty and no stream of Sfumato; name another folder"):
        sfumato.explain(model, REQUEST, "profile", stream=str(tmp_path))
    assert (tmp_path / "thesis.tex").read_text() == "important"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objects": ("samples", "smell")}, "objects is 'smell'; choose from: samples, clean, ssim"),
        ({"objects": ()}, "objects is empty"),
        ({"every": -1}, "every is -1; expected a whole number from 0"),
        ({"every": 6}, "every is 6; this run has 6 steps, so take at most 5"),
        ({"every": 2, "timesteps": (5,)}, "every and timesteps were both given"),
        ({"timesteps": (500, 1000)}, "timesteps has 1000; this model has timesteps 0 to 999"),
        ({"timesteps": (-1,)}, "timesteps is -1"),
        ({"layers": "mid_atn.fn"}, "no layer matches 'mid_atn.fn'; near are: mid_attn.fn"),
        ({"objects": "gradients"}, "gradients are those of a part of the image; give it: mask=REGION"),
        ({"mask": "nose"}, "the mask 'nose' cannot be read: No such file"),
        ({"budget": 0.0}, "budget is 0.0; expected a number above 0, at most 10000000"),
    ],
)
def test_wrong_options_say_what_to_do(model: Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        sfumato.explain(model, REQUEST, "profile", **options)


def test_every_layer_that_is_listed_can_be_kept(tiny_pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(tiny_pipeline)
    listed = [layer.name for layer in layers_of(model, model.complete(WIDE))]
    found = sfumato.explain(model, WIDE, "profile", objects="activations", layers="**")
    assert list(found.tree["activations"].children) == listed


def test_timesteps_that_are_text_are_refused(model: Model) -> None:
    with pytest.raises(OptionError, match="timesteps"):
        sfumato.explain(model, REQUEST, "profile", timesteps="950")


def test_several_images_are_refused(model: Model) -> None:
    with pytest.raises(OptionError, match="profile follows one image; explain each seed by itself"):
        sfumato.explain(model, REQUEST.with_(images=2), "profile")
