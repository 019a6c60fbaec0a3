from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato.errors import NonFinite, OptionError
from sfumato.generation.context import Attachment
from sfumato.generation.generate import generate
from sfumato.generation.interventions.channels import AblateChannels
from sfumato.generation.trace import Trace
from sfumato.request import Request
from tests.pipelines import PROMPT, fingerprint

REQUEST = Request(PROMPT, seed=2, steps=4, guidance=7.5, height=16, width=24)


def run(pipeline: StableDiffusionPipeline, *changes: AblateChannels) -> Trace:
    before = fingerprint(pipeline)
    trace = generate(sfumato.wrap(pipeline), REQUEST, attachments=changes, record=True)
    assert fingerprint(pipeline) == before
    return trace


@pytest.mark.parametrize("module", ["conv_in", "mid_block", "down_blocks.1", "up_blocks.0.resnets.0"])
def test_a_change_acts_from_its_first_step_on(tiny_pipeline: StableDiffusionPipeline, module: str) -> None:
    plain = run(tiny_pipeline)
    changed = run(tiny_pipeline, AblateChannels(module, (0, 3), steps=range(2, 4)))
    for step in (0, 1, 2):
        assert torch.equal(plain.calls[step].sample, changed.calls[step].sample), step
    for step in (0, 1):
        assert torch.equal(plain.calls[step].output, changed.calls[step].output), step
    assert not torch.equal(plain.calls[2].output, changed.calls[2].output)
    assert not torch.equal(plain.calls[3].sample, changed.calls[3].sample)
    assert not torch.equal(plain.latents, changed.latents)


def test_the_channels_become_the_value(tiny_pipeline: StableDiffusionPipeline) -> None:
    outputs: list[torch.Tensor] = []

    class Reading:
        def install(self, run: Any) -> None:
            module = run.model.denoiser.get_submodule("conv_in")
            run.hooks.after(module, lambda module, args, kwargs, output: outputs.append(output))

    changes: list[Attachment] = [AblateChannels("conv_in", (1, 5), value=0.25, steps=(1,)), Reading()]
    generate(sfumato.wrap(tiny_pipeline), REQUEST.with_(steps=2), attachments=changes)
    assert not (outputs[0] == 0.25).any()
    assert (outputs[1][:, [1, 5]] == 0.25).all()
    assert not (outputs[1][:, [0, 2, 3, 4]] == 0.25).any()


def test_ablating_what_is_already_so_changes_nothing(tiny_sd: Callable[..., StableDiffusionPipeline]) -> None:
    pipeline = tiny_sd()
    torch.nn.init.constant_(pipeline.unet.conv_in.bias[4:6], 0.5)
    torch.nn.init.zeros_(pipeline.unet.conv_in.weight[4:6])
    plain = run(pipeline)
    assert torch.equal(run(pipeline, AblateChannels("conv_in", (4, 5), value=0.5)).latents, plain.latents)
    assert not torch.equal(run(pipeline, AblateChannels("conv_in", (4, 5), value=0.4)).latents, plain.latents)
    assert torch.equal(run(pipeline, AblateChannels("conv_in", (0, 1), steps=())).latents, plain.latents)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            AblateChannels("down_block.1", (0,)),
            "no module 'down_block.1'; it begins with one of: conv_in, .*down_blocks",
        ),
        (AblateChannels("conv_in", (0, 32)), "conv_in has 32 channels; there is no channel 32"),
        (AblateChannels("conv_in", (-1,)), r"channels is \(-1,\); expected channel numbers from 0"),
        (AblateChannels("conv_in", ()), r"channels is \(\)"),
        (AblateChannels("time_embedding", (0,)), r"output of time_embedding is .*only feature maps"),
    ],
)
def test_an_impossible_change_teaches(
    tiny_pipeline: StableDiffusionPipeline, change: AblateChannels, message: str
) -> None:
    before = fingerprint(tiny_pipeline)
    with pytest.raises(OptionError, match=message):
        run(tiny_pipeline, change)
    assert fingerprint(tiny_pipeline) == before


def test_a_change_that_breaks_the_image_is_an_error(tiny_pipeline: StableDiffusionPipeline) -> None:
    with pytest.raises(NonFinite, match="at step 3 of 4"):
        run(tiny_pipeline, AblateChannels("conv_in", (0,), value=float("nan"), steps=(2,)))
