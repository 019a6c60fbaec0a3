from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from torch import nn

import sfumato
from sfumato.errors import ModelError, NonFinite, SfumatoError
from sfumato.generation.generate import generate
from sfumato.pipelines.label_pipeline import LabelPipeline
from sfumato.pipelines.label_unet import LabelUNet
from sfumato.request import Request
from tests.labels import REQUEST, SIDE, tiny_labels
from tests.pipelines import fingerprint

PLAIN = Request(seed=5, steps=4)
ATTENTIONS = ("downs.0.2.fn", "downs.1.2.fn", "mid_attn.fn", "ups.0.2.fn")


def unconditional(kind: type = DDPMPipeline, channels: int = 3) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        unet = UNet2DModel(
            sample_size=SIDE,
            in_channels=channels,
            out_channels=channels,
            layers_per_block=1,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            attention_head_dim=4,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )
    scheduler = DDPMScheduler() if kind is DDPMPipeline else DDIMScheduler()
    pipeline = kind(unet.eval().requires_grad_(False), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def ddim_pipeline() -> Any:
    return unconditional(DDIMPipeline)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def label_unet(labels: int) -> LabelUNet:
    return LabelUNet(SIDE, dim=8, dim_mults=(1, 2), labels=labels)


# the image


@pytest.mark.parametrize("label", ["0011", None])
@pytest.mark.parametrize("guidance", [None, 1.0, 3.0])
def test_labels_draw_exactly_the_pipelines_own_image(label: str | None, guidance: float | None) -> None:
    pipeline = tiny_labels()
    request = REQUEST.with_(label=label, guidance=guidance)
    trace = generate(sfumato.wrap(pipeline), request)
    number = None if label is None else 3
    scale = 1.0 if label is None or guidance is None else guidance
    own = pipeline([number], num_inference_steps=6, guidance_scale=scale, generator=generators(3))
    np.testing.assert_array_equal(np.asarray(trace.images[0]), np.asarray(own.images[0]))
    latents = pipeline([number], num_inference_steps=6, guidance_scale=scale, generator=generators(3), output_type="np")
    assert torch.equal((trace.latents / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1), torch.from_numpy(latents.images))


@pytest.mark.parametrize("kind", [DDPMPipeline, DDIMPipeline])
def test_unconditional_pipelines_draw_exactly_their_own_image(kind: type) -> None:
    pipeline = unconditional(kind)
    trace = generate(sfumato.wrap(pipeline), PLAIN)
    own = pipeline(batch_size=1, generator=generators(5), num_inference_steps=4).images[0]
    np.testing.assert_array_equal(np.asarray(trace.images[0]), np.asarray(own))
    assert trace.branches.names == ("conditional",)


@pytest.mark.parametrize("build", [tiny_labels, unconditional, ddim_pipeline])
def test_two_images_of_a_batch_are_those_drawn_alone(build: Callable[[], Any]) -> None:
    model = sfumato.wrap(build())
    request = REQUEST if isinstance(model.pipeline, LabelPipeline) else PLAIN
    both = generate(model, request.with_(images=2)).latents
    assert both.shape == (2, 3, SIDE, SIDE)
    for item in range(2):
        alone = generate(model, request.with_(seed=request.seed + item)).latents
        # kernels of a batch round in another order than those of one image: up to 2e-4 on a CPU with AVX2
        torch.testing.assert_close(both[item : item + 1], alone, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(both[0], both[1], atol=1e-2)


def test_requests_of_one_batch_may_have_labels_of_their_own() -> None:
    model = sfumato.wrap(tiny_labels())
    requests = [REQUEST, REQUEST.with_(label="1100")]
    trace = generate(model, requests, record=True)
    assert torch.equal(trace.calls[0].condition, torch.tensor([16, 16, 3, 12]))
    for item, request in enumerate(requests):
        alone = generate(model, request).latents
        torch.testing.assert_close(trace.latents[item : item + 1], alone, rtol=1e-4, atol=1e-3)


def test_guidance_weighs_the_two_branches_as_the_source_does() -> None:
    pipeline, w = tiny_labels(), 1.5
    trace = generate(sfumato.wrap(pipeline), REQUEST.with_(steps=1, guidance=1 + w), record=True)
    noise = torch.randn((1, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(3))
    conditional = pipeline.unet(noise, 999, torch.tensor([3])).sample
    unconditional = pipeline.unet(noise, 999).sample
    mixed = (1 + w) * conditional - w * unconditional
    alpha = pipeline.scheduler.alphas_cumprod[999]
    # the only step of DDIM ends at the clean image that it sees
    torch.testing.assert_close(trace.latents, (noise - (1 - alpha).sqrt() * mixed) / alpha.sqrt(), rtol=1e-4, atol=1e-3)
    assert float((conditional - unconditional).abs().max()) > 1e-3
    torch.testing.assert_close(trace.calls[0].output, torch.cat((unconditional, conditional)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["ddpm", "ddim", "euler", "pndm", "heun"])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_labels_are_drawn_by_every_scheduler(name: str) -> None:
    pipeline = tiny_labels()
    trace = generate(sfumato.wrap(pipeline), REQUEST.with_(scheduler=name))
    classes = {"euler": "EulerDiscrete", "heun": "HeunDiscrete"}
    scheduler = getattr(diffusers, classes.get(name, name.upper()) + "Scheduler")
    more = {"skip_prk_steps": True} if name == "pndm" else {}
    by_hand = LabelPipeline(pipeline.unet, scheduler.from_config(pipeline.scheduler.config, **more))
    by_hand.set_progress_bar_config(disable=True)
    own = by_hand([3], num_inference_steps=6, guidance_scale=2.0, generator=generators(3), output_type="latent").images
    assert torch.equal(trace.latents, own)
    assert torch.isfinite(own).all()
    assert float(own.std()) > 0.1
    assert isinstance(pipeline.scheduler, DDIMScheduler)


def test_a_ddpm_pipeline_takes_ddim_for_one_run() -> None:
    pipeline = unconditional()
    by_ddim = generate(sfumato.wrap(pipeline), PLAIN.with_(scheduler="ddim")).latents
    own = DDIMPipeline(pipeline.unet, DDIMScheduler.from_config(pipeline.scheduler.config))
    own.set_progress_bar_config(disable=True)
    pixels = own(batch_size=1, generator=generators(5), num_inference_steps=4, output_type="np").images
    assert torch.equal(by_ddim, torch.from_numpy(pixels).permute(0, 3, 1, 2) * 2 - 1)
    assert isinstance(pipeline.scheduler, DDPMScheduler)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(DDPMPipeline, "pndm"), (DDPMPipeline, "heun"), (DDIMPipeline, "ddpm"), (DDIMPipeline, "euler")],
)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_scheduler_that_an_unconditional_pipeline_cannot_call_is_an_error(kind: type, name: str) -> None:
    with pytest.raises(SfumatoError, match=name):
        generate(sfumato.wrap(unconditional(kind)), PLAIN.with_(scheduler=name))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_ddpm_pipeline_never_draws_with_noise_that_is_not_scaled() -> None:
    with pytest.raises(SfumatoError, match="euler"):
        generate(sfumato.wrap(unconditional()), PLAIN.with_(scheduler="euler"))


# the label


def test_a_label_is_a_tile_of_its_bits() -> None:
    unet = label_unet(16)
    both = unet.spread(torch.tensor([3, 9]), 4, 4)
    assert both.shape == (2, 1, 4, 4)
    lines = torch.tensor([[-1.0, -1, -1, -1], [1, 1, 1, 1]]).repeat(2, 1)  # 0011
    crossed = torch.tensor([[1.0, -1, 1, -1], [-1, 1, -1, 1]]).repeat(2, 1)  # 1001
    assert torch.equal(both[0, 0], lines)
    assert torch.equal(both[1, 0], crossed)
    assert torch.equal(unet.spread(torch.tensor([9]), 3, 5)[0, 0], crossed.repeat(1, 2)[:3, :5])


@pytest.mark.parametrize(
    ("labels", "number", "tile"),
    [
        (2, 1, [[1.0]]),
        (4, 2, [[1.0, -1], [0, 0]]),
        (8, 6, [[1.0, 1], [-1, 0]]),
        (32, 21, [[1.0, -1, 1], [-1, 1, 0], [0, 0, 0]]),
    ],
)
def test_a_tile_has_room_for_every_bit(labels: int, number: int, tile: list[list[float]]) -> None:
    side = len(tile)
    assert torch.equal(label_unet(labels).spread(torch.tensor([number]), side, side)[0, 0], torch.tensor(tile))


def test_no_label_is_a_channel_of_zeros() -> None:
    pipeline = tiny_labels()
    unet = pipeline.unet
    assert torch.equal(unet.spread(torch.tensor([16]), 4, 4), torch.zeros(1, 1, 4, 4))
    assert int((unet.spread(torch.arange(16), 4, 4) == 0).sum()) == 0
    sample = torch.randn((1, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    assert torch.equal(unet(sample, 10).sample, unet(sample, 10, torch.tensor([16])).sample)
    assert not torch.equal(unet(sample, 10).sample, unet(sample, 10, torch.tensor([0])).sample)
    model = sfumato.wrap(pipeline)
    assert torch.equal(model.encode(["0011", "", "1111"]), torch.tensor([3, 16, 15]))
    assert generate(model, REQUEST.with_(label=None), record=True).calls[0].condition.tolist() == [16]


@pytest.mark.parametrize("label", ["1010", "1111"])
def test_a_number_above_the_last_label_is_refused(label: str) -> None:
    model = sfumato.wrap(LabelPipeline(label_unet(10).eval(), tiny_labels().scheduler))
    with pytest.raises(ModelError, match=label):
        model.complete(Request(label=label))


# the network


def test_the_layers_have_the_names_of_the_source() -> None:
    with torch.device("meta"):
        source = LabelUNet()  # of the size in the source: 64 pixels, widths 64 to 512
    kinds = {
        "downs.0.0.net": nn.Sequential,
        "downs.0.0.ds_conv": nn.Conv2d,
        "downs.0.2.fn": nn.Sequential,
        "downs.0.3": nn.Conv2d,
        "downs.3.3": nn.Identity,
        "mid_block1.net": nn.Sequential,
        "mid_attn.fn": nn.Sequential,
        "mid_block2.res_conv": nn.Identity,
        "ups.0.3": nn.ConvTranspose2d,
        "ups.2.2.fn": nn.Sequential,
        "final_conv": nn.Sequential,
    }
    for name, kind in kinds.items():
        assert type(source.get_submodule(name)) is kind, name
    assert (len(source.downs), len(source.ups)) == (4, 3)
    assert source.downs[3][0].res_conv.weight.shape == (512, 256, 1, 1)
    tiny = tiny_labels().unet
    for name in ("downs.0.0.net", "downs.0.2.fn", "downs.0.3", "mid_attn.fn", "mid_block2.res_conv", "ups.0.3"):
        assert tiny.get_submodule(name) is not None, name


def test_the_sites_are_the_attentions_in_order_of_execution() -> None:
    sites = sfumato.wrap(tiny_labels()).sites()
    assert [site.name for site in sites] == list(ATTENTIONS)
    assert [site.place for site in sites] == ["down", "down", "mid", "up"]
    found = sfumato.wrap(unconditional()).sites()
    assert [site.place for site in found] == ["down", "mid", "up", "up"]
    assert {site.kind for site in (*sites, *found)} == {"self"}


def test_the_latent_of_pixels_is_the_image() -> None:
    model = sfumato.wrap(unconditional(channels=1))
    trace = generate(model, PLAIN)
    assert (trace.latents.shape, trace.images[0].mode) == ((1, 1, SIDE, SIDE), "L")
    image = model.decode(trace.latents)
    assert torch.equal(image, trace.latents.expand(-1, 3, -1, -1))
    assert torch.equal(model.embed(image), trace.latents)
    assert model.latent_grid(PLAIN) == (SIDE, SIDE)
    np.testing.assert_allclose((image[0, 0] / 2 + 0.5) * 255, np.asarray(trace.images[0]), atol=0.51)


# replays, folders, and what must stay as it was


def test_a_replay_gives_the_recorded_output() -> None:
    model = sfumato.wrap(tiny_labels())
    before = fingerprint(model.pipeline)
    guided, plain = (generate(model, REQUEST.with_(guidance=scale), record=True) for scale in (2.0, 1.0))
    assert torch.equal(plain.replay(4), plain.call(4).output)
    for row, branch in enumerate(("unconditional", "conditional")):
        replayed = guided.replay(4, branch=branch)
        torch.testing.assert_close(replayed, guided.call(4).output[row : row + 1], rtol=0, atol=1e-5)
    other = guided.replay(4, condition=model.encode([""]))
    torch.testing.assert_close(other, guided.call(4).output[:1], rtol=0, atol=1e-5)
    assert fingerprint(model.pipeline) == before


@pytest.mark.parametrize("kind", [DDPMPipeline, DDIMPipeline])
def test_a_replay_without_a_condition_gives_the_recorded_output(kind: type) -> None:
    trace = generate(sfumato.wrap(unconditional(kind)), PLAIN, record=True)
    assert [call.step for call in trace.calls] == [0, 1, 2, 3]
    assert trace.calls[0].condition is None
    assert torch.equal(trace.replay(2), trace.call(2).output)


def test_a_saved_label_pipeline_draws_the_same_image(tmp_path: Path) -> None:
    pipeline = tiny_labels()
    pipeline.save_pretrained(tmp_path / "faces")
    loaded = sfumato.load(tmp_path / "faces", device="cpu")
    assert (loaded.source.name, loaded.family, "label" in loaded.features) == ("faces", "pixel", True)
    drawn = generate(loaded, REQUEST)
    assert torch.equal(drawn.latents, generate(sfumato.wrap(pipeline), REQUEST).latents)
    assert not any(weight.requires_grad for weight in loaded.denoiser.parameters())


def test_a_saved_ddpm_pipeline_draws_the_same_image(tmp_path: Path) -> None:
    pipeline = unconditional()
    pipeline.save_pretrained(tmp_path / "plain")
    loaded = sfumato.load(tmp_path / "plain", device="cpu")
    drawn, own = (generate(model, PLAIN).latents for model in (loaded, sfumato.wrap(pipeline)))
    # not bit for bit: kernels may depend on where in memory the weights lie, which a file maps otherwise
    torch.testing.assert_close(drawn, own, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("build", [tiny_labels, unconditional, ddim_pipeline])
def test_a_run_leaves_the_pipeline_as_it_was(build: Callable[[], Any]) -> None:
    pipeline = build()
    model = sfumato.wrap(pipeline)
    request = REQUEST if isinstance(pipeline, LabelPipeline) else PLAIN
    pipeline.unet.train()
    hooks = {name: len(module._forward_hooks) for name, module in pipeline.unet.named_modules()}
    before = fingerprint(pipeline)
    generate(model, request, record=True).replay(1)
    assert fingerprint(pipeline) == before
    assert {name: len(module._forward_hooks) for name, module in pipeline.unet.named_modules()} == hooks
    assert pipeline.unet.training


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("build", [tiny_labels, unconditional, ddim_pipeline])
def test_weights_that_are_not_finite_name_the_step(build: Callable[[], Any], value: float) -> None:
    pipeline = build()
    labelled = isinstance(pipeline, LabelPipeline)
    last = pipeline.unet.final_conv[1] if labelled else pipeline.unet.conv_out
    with torch.no_grad():
        last.bias.fill_(value)
    before = fingerprint(pipeline)
    steps = 6 if labelled else 4
    with pytest.raises(NonFinite, match=rf"output became NaN or infinite at step 1 of {steps}; no result was made"):
        generate(sfumato.wrap(pipeline), REQUEST if labelled else PLAIN)
    assert fingerprint(pipeline) == before


def test_an_output_that_breaks_later_names_its_step() -> None:
    pipeline = unconditional()
    seen: list[int] = []

    def spoil(module: Any, args: Any, output: Any) -> Any:
        seen.append(1)
        return type(output)(sample=output.sample * float("nan")) if len(seen) == 3 else output

    pipeline.unet.register_forward_hook(spoil)
    with pytest.raises(NonFinite, match="at step 3 of 4"):
        generate(sfumato.wrap(pipeline), PLAIN)
    assert len(seen) == 3


# requests that cannot be


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(label="011"), "the label is '011'; expected 4 bits, such as '0011'"),
        (Request(label="0121"), "the label is '0121'; expected 4 bits, such as '0011'"),
        (Request("a cat", label="0011"), "LabelPipeline takes no text; leave out the prompt"),
        (Request(negative_prompt="fog"), "takes no text; leave out the negative prompt"),
        (Request(height=24), "height is 24; this model makes images of 16 pixels only"),
        (Request(width=8), "width is 8; this model makes images of 16 pixels only"),
        (Request(strength=0.5), "starts from noise and takes no strength"),
        (Request(scheduler="best"), "no scheduler 'best' fits this model; choose from: ddim, ddpm"),
    ],
)
def test_a_label_model_refuses_what_it_cannot_draw(request_: Request, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        generate(sfumato.wrap(tiny_labels()), request_)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(label="0011"), "DDPMPipeline has no labels; leave out the label"),
        (Request(guidance=2.0), "has no condition to guide it; leave out the guidance"),
        (Request("a cat"), "DDPMPipeline takes no text; leave out the prompt"),
        (Request(height=32), "height is 32; this model makes images of 16 pixels only"),
    ],
)
def test_an_unconditional_model_refuses_what_it_cannot_draw(request_: Request, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        generate(sfumato.wrap(unconditional()), request_)


def test_pixels_have_neither_words_nor_a_text_condition() -> None:
    plain, labelled = sfumato.wrap(unconditional()), sfumato.wrap(tiny_labels())
    with pytest.raises(ModelError, match="DDPMPipeline has no condition: neither text nor labels"):
        plain.encode(["0011"])
    with pytest.raises(ModelError, match="takes no text, so it has no words"):
        labelled.tokens("0011")
    with pytest.raises(ModelError, match="the label is '1'; expected 4 bits"):
        labelled.encode(["1"])
    assert labelled.unknown_words("a cat") == ()


def test_open_fields_are_filled_from_the_model() -> None:
    labelled = sfumato.wrap(tiny_labels())
    done = labelled.complete(Request(label="0011"))
    assert (done.steps, done.guidance, done.height, done.width, done.scheduler) == (50, 1.0, SIDE, SIDE, "ddim")
    assert labelled.complete(Request(guidance=4.0)).guidance == 1.0  # nothing to guide by
    assert labelled.branches(labelled.complete(REQUEST)).names == ("unconditional", "conditional")
    assert sfumato.wrap(unconditional()).complete(Request(guidance=1.0)).guidance == 1.0
