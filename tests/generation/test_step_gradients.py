from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato.errors import CannotWatch, ModelError
from sfumato.generation.generate import generate
from sfumato.generation.step_gradients import Branch, Reading, Stepped, gradients, region_gradients, step_with_gradients
from sfumato.generation.trace import Trace
from sfumato.request import Request
from tests.labels import REQUEST, SIDE, square, tiny_labels
from tests.pipelines import PROMPT, fingerprint, stable_diffusion

PIXELS = torch.tensor([0, 37, 70, 133, 250])
LAYERS = ("init_conv", "downs.0.3", "mid_attn.fn", "ups.0.0.net")
ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0.attn1"
TEXT = Request(PROMPT, seed=2, steps=3, guidance=7.5, height=24, width=32)


def recorded(prediction_type: str = "epsilon", **changes: Any) -> Trace:
    return generate(sfumato.wrap(tiny_labels(prediction_type=prediction_type)), REQUEST.with_(**changes), record=True)


def by_hand(trace: Trace, step: int, reading: Reading, branch: Branch) -> Callable[[torch.Tensor], torch.Tensor]:
    """One step of DDIM from the sample (1, channel, y, x) to the chosen pixels of the sum over channels."""
    scheduler, unet = trace.scheduler, trace.model.denoiser
    now = int(scheduler.timesteps[step])
    later = now - 1000 // 6  # as DDIM reckons it, which is not always the next timestep of the schedule
    alpha = scheduler.alphas_cumprod[now]
    following = scheduler.alphas_cumprod[later] if later >= 0 else torch.tensor(1.0)

    def run(sample: torch.Tensor) -> torch.Tensor:
        output = unet(sample, now, torch.tensor([3])).sample
        if branch == "guided":
            without = unet(sample, now).sample
            output = without + 2.0 * (output - without)
        noise, clean = output, (sample - (1 - alpha).sqrt() * output) / alpha.sqrt()
        if scheduler.config.prediction_type == "v_prediction":
            noise = alpha.sqrt() * output + (1 - alpha).sqrt() * sample
            clean = alpha.sqrt() * sample - (1 - alpha).sqrt() * output
        made = noise if reading == "noise" else following.sqrt() * clean + (1 - following).sqrt() * noise
        return made.sum((0, 1)).flatten()[PIXELS]

    return run


def joined(stepped: Stepped, pixels: torch.Tensor, chunk: int) -> list[torch.Tensor]:
    parts = list(gradients(stepped, pixels, chunk=chunk))
    return [torch.cat(one) for one in zip(*parts, strict=True)]


