"""An ablation does to the image what setting the channel by hand does, and says how much that was."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from sfumato.errors import OptionError
from sfumato.generation.generate import generate
from sfumato.generation.step_gradients import region_gradients, step_with_gradients
from sfumato.metrics.structure import normalised_ssim
from sfumato.models.model import Model
from sfumato.request import Request
from sfumato.results.upscale import resized
from tests.labels import REQUEST, square, tiny_labels
from tests.pipelines import PROMPT, fingerprint

WIDE = Request(PROMPT, seed=2, steps=3, guidance=4.0, height=16, width=24)
SOFT = REQUEST.with_(guidance=1.5)


@pytest.fixture(scope="module")
def model() -> Model:
    """A model whose velocity is predicted: its images are not cut off at black and white."""
    return sfumato.wrap(tiny_labels(prediction_type="v_prediction"))


@pytest.fixture(scope="module")
def plain(model: Model) -> NDArray[np.int64]:
    return pixels_of(model, SOFT)


def pixels_of(model: Model, request: Request) -> NDArray[np.int64]:
    return np.asarray(generate(model, request).images[0]).astype(int)


def ablated(model: Model, **options: Any) -> xr.Dataset:
    """The node of an ablation, which must leave no hook behind."""
    before = fingerprint(model.pipeline)
    found = sfumato.explain(model, SOFT, "ablation", **options)
    assert fingerprint(model.pipeline) == before
    return found.tree["ablation"].to_dataset()


@contextmanager
def hooked(model: Model, layer: str, change: Callable[[torch.Tensor], None], *, before: bool = False) -> Iterator[None]:
    """A hook of PyTorch's own that changes a copy of a layer's output, or of its input."""
    module = model.denoiser.get_submodule(layer)

    def changed(values: torch.Tensor) -> torch.Tensor:
        copied = values.clone()
        change(copied)
        return copied

    if before:
        hook = module.register_forward_pre_hook(lambda module, args: (changed(args[0]), *args[1:]))
    else:
        hook = module.register_forward_hook(lambda module, args, output: changed(output))
    try:
        yield
    finally:
        hook.remove()


def zero(*channels: int) -> Callable[[torch.Tensor], None]:
    def change(values: torch.Tensor) -> None:
        values[:, list(channels)] = 0

    return change


def mean(values: torch.Tensor) -> None:
    values[:, 3] = values[:, 3].mean((1, 2), keepdim=True)


def halve(values: torch.Tensor) -> None:
    values[:, 3] *= 0.5


@pytest.mark.parametrize(
    ("options", "layer", "change"),
    [
        ({"channels": "downs.0.3:3"}, "downs.0.3", zero(3)),
        ({"channels": ("mid_attn:1", "mid_attn:7")}, "mid_attn", zero(1, 7)),
        ({"channels": "ups.0.1:3", "how": "mean"}, "ups.0.1", mean),
        ({"channels": "downs.0.1:3", "how": "scale", "factor": 0.5}, "downs.0.1", halve),
    ],
)
def test_an_ablation_equals_a_hook_that_does_the_same(
    model: Model, plain: NDArray[np.int64], options: dict[str, Any], layer: str, change: Any
) -> None:
    with hooked(model, layer, change):
        expected = pixels_of(model, SOFT)
    assert np.abs(expected - plain).max() > 3
    data = ablated(model, **options)
    np.testing.assert_array_equal(data["picture"].values, expected)
    assert float(data["normalised_ssim"]) == pytest.approx(
        normalised_ssim(plain.transpose(2, 0, 1), expected.transpose(2, 0, 1))
    )
    moved = np.abs(expected - plain).max(-1) / 255
    np.testing.assert_allclose(data["moved"].values, moved, atol=1e-6)
    np.testing.assert_array_equal(data["changed"].values, moved > 0.1)


def test_a_head_is_what_it_hands_to_the_projection(model: Model, plain: NDArray[np.int64]) -> None:
    attention = model.denoiser.get_submodule("mid_attn.fn.1")
    width = attention.to_out[0].in_channels // attention.heads  # type: ignore[index,operator,union-attr]
    with hooked(model, "mid_attn.fn.1.to_out.0", zero(*range(2 * width, 3 * width)), before=True):
        expected = pixels_of(model, SOFT)
    assert np.abs(expected - plain).max() > 3
    found = sfumato.explain(model, SOFT, "ablation", heads="mid_attn.fn:2")
    np.testing.assert_array_equal(found.tree["ablation"]["picture"].values, expected)
    assert "ablated_layers" not in found.tree.children


def test_the_image_of_the_explanation_is_the_plain_one(model: Model, plain: NDArray[np.int64]) -> None:
    found = sfumato.explain(model, SOFT, "ablation", channels="init_conv:0")
    np.testing.assert_array_equal(np.asarray(found.image), plain)


def test_a_change_of_nothing_changes_nothing(model: Model, plain: NDArray[np.int64]) -> None:
    data = ablated(model, channels="mid_attn:0", how="scale", factor=1.0)
    np.testing.assert_array_equal(data["picture"].values, plain)
    assert float(data["normalised_ssim"]) == 1
    assert not data["moved"].values.any()


def test_steps_limit_the_change(model: Model) -> None:
    found = sfumato.explain(model, SOFT, "ablation", channels="init_conv:2", steps=(4, 5))
    data = found.tree["ablated_layers/init_conv"].to_dataset()
    assert data["step"].values.tolist() == [0, 1, 2, 3, 4, 5]
    assert data["channel"].values.tolist() == [2]
    np.testing.assert_array_equal(data["after"].values[:4], data["before"].values[:4])
    assert (data["before"].values[4:] != 0).any()
    always = sfumato.explain(model, SOFT, "ablation", channels="init_conv:2")
    late, whole = (float(made.tree["ablation"]["normalised_ssim"]) for made in (found, always))
    assert late > whole


def test_activations_before_and_after_are_those_of_the_two_runs(model: Model) -> None:
    seen: list[torch.Tensor] = []
    hook = model.denoiser.get_submodule("mid_attn").register_forward_hook(
        lambda module, args, output: seen.append(output[1])
    )
    try:
        generate(model, SOFT)
    finally:
        hook.remove()
    found = sfumato.explain(model, SOFT, "ablation", channels=("mid_attn:5", "mid_attn:2", "downs.0.3:1"))
    assert list(found.tree["ablated_layers"].children) == ["mid_attn", "downs.0.3"]
    data = found.tree["ablated_layers/mid_attn"].to_dataset()
    assert data["channel"].values.tolist() == [5, 2]
    np.testing.assert_array_equal(data["before"].values, torch.stack(seen)[:, [5, 2]].numpy())


def test_activations_after_an_ablation_are_ablated(model: Model) -> None:
    data = sfumato.explain(model, SOFT, "ablation", channels="mid_attn:5").tree["ablated_layers/mid_attn"].to_dataset()
    assert (data["before"].values != 0).any()
    np.testing.assert_array_equal(data["after"].values, np.zeros((6, 1, 8, 8)))


def test_a_sweep_ablates_the_maximum_channel_of_every_layer(model: Model) -> None:
    profile = sfumato.explain(model, SOFT, "profile", objects="activations", layers="downs.**", timesteps=200)
    layers = list(profile.tree["activations"].children)
    data = sfumato.explain(model, SOFT, "ablation", sweep="downs.**").tree["sweep"].to_dataset()
    assert data["layer"].values.tolist() == layers
    assert len(layers) > 8  # more than a batch
    expected = [int(profile.tree[f"activations/{name}"]["max_channel"][0]) for name in layers]
    assert data["channel_number"].values.tolist() == expected
    for place in (0, 7, 8, len(layers) - 1):
        single = ablated(model, channels=f"{layers[place]}:{expected[place]}")
        difference = data["picture"].values[place].astype(int) - single["picture"].values
        assert np.abs(difference).max() <= 1
        assert float(data["normalised_ssim"][place]) == pytest.approx(float(single["normalised_ssim"]), abs=0.02)


def test_a_sweep_by_gradients_finds_the_channel_of_the_masked_part(model: Model) -> None:
    names = ("downs.0.3", "mid_attn.fn", "ups.0.3")
    options: dict[str, Any] = {"sweep": names, "by": "gradients", "mask": square(), "at": 500}
    data = sfumato.explain(model, SOFT, "ablation", **options).tree["sweep"].to_dataset()
    trace = generate(model, SOFT, record=True)
    _, *found = region_gradients(step_with_gradients(trace, 3, layers=names), torch.from_numpy(square()))
    weights = [torch.from_numpy(resized(square(), tuple(one.shape[-2:]))) for one in found]
    expected = [int((one[0] * part).sum((1, 2)).argmax()) for one, part in zip(found, weights, strict=True)]
    assert data["channel_number"].values.tolist() == expected


def test_a_ranking_has_every_channel_of_a_layer_in_order_of_its_effect(model: Model) -> None:
    data = sfumato.explain(model, SOFT, "ablation", rank="downs.0.3").tree["sweep"].to_dataset()
    assert sorted(data["channel_number"].values.tolist()) == list(range(8))
    assert (np.diff(data["normalised_ssim"].values) >= 0).all()
    assert data["normalised_ssim"].values[0] < data["normalised_ssim"].values[-1]
    first = ablated(model, channels=f"downs.0.3:{int(data['channel_number'][0])}")
    assert np.abs(first["picture"].values.astype(int) - data["picture"].values[0]).max() <= 1


def test_a_ranking_with_a_mask_is_by_the_change_inside(model: Model, plain: NDArray[np.int64]) -> None:
    data = sfumato.explain(model, SOFT, "ablation", rank="mid_attn", mask=square()).tree["sweep"].to_dataset()
    assert (np.diff(data["change_in_mask"].values) <= 0).all()
    moved = np.abs(data["picture"].values.astype(int) - plain).max(-1) / 255
    np.testing.assert_allclose(data["change_in_mask"].values, moved[:, square()].mean(1), atol=1e-6)
    np.testing.assert_allclose(data["change_outside"].values, moved[:, ~square()].mean(1), atol=1e-6)


def test_layers_and_heads_of_stable_diffusion(tiny_pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(tiny_pipeline)
    attention = "mid_block.attentions.0.transformer_blocks.0.attn1"
    found = sfumato.explain(model, WIDE, "ablation", channels=f"{attention}:3", heads=f"{attention}:1")
    assert found.tree[f"ablated_layers/{attention}"]["before"].shape == (3, 1, 4, 6)
    assert found.tree["ablation"]["picture"].shape == (16, 24, 3)
    assert float(found.tree["ablation"]["normalised_ssim"]) < 1


def test_a_mask_may_be_a_picture(model: Model, tmp_path: Path) -> None:
    Image.fromarray(square()).save(tmp_path / "mask.png")
    data = ablated(model, channels="mid_attn:0", mask=str(tmp_path / "mask.png"))
    np.testing.assert_array_equal(data["mask"].values, square())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "say what to ablate, in one way: channels=LAYER:CHANNEL and heads=LAYER:HEAD, sweep=LAYERS, or rank"),
        ({"channels": "mid_attn:0", "sweep": "downs.*.3"}, "say what to ablate, in one way"),
        ({"sweep": "downs.*.3", "rank": "mid_attn"}, "say what to ablate, in one way"),
        ({"channels": "mid_atn:0"}, "no layer matches 'mid_atn'; near are: mid_attn"),
        ({"heads": "mid_atn:0"}, "no layer matches 'mid_atn'"),
        ({"sweep": "nothing.*"}, "no layer matches 'nothing.*'"),
        ({"rank": "mid_atn"}, "no layer matches 'mid_atn'"),
        ({"channels": "mid_attn:16"}, "mid_attn has channels 0 to 15; there is no channel 16"),
        ({"heads": "mid_attn.fn:4"}, "mid_attn.fn has 4 heads; there is no head 4"),
        ({"heads": "downs.0.3:0"}, "downs.0.3 is no attention with heads"),
        ({"channels": ("mid_attn:1", "downs.0.3:1", "mid_attn:1")}, "channels names mid_attn:1 twice"),
        ({"heads": ("mid_attn.fn:1", "mid_attn.fn:1")}, "heads names mid_attn.fn:1 twice"),
        ({"channels": "mid_attn"}, "channels has 'mid_attn'; expected LAYER:NUMBER, such as downs.0.3:41"),
        ({"channels": "mid_attn:"}, "expected LAYER:NUMBER"),
        ({"channels": "mid_attn:-1"}, "expected LAYER:NUMBER"),
        ({"heads": ":3"}, "heads has ':3'; expected LAYER:NUMBER"),
        ({"channels": "mid_attn:0", "steps": (2, 6)}, "steps has 6; this run has steps 0 to 5"),
        ({"channels": "mid_attn:0", "how": "noise"}, "how is 'noise'; choose from: zero, mean, scale"),
        ({"sweep": "mid_attn", "by": "size"}, "by is 'size'; choose from: activations, gradients"),
        ({"sweep": "mid_attn", "by": "gradients"}, "by=gradients needs a mask"),
        ({"sweep": "mid_attn", "at": 1000}, "1000; this model has timesteps 0 to 999"),
    ],
)
def test_wrong_options_say_what_to_do(model: Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        sfumato.explain(model, SOFT, "ablation", **options)


def test_a_channel_belongs_to_one_layer(model: Model) -> None:
    with pytest.raises(OptionError, match=r"downs\.\*\.3"):
        sfumato.explain(model, SOFT, "ablation", channels="downs.*.3:0")


def test_a_single_step_may_be_given_as_a_number(model: Model) -> None:
    one, same = (ablated(model, channels="mid_attn:0", steps=steps) for steps in (3, (3,)))
    xr.testing.assert_equal(one, same)


def test_gradients_of_a_mask_smaller_than_a_cell_are_refused(tiny_pipeline: StableDiffusionPipeline) -> None:
    dot = np.zeros((16, 24), bool)
    dot[0, 0] = True
    with pytest.raises(OptionError, match="smaller than one cell of the latent"):
        sfumato.explain(sfumato.wrap(tiny_pipeline), WIDE, "ablation", sweep="mid_block", by="gradients", mask=dot)


def test_several_images_are_refused(model: Model) -> None:
    with pytest.raises(OptionError, match="ablation follows one image"):
        sfumato.explain(model, SOFT.with_(images=2), "ablation", channels="mid_attn:0")
