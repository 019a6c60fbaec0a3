from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato.errors import OptionError
from sfumato.generation.feature_layers import Layer, attention_layers, chosen, layers_of
from sfumato.generation.generate import generate
from sfumato.generation.recorders.activations import Activations, FeatureMaps, as_map
from sfumato.models.model import Model
from sfumato.request import Request
from tests.families import family
from tests.labels import REQUEST, SIDE, tiny_labels
from tests.pipelines import PROMPT, fingerprint

LANDSCAPE = Request(PROMPT, seed=2, steps=3, guidance=7.5, height=24, width=32)  # latents of 12 x 16
BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
NAMES = ("downs.0.0.net", "downs.0.0", "downs.0.2.fn", "downs.0.3", "downs.1.3", "mid_attn.fn", "ups.0.3")
LAYERS = [Layer(name, "Conv2d", 8, 4, 4) for name in NAMES]


def found(pipeline: Any, request: Request) -> dict[str, Layer]:
    model = sfumato.wrap(pipeline)
    return {layer.name: layer for layer in layers_of(model, model.complete(request))}


def names(*patterns: str) -> list[str]:
    return [layer.name for layer in chosen(patterns, LAYERS)]


# layers_of


@pytest.mark.parametrize(
    ("name", "kind", "shape"),
    [
        ("init_conv", "Conv2d", (8, 16, 16)),
        ("downs.0.0.net", "Sequential", (8, 16, 16)),
        ("downs.0.0.net.1", "Conv2d", (16, 16, 16)),
        ("downs.0.2.fn", "Sequential", (8, 16, 16)),
        ("downs.0.2.fn.1.to_qkv", "Conv2d", (384, 16, 16)),
        ("downs.0.3", "Conv2d", (8, 8, 8)),
        ("downs.1.0", "ConvNextBlock", (16, 8, 8)),
        ("downs.1.3", "Identity", (16, 8, 8)),
        ("mid_block2.res_conv", "Identity", (16, 8, 8)),
        ("ups.0.0", "ConvNextBlock", (8, 8, 8)),
        ("ups.0.3", "ConvTranspose2d", (8, 16, 16)),
        ("final_conv", "Sequential", (3, 16, 16)),
    ],
)
def test_a_layer_of_the_label_model_has_its_shape(name: str, kind: str, shape: tuple[int, int, int]) -> None:
    layer = found(tiny_labels(), REQUEST)[name]
    assert layer == Layer(name, kind, *shape)
    assert layer.bytes == 4 * shape[0] * shape[1] * shape[2]


def test_a_module_without_a_feature_map_is_no_layer() -> None:
    layers = found(tiny_labels(), REQUEST)
    for name in ("time_mlp", "time_mlp.1", "downs.0.0.mlp", "downs.0.0.mlp.1", "downs", "downs.0", ""):
        assert name not in layers, name
    assert len(layers) == len(set(layers))


@pytest.mark.parametrize(
    ("name", "kind", "shape"),
    [
        ("conv_in", "Conv2d", (32, 12, 16)),
        ("down_blocks.0", "DownBlock2D", (32, 6, 8)),
        ("down_blocks.1.attentions.0", "Transformer2DModel", (64, 6, 8)),
        (f"{BLOCK}.norm1", "LayerNorm", (64, 6, 8)),
        (f"{BLOCK}.attn1", "Attention", (64, 6, 8)),
        (f"{BLOCK}.attn1.to_k", "Linear", (64, 6, 8)),
        (f"{BLOCK}.attn2.to_q", "Linear", (64, 6, 8)),
        (f"{BLOCK}.ff", "FeedForward", (64, 6, 8)),
        ("mid_block", "UNetMidBlock2DCrossAttn", (64, 6, 8)),
        ("up_blocks.0", "CrossAttnUpBlock2D", (64, 12, 16)),
        ("conv_out", "Conv2d", (4, 12, 16)),
    ],
)
def test_a_layer_of_stable_diffusion_has_its_shape(
    tiny_pipeline: StableDiffusionPipeline, name: str, kind: str, shape: tuple[int, int, int]
) -> None:
    assert found(tiny_pipeline, LANDSCAPE)[name] == Layer(name, kind, *shape)