def close(one: torch.Tensor, other: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert one.shape == other.shape
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("branch", ["guided", "conditional"])
@pytest.mark.parametrize("reading", ["mean", "noise"])
@pytest.mark.parametrize("step", [2, 5])
def test_the_derivative_is_the_jacobian_of_the_step(
    step: int, reading: Reading, branch: Branch, prediction_type: str
) -> None:
    trace = recorded(prediction_type)
    sample = trace.call(step).sample[1:]
    function = by_hand(trace, step, reading, branch)
    stepped = step_with_gradients(trace, step, reading=reading, branch=branch)
    close(stepped.result.detach().flatten()[PIXELS], function(sample))
    jacobian = torch.autograd.functional.jacobian(function, sample)[:, 0]
    assert float(jacobian.abs().max()) > 1e-3
    (found,) = joined(stepped, PIXELS, 1)
    close(found, jacobian)


def test_readings_and_branches_differ() -> None:
    trace = recorded()
    found = {
        (reading, branch): step_with_gradients(trace, 3, reading=reading, branch=branch).result.detach()
        for reading in ("mean", "noise")
        for branch in ("guided", "conditional")
    }
    results = list(found.values())
    for i, one in enumerate(results):
        assert one.shape == (SIDE, SIDE)
        for other in results[:i]:
            assert float((one - other).abs().max()) > 1e-3


@pytest.mark.parametrize("scheduler", ["ddim", "euler"])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_guided_step_makes_the_sample_of_the_run(scheduler: str) -> None:
    trace = recorded(scheduler=scheduler)
    last = step_with_gradients(trace, 5).result.detach()
    close(last, trace.latents[0].sum(0), 1e-4)
    following = step_with_gradients(trace, 3)
    given = step_with_gradients(trace, 4).sample
    close(following.result.detach(), given.detach()[0].sum(0), 1e-4)


def test_without_guidance_the_branches_are_one() -> None:
    trace = recorded(guidance=1.0)
    guided, conditional = (step_with_gradients(trace, 2, branch=branch) for branch in ("guided", "conditional"))
    assert torch.equal(guided.result, conditional.result)


@pytest.mark.parametrize("chunk", [2, 5, 8])
def test_a_vectorised_pass_gives_what_single_ones_give(chunk: int) -> None:
    stepped = step_with_gradients(recorded(), 2, layers=LAYERS)
    single, vectorised = (joined(stepped, PIXELS, size) for size in (1, chunk))
    assert [tuple(one.shape) for one in single] == [
        (5, 3, 16, 16),
        (5, 8, 16, 16),
        (5, 8, 8, 8),
        (5, 16, 8, 8),
        (5, 8, 8, 8),
    ]
    for one, other in zip(vectorised, single, strict=True):
        close(one, other)
        assert (other.abs().amax((1, 2, 3)) > 0).all()


def test_a_vectorised_pass_works_on_attention_too(tiny_pipeline: StableDiffusionPipeline) -> None:
    trace = generate(sfumato.wrap(tiny_pipeline), TEXT, record=True)
    stepped = step_with_gradients(trace, 1, layers=(ATTENTION, "mid_block"))
    single, vectorised = (joined(stepped, PIXELS[:4], size) for size in (1, 4))
    assert [tuple(one.shape) for one in single] == [(4, 4, 12, 16), (4, 64, 6, 8), (4, 64, 6, 8)]
    for one, other in zip(vectorised, single, strict=True):
        close(one, other, 1e-4)


def test_the_derivative_over_a_region_is_the_sum_of_single_ones() -> None:
    stepped = step_with_gradients(recorded(), 2, layers=LAYERS)
    mask = torch.from_numpy(square())
    single = joined(stepped, mask.flatten().nonzero()[:, 0], 1)
    assert len(single[0]) == 10
    for found, parts in zip(region_gradients(stepped, mask), single, strict=True):
        close(found, parts.sum(0, keepdim=True))
    weighed = region_gradients(stepped, mask.float() * 0.5)
    for found, parts in zip(weighed, single, strict=True):
        close(found, 0.5 * parts.sum(0, keepdim=True))


def test_the_derivative_over_a_region_by_attention_is_the_sum_of_single_ones(
    tiny_pipeline: StableDiffusionPipeline,
) -> None:
    trace = generate(sfumato.wrap(tiny_pipeline), TEXT, record=True)
    stepped = step_with_gradients(trace, 1, layers=(ATTENTION, "up_blocks.0.attentions.1.transformer_blocks.0.attn1"))
    mask = torch.zeros(12, 16, dtype=torch.bool)
    mask[3:5, 7:10] = True
    single = joined(stepped, mask.flatten().nonzero()[:, 0], 1)
    found = region_gradients(stepped, mask)
    assert [tuple(one.shape) for one in found] == [(1, 4, 12, 16), (1, 64, 6, 8), (1, 64, 6, 8)]
    for one, parts in zip(found, single, strict=True):
        close(one, parts.sum(0, keepdim=True), 1e-4)


@pytest.mark.parametrize(("branch", "weight"), [("guided", 2.0), ("conditional", 1.0)])
def test_the_last_layer_acts_on_its_own_pixel_with_the_guidances_weight(branch: Branch, weight: float) -> None:
    stepped = step_with_gradients(recorded(), 2, reading="noise", branch=branch, layers=("final_conv",))
    (_, found) = joined(stepped, torch.tensor([37]), 1)
    expected = torch.zeros(1, 3, SIDE, SIDE)
    expected[0, :, 37 // SIDE, 37 % SIDE] = weight
    close(found, expected)


@pytest.mark.parametrize("layer", ["downs.0.3", "mid_attn.fn"])
def test_the_derivative_by_a_layer_is_that_of_a_small_change_of_it(layer: str) -> None:
    pipeline = tiny_labels()
    pipeline.unet.double()
    trace = generate(sfumato.wrap(pipeline), REQUEST, record=True)
    stepped = step_with_gradients(trace, 2, reading="noise", branch="conditional", layers=(layer,))
    (_, found) = joined(stepped, torch.tensor([133]), 1)
    change = torch.randn(found.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def changed(size: float) -> torch.Tensor:
        module = pipeline.unet.get_submodule(layer)
        hook = module.register_forward_hook(lambda module, args, output: output + size * change)
        made = step_with_gradients(trace, 2, reading="noise", branch="conditional").result.flatten()[133].detach()
        hook.remove()
        return made

    slope = (changed(1e-5) - changed(-1e-5)) / 2e-5
    assert float((found * change).sum()) == pytest.approx(float(slope), rel=1e-6)


@pytest.mark.parametrize("reading", ["mean", "noise"])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_derivative_of_euler_is_by_the_sample_before_it_was_scaled(reading: Reading) -> None:
    pipeline = tiny_labels()
    pipeline.unet.double()
    trace = generate(sfumato.wrap(pipeline), REQUEST.with_(scheduler="euler"), record=True)
    sigma, following = (float(trace.scheduler.sigmas[place]) for place in (2, 3))
    timestep = trace.scheduler.timesteps[2]
    stepped = step_with_gradients(trace, 2, reading=reading)
    scaled = trace.call(2).sample[1:]
    close(stepped.sample.detach() / (sigma**2 + 1) ** 0.5, scaled, 1e-6)

    def step(sample: torch.Tensor) -> torch.Tensor:
        given = sample / (sigma**2 + 1) ** 0.5
        conditional = pipeline.unet(given, timestep, torch.tensor([3])).sample
        without = pipeline.unet(given, timestep).sample
        noise = without + 2.0 * (conditional - without)
        made = noise if reading == "noise" else sample + (following - sigma) * noise
        return made.sum((0, 1)).flatten()[PIXELS]

    start = stepped.sample.detach()
    close(stepped.result.detach().flatten()[PIXELS], step(start))
    change = torch.randn(start.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slope = (step(start + 1e-4 * change) - step(start - 1e-4 * change)) / 2e-4
    (found,) = joined(stepped, PIXELS, 1)
    close((found * change).sum((1, 2, 3)), slope, 1e-4)


def test_the_derivative_of_stable_diffusion_is_that_of_a_small_change() -> None:
    pipeline = stable_diffusion()
    trace = generate(sfumato.wrap(pipeline), TEXT.with_(guidance=1.0), record=True)
    call = trace.call(1)
    (found,) = joined(step_with_gradients(trace, 1, reading="noise"), PIXELS[:4], 1)
    pipeline.unet.double()
    change = torch.randn(call.sample.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ends = [
        pipeline.unet(call.sample.double() + h * change, call.timestep, call.condition.double()).sample.sum((0, 1))
        for h in (1e-4, -1e-4)
    ]
    slope = ((ends[0] - ends[1]) / 2e-4).flatten()[PIXELS[:4]]
    close((found.double() * change).sum((1, 2, 3)), slope, 1e-3)


def test_a_step_with_gradients_leaves_everything_as_it_was() -> None:
    trace = recorded()
    before, sample = fingerprint(trace.model.pipeline), trace.call(2).sample.clone()
    joined(step_with_gradients(trace, 2, layers=LAYERS), PIXELS, 2)
    assert fingerprint(trace.model.pipeline) == before
    assert torch.equal(trace.call(2).sample, sample)
    assert not trace.call(2).sample.requires_grad


def test_a_step_that_cannot_be_derived_teaches() -> None:
    trace = recorded()
    before = fingerprint(trace.model.pipeline)
    with pytest.raises(CannotWatch, match="the output of time_mlp is no feature map; choose other layers"):
        step_with_gradients(trace, 2, layers=("time_mlp",))
    with pytest.raises(ModelError, match="there is no step 6; this run has steps 0 to 5"):
        step_with_gradients(trace, 6)
    with pytest.raises(ModelError, match="generate it with record=True"):
        step_with_gradients(generate(trace.model, REQUEST), 2)
    assert fingerprint(trace.model.pipeline) == before
