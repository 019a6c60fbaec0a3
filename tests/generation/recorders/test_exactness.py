"""Watching changes nothing: not the image, and not the pipeline, however the run ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers import schedulers as diffusers_schedulers
from diffusers.models.attention_processor import AttnProcessor

import sfumato
from sfumato.errors import CannotWatch, SfumatoError
from sfumato.generation.context import Attachment
from sfumato.generation.generate import generate
from sfumato.generation.recorders.attention import Attention
from sfumato.generation.recorders.reduce import AttentionSums
from sfumato.request import Request
from tests.generation.recorders.explicit_attention import cross_attention, hand_made_softmax, run_plainly, written_out
from tests.generation.recorders.watchers import Failing, Keeping, Seeing
from tests.pipelines import PROMPT, ddim, fingerprint, stable_diffusion

# diffusers turns tensors into arrays in a way that NumPy 2 is going to drop
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE: dict[str, Any] = {"height": 32, "width": 48}
Build = Callable[..., StableDiffusionPipeline]


def all_watchers(pipeline: StableDiffusionPipeline, guided: bool = True) -> list[Attachment]:
    """Everything at once: sums of both branches with all axes kept, whole maps, self-attention."""
    sites = [site for site in sfumato.wrap(pipeline).sites() if site.kind == "cross"]
    watchers: list[Attachment] = [
        AttentionSums(sites, "conditional", range(11), ("step", "layer", "head")),
        Keeping(),
        Seeing(lambda attention, run: None, ("self", "cross")),
    ]
    return watchers + ([AttentionSums(sites, "unconditional", range(3))] if guided else [])


def assert_unwatched(
    pipeline: StableDiffusionPipeline, requests: list[Request], plain: tuple[list[Any], torch.Tensor]
) -> None:
    before = fingerprint(pipeline)
    guided = (requests[0].guidance or 0) > 1
    trace = generate(sfumato.wrap(pipeline), requests, attachments=all_watchers(pipeline, guided), record=True)
    images, latents = plain
    assert len(trace.images) == len(images) == sum(request.images for request in requests)
    assert float((trace.latents - latents).abs().max()) == 0.0
    for ours, theirs in zip(trace.images, images, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    assert fingerprint(pipeline) == before


@pytest.mark.parametrize(
    ("requests", "prompts", "seeds", "settings"),
    [
        ([Request(PROMPT, seed=5, steps=2, guidance=7.5, **SIZE)], [PROMPT], [5], {}),
        ([Request(PROMPT, seed=5, steps=2, guidance=1.0, **SIZE)], [PROMPT], [5], {"guidance": 1.0}),
        ([Request(PROMPT, seed=5, steps=2, guidance=0.0, **SIZE)], [PROMPT], [5], {"guidance": 0.0}),
        ([Request(PROMPT, seed=5, steps=2, guidance=3, images=2, **SIZE)], [PROMPT] * 2, [5, 6], {"guidance": 3}),
        (
            [
                Request("a red cat", negative_prompt="blue", seed=1, steps=2, guidance=7.5, **SIZE),
                Request("the table", seed=9, steps=2, guidance=7.5, **SIZE),
            ],
            ["a red cat", "the table"],
            [1, 9],
            {"negative": ["blue", ""]},
        ),
        ([Request("", seed=5, steps=2, guidance=7.5, height=64, width=32)], [""], [5], {"height": 64, "width": 32}),
        (
            [Request(PROMPT, seed=5, steps=2, guidance=2, height=24, width=40)],
            [PROMPT],
            [5],
            {"guidance": 2, "height": 24, "width": 40},
        ),
    ],
    ids=["guided", "guidance-1", "guidance-0", "two-images", "two-prompts", "empty-prompt-tall", "odd-latent"],
)
def test_the_image_is_the_one_of_the_pipeline_itself(
    tiny_pipeline: StableDiffusionPipeline,
    requests: list[Request],
    prompts: list[str],
    seeds: list[int],
    settings: dict[str, Any],
) -> None:
    plain = run_plainly(tiny_pipeline, prompts, seeds, **SIZE | settings)
    assert_unwatched(tiny_pipeline, requests, plain)


@pytest.mark.parametrize(
    ("name", "scheduler"),
    [
        ("pndm", "PNDMScheduler"),
        ("euler", "EulerDiscreteScheduler"),
        ("eulerancestral", "EulerAncestralDiscreteScheduler"),
        ("heun", "HeunDiscreteScheduler"),
        ("dpmsolvermultistep", "DPMSolverMultistepScheduler"),
    ],
)
def test_a_scheduler_by_name_is_the_scheduler_itself(
    tiny_sd: Build, tiny_pipeline: StableDiffusionPipeline, name: str, scheduler: str
) -> None:
    chosen = getattr(diffusers_schedulers, scheduler).from_config(
        ddim().config, **({"skip_prk_steps": True} if name == "pndm" else {})
    )
    plain = run_plainly(tiny_sd(scheduler=chosen), [PROMPT], [3], steps=4)
    request = Request(PROMPT, seed=3, steps=4, guidance=7.5, scheduler=name, **SIZE)
    own = tiny_pipeline.scheduler
    assert_unwatched(tiny_pipeline, [request], plain)
    assert tiny_pipeline.scheduler is own


@pytest.mark.parametrize("way", ["explicit", "sliced", "training mode"])
def test_other_ways_to_compute_attention_are_left_as_they_are(tiny_sd: Build, way: str) -> None:
    pipeline = tiny_sd()
    if way == "explicit":
        pipeline.unet.set_attn_processor(AttnProcessor())
    elif way == "sliced":
        pipeline.enable_attention_slicing(1)
    plain = run_plainly(pipeline, [PROMPT], [2])
    if way == "training mode":
        pipeline.unet.train()
        pipeline.vae.train()
        pipeline.unet.mid_block.eval()
    assert_unwatched(pipeline, [Request(PROMPT, seed=2, steps=2, guidance=7.5, **SIZE)], plain)


def test_the_progress_bar_of_the_pipeline_keeps_its_settings() -> None:
    pipeline = stable_diffusion()
    pipeline.set_progress_bar_config(disable=True, desc="mine")
    generate(sfumato.wrap(pipeline), Request("a", steps=1, guidance=1, height=16, width=16))
    assert pipeline._progress_bar_config == {"disable": True, "desc": "mine"}
    del pipeline._progress_bar_config
    generate(sfumato.wrap(pipeline), Request("a", steps=1, guidance=1, height=16, width=16))
    assert not hasattr(pipeline, "_progress_bar_config")


class Broken(Exception):
    """Raised by the tests only."""


REQUEST = Request(PROMPT, steps=3, guidance=7.5, height=16, width=16)


def test_an_error_in_a_watcher_reaches_the_caller_and_leaves_nothing(tiny_pipeline: StableDiffusionPipeline) -> None:
    calls = []

    def see(attention: Attention, run: Any) -> None:
        calls.append(run.clock.step)
        if run.clock.step == 1:
            raise Broken("in the callback")

    before = fingerprint(tiny_pipeline)
    with pytest.raises(Broken, match="in the callback"):
        generate(
            sfumato.wrap(tiny_pipeline), REQUEST, attachments=[*all_watchers(tiny_pipeline), Seeing(see)], record=True
        )
    assert calls[-1] == 1
    assert fingerprint(tiny_pipeline) == before


@pytest.mark.parametrize("error", [Broken("in the model"), KeyboardInterrupt()], ids=["exception", "ctrl-c"])
@pytest.mark.parametrize("where", ["to_q", "to_out.0", "after the output", "before the input"])
def test_an_error_inside_attention_leaves_nothing(tiny_sd: Build, error: BaseException, where: str) -> None:
    pipeline = tiny_sd()
    attention = list(cross_attention(pipeline).values())[1]
    count = 0

    def fail(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if count == 2:  # in the second step
            raise error

    if where == "after the output":
        attention.register_forward_hook(fail)
    elif where == "before the input":
        attention.register_forward_pre_hook(fail)
    else:
        attention.get_submodule(where).register_forward_pre_hook(fail)
    before = fingerprint(pipeline)
    with pytest.raises(type(error)):
        generate(sfumato.wrap(pipeline), REQUEST, attachments=all_watchers(pipeline), record=True)
    assert fingerprint(pipeline) == before
    generate(sfumato.wrap(pipeline), REQUEST, attachments=all_watchers(pipeline))  # and it still works
    assert fingerprint(pipeline) == before


def test_an_error_between_steps_leaves_nothing(tiny_pipeline: StableDiffusionPipeline) -> None:
    def progress(what: str, done: int, total: int) -> None:
        assert (what, total) == ("denoising", 3)
        if done == 2:
            raise KeyboardInterrupt

    before = fingerprint(tiny_pipeline)
    request = REQUEST.with_(scheduler="euler")
    with pytest.raises(KeyboardInterrupt):
        generate(sfumato.wrap(tiny_pipeline), request, attachments=all_watchers(tiny_pipeline), progress=progress)
    assert fingerprint(tiny_pipeline) == before


@pytest.mark.parametrize("error", [Broken("half-way"), KeyboardInterrupt()])
def test_a_watcher_that_fails_to_install_leaves_nothing(tiny_sd: Build, error: BaseException) -> None:
    pipeline = tiny_sd()
    pipeline.unet.train()
    before = fingerprint(pipeline)
    with pytest.raises(type(error)):
        generate(sfumato.wrap(pipeline), REQUEST, attachments=[*all_watchers(pipeline), Failing(error)])
    assert fingerprint(pipeline) == before


@pytest.mark.parametrize("way", ["wrapper", "in place", "one block"])
@pytest.mark.parametrize("by", ["explain", "tap"])
def test_a_compiled_denoiser_is_refused(tiny_sd: Build, way: str, by: str) -> None:
    pipeline = tiny_sd()
    sites = sfumato.wrap(pipeline).sites()
    if way == "wrapper":
        pipeline.unet = torch.compile(pipeline.unet, backend="eager")
    elif way == "in place":
        pipeline.unet.compile(backend="eager")
    else:
        pipeline.unet.mid_block.attentions[0].compile(backend="eager")
    model, before = sfumato.wrap(pipeline), fingerprint(pipeline)
    attempt: dict[str, Callable[[], Any]] = {
        "explain": lambda: sfumato.explain(model, REQUEST),
        "tap": lambda: generate(model, REQUEST, attachments=[AttentionSums(sites, "conditional", range(3))]),
    }
    with pytest.raises(CannotWatch, match=r"is compiled, so its attention cannot be seen; load the model without"):
        attempt[by]()
    assert fingerprint(pipeline) == before


def test_attention_that_pytorch_does_not_show_is_refused(tiny_sd: Build) -> None:
    pipeline = tiny_sd()
    with written_out(pipeline, lambda name, probabilities: None, hand_made_softmax):
        before = fingerprint(pipeline)
        with pytest.raises(CannotWatch, match=r"attn2 \(WrittenOut\).*set_attn_processor\(AttnProcessor2_0\(\)\)"):
            sfumato.explain(sfumato.wrap(pipeline), REQUEST.with_(negative_prompt="blue"), negative=True)
        assert fingerprint(pipeline) == before


def test_explaining_leaves_nothing_either(tiny_pipeline: StableDiffusionPipeline) -> None:
    before = fingerprint(tiny_pipeline)
    sfumato.explain(sfumato.wrap(tiny_pipeline), REQUEST, negative=True, keep=("step",))
    with pytest.raises(SfumatoError):
        sfumato.explain(sfumato.wrap(tiny_pipeline), REQUEST, keep=("step",), budget_mb=0.001)
    assert fingerprint(tiny_pipeline) == before
