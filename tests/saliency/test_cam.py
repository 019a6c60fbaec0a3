"""All layers in one pass are what a pass for each layer gives, and one layer is Grad-CAM by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato.errors import NonFinite
from sfumato.generation.feature_layers import chosen, layers_of
from sfumato.generation.generate import generate
from sfumato.methods.df_cam import _usual
from sfumato.models.model import Model
from sfumato.request import Request
from sfumato.saliency.cam import LAYERS, cam, on_grid
from sfumato.saliency.recovering import Recovery
from tests.labels import REQUEST, tiny_labels
from tests.pipelines import PROMPT, SD15_NARROW, fingerprint, stable_diffusion

WIDE = Request(PROMPT, seed=2, steps=2, guidance=4.0, height=16, width=24)
LABEL_LAYERS = ("downs.0.3", "mid_attn", "ups.0.0.net", "ups.0.2.fn", "final_conv.0")
TEXT_LAYERS = ("down_blocks.1.attentions.0", "mid_block.resnets.1", "up_blocks.0.attentions.1", "up_blocks.1.resnets.0")


@pytest.fixture(scope="module")
def labels() -> Recovery:
    return Recovery(generate(sfumato.wrap(tiny_labels()), REQUEST, record=True), 3)


def text(pipeline: StableDiffusionPipeline) -> Recovery:
    return Recovery(generate(sfumato.wrap(pipeline), WIDE, record=True), 1)


def one_by_one(
    recovery: Recovery, layers: Sequence[str], branch: str = "conditional", weights: torch.Tensor | None = None
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Feature maps and their gradients (channel, y, x), by a call of the denoiser for each layer."""
    call, unet = recovery.trace.call(recovery.step), recovery.trace.model.denoiser
    row = 0 if branch == "unconditional" else -1
    found = {}
    for name in layers:
        kept: list[torch.Tensor] = []

        def keep(module: Any, args: Any, output: Any, kept: list[torch.Tensor] = kept) -> None:
            kept.append(output[0] if isinstance(output, tuple) else getattr(output, "sample", output))

        hook = unet.get_submodule(name).register_forward_hook(keep)
        sample = call.sample[[row]].clone().requires_grad_(True)
        condition = None if call.condition is None else call.condition[[row]]
        output = unet(sample, call.timestep, condition, return_dict=False)[0]
        hook.remove()
        total = output.sum() if weights is None else (output * weights).sum()
        (gradient,) = torch.autograd.grad(total, kept[-1:])
        found[name] = kept[-1].detach()[0], gradient[0]
    return found