def test_keys_of_the_text_are_no_feature_map(tiny_pipeline: StableDiffusionPipeline) -> None:
    layers = found(tiny_pipeline, LANDSCAPE)
    assert f"{BLOCK}.attn1.to_v" in layers
    for name in (f"{BLOCK}.attn2.to_k", f"{BLOCK}.attn2.to_v", "time_embedding"):
        assert name not in layers, name


@pytest.mark.parametrize(("height", "width"), [(16, 24), (24, 16), (32, 48)])
def test_keys_of_the_text_are_no_feature_map_at_two_to_three(
    tiny_pipeline: StableDiffusionPipeline, height: int, width: int
) -> None:
    layers = found(tiny_pipeline, LANDSCAPE.with_(height=height, width=width))
    assert f"{BLOCK}.attn2.to_k" not in layers


def test_a_sequence_becomes_a_map_in_reading_order() -> None:
    positions = torch.arange(48.0).reshape(1, 48, 1)
    features = as_map(positions, (12, 16))
    assert features is not None
    assert torch.equal(features[0, 0], torch.arange(48.0).reshape(6, 8))
    assert as_map(torch.zeros(1, 47, 1), (12, 16)) is None
    assert as_map(torch.zeros(1, 48), (12, 16)) is None
    assert as_map(torch.zeros(1, 4, 6, 8, dtype=torch.int64), (12, 16)) is None


JOINT = ("Stable Diffusion 3", "Flux dev")
"""Image before text, and text before image; the latter also has blocks that hold both in one sequence."""


def joint(name: str) -> tuple[Model, Request]:
    model = family(name).wrapped()
    return model, model.complete(family(name).request())


@pytest.mark.parametrize("name", JOINT)
def test_attention_over_text_and_image_has_feature_maps_of_the_image(name: str) -> None:
    """The part of the image in what a plain hook sees, at every site, also where both are in one sequence."""
    model, request = joint(name)
    sites = {site.name: site for site in model.sites()}
    height, width = model.token_grid(request)
    layers = attention_layers(model, layers_of(model, request))
    assert [layer.name for layer in layers] == list(sites)
    assert {(layer.channels, layer.height, layer.width) for layer in layers} == {(32, height, width)}

    taken: dict[str, torch.Tensor] = {}
    plain: dict[str, torch.Tensor] = {}

    def take(layer: str, step: int, maps: torch.Tensor) -> None:
        taken[layer] = maps

    def see(layer: str, output: Any) -> None:
        plain[layer] = output[0] if isinstance(output, tuple) else output

    hooks = [
        model.denoiser.get_submodule(layer).register_forward_hook(
            lambda module, args, output, layer=layer: see(layer, output)
        )
        for layer in sites
    ]
    try:
        generate(model, request, attachments=[Activations(list(sites), take)])
    finally:
        for hook in hooks:
            hook.remove()
    for layer, site in sites.items():
        sequence = plain[layer][-1]  # of the conditional row, (position, channel)
        image = sequence[-height * width :] if site.text_first else sequence[: height * width]
        torch.testing.assert_close(taken[layer][0], image.T.reshape(32, height, width), rtol=0, atol=0)
    assert any(len(plain[layer][0]) > height * width for layer in sites) is (name == "Flux dev")


@pytest.mark.parametrize("name", JOINT)
def test_as_many_tokens_as_a_smaller_grid_are_no_feature_map(name: str) -> None:
    """The latent is 16 x 24 and its tokens 8 x 12; a text of 24 tokens would fill 4 x 6."""
    model, request = joint(name)
    maps = FeatureMaps(model, request)
    assert as_map(torch.zeros(1, 24, 32), model.latent_grid(request)) is not None
    assert maps.of("context_embedder", torch.zeros(1, 24, 32)) is None
    assert maps.of("context_embedder", torch.zeros(1, 96 + 24, 32)) is None
    image = maps.of("x_embedder", torch.zeros(1, 96, 32))
    assert image is not None
    assert image.shape == (1, 32, 8, 12)


