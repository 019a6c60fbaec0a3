from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato.errors import BudgetExceeded, ModelError, NonFinite, RequestError
from sfumato.generation.generate import generate
from sfumato.generation.interventions.channels import AblateChannels
from sfumato.generation.recorders.reduce import AttentionSums, Axis
from sfumato.generation.trace import Trace
from sfumato.request import Request
from tests.families import family
from tests.generation.recorders.watchers import Keeping
from tests.pipelines import PROMPT, fingerprint, stable_diffusion

Build = Callable[..., StableDiffusionPipeline]
STEP: tuple[Axis, ...] = ("step",)
REQUEST = Request(PROMPT, seed=2, steps=3, guidance=7.5, height=16, width=24)


def record(pipeline: StableDiffusionPipeline, request: Request = REQUEST, **more: Any) -> Trace:
    return generate(sfumato.wrap(pipeline), request, record=True, **more)


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_the_calls_are_those_of_the_run(tiny_pipeline: StableDiffusionPipeline) -> None:
    trace = record(tiny_pipeline)
    assert [call.step for call in trace.calls] == [0, 1, 2]
    assert trace.calls[0].sample.shape == (2, 4, 8, 12)
    assert trace.calls[0].condition.shape == (2, 77, 32)
    assert trace.branches.names == ("unconditional", "conditional")
    assert trace.seconds > 0
    scheduler = tiny_pipeline.scheduler
    call = trace.calls[-1]
    unconditional, conditional = call.output
    guided = unconditional + 7.5 * (conditional - unconditional)
    close(scheduler.step(guided[None], int(call.timestep), call.sample[:1]).prev_sample, trace.latents)


@pytest.mark.parametrize("step", [0, 2])
def test_a_replay_gives_the_recorded_output(tiny_pipeline: StableDiffusionPipeline, step: int) -> None:
    before = fingerprint(tiny_pipeline)
    guided, plain = record(tiny_pipeline), record(tiny_pipeline, REQUEST.with_(guidance=1))
    assert torch.equal(plain.replay(step), plain.call(step).output)
    for row, branch in enumerate(("unconditional", "conditional")):
        close(guided.replay(step, branch=branch), guided.call(step).output[row : row + 1])
    both = guided.replay(step, sample=guided.call(step).sample, condition=guided.call(step).condition)
    assert torch.equal(both, guided.call(step).output)
    assert fingerprint(tiny_pipeline) == before


def test_a_replay_with_another_prompt(tiny_pipeline: StableDiffusionPipeline) -> None:
    model, trace = sfumato.wrap(tiny_pipeline), record(tiny_pipeline)
    other = record(tiny_pipeline, REQUEST.with_(prompt="a blue dog"))
    condition = model.encode(["a blue dog"])
    close(condition, other.call(0).condition[1:])
    close(trace.replay(0, condition=condition), other.call(0).output[1:])
    assert not torch.allclose(trace.replay(0), other.call(0).output[1:], atol=1e-4)
    several = trace.replay(0, condition=model.encode([PROMPT, "a blue dog", ""]))  # one sample serves three prompts
    close(several, torch.cat([trace.replay(0), other.call(0).output[1:], other.call(0).output[:1]]))


def test_a_replay_of_several_images_takes_the_rows_of_one_branch(tiny_pipeline: StableDiffusionPipeline) -> None:
    trace = record(tiny_pipeline, REQUEST.with_(images=3))
    assert trace.call(1).sample.shape[0] == 6
    close(trace.replay(1), trace.call(1).output[3:])
    close(trace.replay(1, branch="unconditional"), trace.call(1).output[:3])
    with pytest.raises(RequestError, match="the condition has 2 rows where 3 are needed; give 1 or 3"):
        trace.replay(1, condition=trace.call(1).condition[:2])