def by_hand(features: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Grad-CAM, channel by channel."""
    total = torch.zeros(features.shape[-2:])
    for one, slope in zip(features, gradient, strict=True):
        total += slope.sum() / slope.numel() * one
    return torch.maximum(total, torch.zeros(()))


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert float(expected.max()) > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


def test_one_pass_gives_what_a_pass_for_each_layer_gives(labels: Recovery) -> None:
    before = fingerprint(labels.trace.model.pipeline)
    sample = labels.trace.call(3).sample.clone()
    found = cam(labels, LABEL_LAYERS)
    assert fingerprint(labels.trace.model.pipeline) == before
    assert torch.equal(labels.trace.call(3).sample, sample)
    assert not labels.sample.requires_grad
    assert list(found) == list(LABEL_LAYERS)
    for name, (features, gradient) in one_by_one(labels, LABEL_LAYERS).items():
        close(found[name], by_hand(features, gradient))


def test_one_pass_gives_the_same_on_attention_and_residual_blocks(tiny_pipeline: StableDiffusionPipeline) -> None:
    recovery = text(tiny_pipeline)
    found = cam(recovery, TEXT_LAYERS)
    assert [tuple(one.shape) for one in found.values()] == [(4, 6), (4, 6), (4, 6), (8, 12)]
    for name, (features, gradient) in one_by_one(recovery, TEXT_LAYERS).items():
        close(found[name], by_hand(features, gradient))


def test_the_last_layer_is_the_output_itself(labels: Recovery) -> None:
    call = labels.trace.call(3)
    expected = F.relu(call.output[-1].sum(0))  # dy/dA is 1 everywhere
    close(cam(labels, ["final_conv"])["final_conv"], expected)
    mask = torch.zeros(16, 16)
    mask[2:6, 3:11] = 1
    close(cam(labels, ["final_conv"], mask)["final_conv"], expected * 32 / 256)
    weights = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    weighed = F.relu(torch.einsum("c,cyx->yx", weights[0].mean((1, 2)), call.output[-1]))
    close(cam(labels, ["final_conv"], weights)["final_conv"], weighed)


@pytest.mark.parametrize("sign", [1, -1])
def test_weights_count_in_the_derivative_of_every_layer(labels: Recovery, sign: int) -> None:
    weights = torch.zeros(16, 16)
    weights[4:6, 4:9] = sign
    found = cam(labels, LABEL_LAYERS, weights)
    expected = {name: by_hand(*both) for name, both in one_by_one(labels, LABEL_LAYERS, weights=weights).items()}
    seen = [name for name in LABEL_LAYERS if expected[name].any()]  # elsewhere all is below 0
    assert len(seen) >= 3
    for name in seen:
        close(found[name], expected[name])
    assert not any(found[name].any() for name in LABEL_LAYERS if name not in seen)


@pytest.mark.parametrize("mix", [1.0, 4.0])
def test_both_branches_are_mixed_as_guidance_mixes_them(labels: Recovery, mix: float) -> None:
    found = cam(labels, LABEL_LAYERS, mix=mix)
    told, plain = (one_by_one(labels, LABEL_LAYERS, branch) for branch in ("conditional", "unconditional"))
    for name in LABEL_LAYERS:
        features, gradient = (
            without + mix * (own - without) for own, without in zip(told[name], plain[name], strict=True)
        )
        close(found[name], by_hand(features, gradient))
    alone = cam(labels, LABEL_LAYERS)
    same = [np.allclose(found[name], alone[name], rtol=1e-3, atol=1e-5) for name in LABEL_LAYERS]
    assert all(same) if mix == 1 else not any(same)


def test_without_guidance_there_is_nothing_to_mix() -> None:
    recovery = Recovery(generate(sfumato.wrap(tiny_labels()), REQUEST.with_(guidance=1.0), record=True), 3)
    for name, found in cam(recovery, LABEL_LAYERS, mix=4.0).items():
        np.testing.assert_array_equal(found, cam(recovery, LABEL_LAYERS)[name])
    assert recovery.calls == 1 + len(LABEL_LAYERS)


def test_maps_are_resampled_and_brought_to_one_range() -> None:
    small = torch.tensor([[0.0, 2.0], [4.0, 8.0]])
    whole = torch.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(on_grid(whole, (2, 3)), whole / 5)
    np.testing.assert_allclose(on_grid(7 * whole + 3, (2, 3)), whole / 5, atol=1e-6)
    np.testing.assert_array_equal(on_grid(torch.full((2, 2), 3.0), (2, 3)), 0)
    large = on_grid(small, (4, 8))
    assert large.shape == (4, 8)
    assert (float(large.min()), float(large.max())) == (0, 1)
    # (1, 2) lies a quarter of a cell below, and an eighth right of, the middle of the first cell
    assert float(large[1, 2]) == pytest.approx((0.75 * (7 * 0 + 1 * 2) / 8 + 0.25 * (7 * 4 + 1 * 8) / 8) / 8)


def test_the_usual_layers_of_stable_diffusion_are_those_of_the_source() -> None:
    model: Model = sfumato.wrap(stable_diffusion(SD15_NARROW))
    known = layers_of(model, model.complete(Request("a red cat", steps=1, height=64, width=64)))
    names = [layer.name for layer in chosen(_usual(known), known)]
    assert len(names) == 43
    kinds = {layer.kind for layer in known if layer.name in names}
    assert kinds == {"ResnetBlock2D", "Transformer2DModel", "Downsample2D", "Upsample2D"}
    assert [name for name in names if name.startswith("mid")] == ["mid_block.resnets.0", "mid_block.resnets.1"]
    assert len(LAYERS) == len(set(LAYERS))


def test_the_usual_layers_of_a_pixel_model_are_its_blocks() -> None:
    model = sfumato.wrap(tiny_labels())
    known = layers_of(model, model.complete(REQUEST))
    names = [layer.name for layer in chosen(_usual(known), known)]
    assert {name.partition(".")[0] for name in names} == {"downs", "mid_block1", "mid_block2", "ups"}
    others = [layer for layer in known if layer.name.startswith("final_conv")]
    assert _usual(others) == ["**"]


def test_a_gradient_that_is_not_finite_is_an_error(labels: Recovery) -> None:
    before = fingerprint(labels.trace.model.pipeline)
    with pytest.raises(NonFinite, match=r"the gradient at downs.0.3 is NaN or infinite at step 3; try float32"):
        cam(labels, LABEL_LAYERS, torch.full((16, 16), float("nan")))
    assert fingerprint(labels.trace.model.pipeline) == before