def test_layers_come_in_order_of_execution(tiny_pipeline: StableDiffusionPipeline) -> None:
    order = list(found(tiny_labels(), REQUEST))
    told = ["init_conv", *NAMES, "final_conv.1", "final_conv"]
    assert [name for name in order if name in told] == told
    assert order.index("downs.0.0.net.4") == order.index("downs.0.0.net") - 1  # a part is done before the whole
    text = list(found(tiny_pipeline, LANDSCAPE))
    told = ["conv_in", "down_blocks.0", f"{BLOCK}.attn1", f"{BLOCK}.attn2", "mid_block", "up_blocks.0", "conv_out"]
    assert [name for name in text if name in told] == told


def test_finding_layers_calls_the_denoiser_once_and_leaves_nothing_behind() -> None:
    pipeline = tiny_labels()
    model = sfumato.wrap(pipeline)
    calls: list[int] = []
    hook = pipeline.unet.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    before = fingerprint(pipeline)
    layers_of(model, model.complete(REQUEST.with_(images=3, steps=50)))
    assert calls == [2]  # one image, with and without its label
    assert fingerprint(pipeline) == before
    hook.remove()
    own = pipeline([3], num_inference_steps=6, guidance_scale=2.0, generator=torch.Generator().manual_seed(3))
    assert own.images[0].tobytes() == generate(model, REQUEST).images[0].tobytes()


def test_nothing_stays_hooked_when_the_denoiser_fails(tiny_sd: Callable[..., StableDiffusionPipeline]) -> None:
    pipeline = tiny_sd()

    def fail(*given: Any) -> None:
        raise ZeroDivisionError

    pipeline.unet.mid_block.register_forward_hook(fail)
    before = fingerprint(pipeline)
    with pytest.raises(ZeroDivisionError):
        found(pipeline, LANDSCAPE)
    assert fingerprint(pipeline) == before


# chosen


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("downs.0.3", ["downs.0.3"]),
        ("downs.*.3", ["downs.0.3", "downs.1.3"]),
        ("downs.*", []),  # one part of a name only, and no layer has two parts
        ("*.fn", ["mid_attn.fn"]),
        ("**.fn", ["downs.0.2.fn", "mid_attn.fn"]),
        ("downs.**", ["downs.0.0.net", "downs.0.0", "downs.0.2.fn", "downs.0.3", "downs.1.3"]),
        ("**", list(NAMES)),
        ("downs.?.3", ["downs.0.3", "downs.1.3"]),
        ("downs?0.3", []),  # not the dot
        ("*s.0.3", ["downs.0.3", "ups.0.3"]),
        ("downs.0", []),  # a name means itself only, not what lies inside
    ],
)
def test_a_glob_means_these_layers(pattern: str, expected: list[str]) -> None:
    if expected:
        assert names(pattern) == expected
    else:
        with pytest.raises(OptionError, match="no layer matches"):
            names(pattern)


def test_chosen_layers_come_once_and_in_order_of_execution() -> None:
    assert names("ups.0.3", "downs.0.3", "downs.*.3") == ["downs.0.3", "downs.1.3", "ups.0.3"]


def test_a_dot_in_a_pattern_is_a_dot() -> None:
    layers = [Layer("mid_attn.fn", "Sequential", 8, 4, 4), Layer("mid_attn-fn", "Sequential", 8, 4, 4)]
    assert chosen(["mid_attn.fn"], layers) == layers[:1]


def test_an_unknown_name_lists_near_ones() -> None:
    with pytest.raises(OptionError, match=r"no layer matches 'mid_atn.fn'; near are: mid_attn.fn") as error:
        names("downs.0.3", "mid_atn.fn")
    assert "`sfumato layers MODEL` lists all" in str(error.value)
    with pytest.raises(OptionError, match=r"near are: downs.0.0.net, downs.0.0, downs.0.2.fn, downs.0.3 \("):
        names("qqqq")


def test_names_of_a_real_model_can_be_chosen() -> None:
    layers = list(found(tiny_labels(), REQUEST).values())
    assert [layer.name for layer in chosen(["**.fn"], layers)] == [
        "downs.0.2.fn",
        "downs.1.2.fn",
        "mid_attn.fn",
        "ups.0.2.fn",
    ]
    assert {layer.height for layer in chosen(["downs.0.**", "final_conv"], layers)} == {SIDE, SIDE // 2}