def test_gradients_flow_through_a_replay(tiny_pipeline: StableDiffusionPipeline) -> None:
    trace = record(tiny_pipeline)
    sample = trace.call(1).sample[1:].clone().requires_grad_()
    condition = trace.call(1).condition[1:].clone().requires_grad_()
    output = trace.replay(1, sample=sample, condition=condition, gradients=True)
    by_sample, by_condition = torch.autograd.grad(output.square().sum(), [sample, condition])
    for gradient in (by_sample, by_condition):
        assert torch.isfinite(gradient).all()
        assert float(gradient.abs().max()) > 0
    # against a central difference along a direction
    direction = torch.randn(sample.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ends = [trace.replay(1, sample=sample + h * direction).square().sum() for h in (0.01, -0.01)]
    torch.testing.assert_close(
        (by_sample * direction).sum(), ((ends[0] - ends[1]) / 0.02).squeeze(), rtol=0.02, atol=0.05
    )
    assert not trace.replay(1, sample=sample).requires_grad
    assert torch.is_grad_enabled()


def test_a_replay_can_be_watched_and_changed(tiny_pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(tiny_pipeline)
    trace = record(tiny_pipeline, attachments=[run := Keeping()])
    trace.replay(1, attachments=[again := Keeping()])
    for name, maps in again.maps.items():
        torch.testing.assert_close(maps[0], run.maps[name][1], rtol=0, atol=1e-6)
    sites = [site for site in model.sites() if site.kind == "cross"]
    sums = AttentionSums(sites, "conditional", range(5), STEP, budget=1e6)
    condition = trace.call(2).condition[1:].clone().requires_grad_()
    trace.replay(2, condition=condition, attachments=[sums], gradients=True)
    (grid,) = sums.grids().values()
    assert grid.steps == (2,)

    change = AblateChannels("conv_in", (0, 1), steps=(1,))
    altered = record(tiny_pipeline, attachments=[change])
    close(trace.replay(1, attachments=[change]), altered.call(1).output[1:])
    assert torch.equal(trace.replay(2, attachments=[change]), trace.replay(2))


def test_a_budget_counts_in_a_replay_too(tiny_pipeline: StableDiffusionPipeline) -> None:
    trace = record(tiny_pipeline)
    sites = [site for site in trace.model.sites() if site.kind == "cross"]
    with pytest.raises(BudgetExceeded):
        trace.replay(2, attachments=[AttentionSums(sites, "conditional", range(5), STEP, budget=1)])


def test_a_replay_that_cannot_be_teaches(tiny_pipeline: StableDiffusionPipeline) -> None:
    with pytest.raises(ModelError, match="were not recorded; generate it with record=True"):
        generate(sfumato.wrap(tiny_pipeline), REQUEST.with_(steps=1)).replay(0)
    trace = record(tiny_pipeline, REQUEST.with_(steps=2, guidance=1))
    with pytest.raises(ModelError, match="there is no step 2; this run has steps 0 to 1"):
        trace.replay(2)
    with pytest.raises(ModelError, match="no unconditional branch; it has: conditional"):
        trace.replay(0, branch="unconditional")


def test_requests_of_one_batch_share_their_settings(tiny_pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(tiny_pipeline)
    with pytest.raises(RequestError, match="must share steps: request 0 has 3, request 1 has 2"):
        generate(model, [REQUEST, REQUEST.with_(steps=2)])
    with pytest.raises(RequestError, match="there is no request"):
        generate(model, [])
    trace = generate(model, [REQUEST.with_(images=2), REQUEST.with_(prompt="cat", seed=8)])
    assert (trace.of(0), trace.of(1), len(trace.images)) == (slice(0, 2), slice(2, 3), 3)
    image = trace.explanation(1, {}).image
    np.testing.assert_array_equal(np.asarray(image), np.asarray(trace.images[2]))


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "heun"])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_latents_that_break_name_the_step(tiny_sd: Build, scheduler: str) -> None:
    pipeline = tiny_sd()
    timesteps: list[float] = []

    def spoil(module: Any, args: Any, output: Any) -> Any:
        timesteps.append(float(args[1]))
        return (output[0] * float("nan"),) if len(set(timesteps)) == 3 else output

    pipeline.unet.register_forward_hook(spoil)
    before = fingerprint(pipeline)
    with pytest.raises(
        NonFinite, match=r"latents became NaN or infinite at step 3 of 5; no result was made\. Try float32"
    ):
        record(pipeline, REQUEST.with_(steps=5, scheduler=scheduler))
    assert len(set(timesteps)) == 3
    assert fingerprint(pipeline) == before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("unet", "at step 1 of 3"),
        ("text_encoder", "at step 1 of 3"),
        ("vae", "the decoded image is NaN or infinite, although the latents were finite"),
    ],
)
def test_weights_that_are_not_finite(tiny_sd: Build, part: str, message: str, value: float) -> None:
    pipeline = tiny_sd()
    module = {
        "unet": lambda: pipeline.unet.conv_out,
        "vae": lambda: pipeline.vae.decoder.conv_out,
        "text_encoder": pipeline.text_encoder.get_input_embeddings,
    }[part]()
    with torch.no_grad():
        module.weight.fill_(value)
    before = fingerprint(pipeline)
    with pytest.raises(NonFinite, match=message):
        sfumato.explain(sfumato.wrap(pipeline), REQUEST)
    assert fingerprint(pipeline) == before


def test_an_image_that_a_safety_checker_blacked_out_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = stable_diffusion()
    checked = type(pipeline).run_safety_checker
    monkeypatch.setattr(
        type(pipeline), "run_safety_checker", lambda self, *given: (checked(self, *given)[0] * 0, [True])
    )
    before = fingerprint(pipeline)
    with pytest.raises(ModelError, match="safety checker blacked out image 0"):
        generate(sfumato.wrap(pipeline), Request("a red cat", steps=1))
    assert fingerprint(pipeline) == before


def test_the_old_module_warns_and_has_the_same_names() -> None:
    from sfumato import trace as old

    with pytest.warns(DeprecationWarning, match=r"sfumato.trace.generate is now sfumato.generation.generate.generate"):
        assert old.generate is generate
    with pytest.warns(DeprecationWarning, match=r"sfumato.generation.trace.Trace"):
        assert old.Trace is Trace
    with pytest.raises(AttributeError, match="no attribute 'replay'"):
        _ = old.replay


def test_a_branch_that_is_a_call_of_its_own_is_not_replayed() -> None:
    kind = family("Flux, true guidance")
    trace = generate(kind.wrapped(), kind.request(), record=True)
    with pytest.raises(ModelError, match="the unconditional branch of this model is a call of its own"):
        trace.replay(0, branch="unconditional")
