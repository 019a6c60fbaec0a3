"""Variations of an image: all of a run's noise is mixed with that of another seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

import sfumato
from sfumato.errors import NonFinite
from sfumato.generation.generate import generate
from sfumato.generation.trace import Trace
from sfumato.methods.daam import select
from sfumato.models.model import Model
from sfumato.models.variation import varied
from sfumato.request import Request
from tests.families import FAMILIES, Family, family
from tests.labels import REQUEST as LABEL
from tests.methods.steps import model_of, not_a_number
from tests.pipelines import PROMPT, fingerprint, stable_diffusion

REQUEST = Request(PROMPT, seed=2, steps=2, guidance=4.0, height=16, width=24)
OTHER = 9
GIVEN = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
SOME = (
    "Stable Diffusion, image to image",
    "Stable Diffusion, inpainting",
    "Stable Diffusion, inpainting with nine channels",
    "Stable Diffusion 3",
    "Flux dev",
    "Paint-by-Example",
    "DDPM",
)
"""The families that every run of the tests looks at; the slow ones look at the rest."""


def mixed(own: torch.Tensor, other: torch.Tensor, strength: float) -> torch.Tensor:
    return (1 - strength**2) ** 0.5 * own + strength * other


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pixels(trace: Trace) -> list[NDArray[np.uint8]]:
    return [np.asarray(image) for image in trace.images]


def assert_same(one: Trace, other: Trace) -> None:
    assert len(one.images) == len(other.images)
    for mine, theirs in zip(pixels(one), pixels(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def assert_ends(model: Model, request: Request) -> None:
    """Strength 0 gives the image of the own seed, 1 that of the other one, and between lies another image."""
    own, other = generate(model, request), generate(model, request.with_(seed=OTHER))
    assert_same(generate(model, request.with_(variation=(OTHER, 0))), own)
    assert_same(generate(model, request.with_(variation=(OTHER, 1))), other)
    (middle,) = pixels(generate(model, request.with_(variation=(OTHER, 0.5))))
    assert np.any(middle != pixels(own)[0])
    assert np.any(middle != pixels(other)[0])
    assert np.any(pixels(own)[0] != pixels(other)[0])


def test_the_ends_are_the_images_of_the_two_seeds(tiny_pipeline: StableDiffusionPipeline) -> None:
    assert_ends(sfumato.wrap(tiny_pipeline), REQUEST)


@pytest.mark.parametrize("strength", [0.05, 0.6])
def test_between_the_ends_the_starting_noise_is_mixed(tiny_pipeline: StableDiffusionPipeline, strength: float) -> None:
    trace = generate(sfumato.wrap(tiny_pipeline), REQUEST.with_(variation=(OTHER, strength)), record=True)
    sample = trace.call(0).sample  # DDIM takes the noise as it is drawn
    expected = mixed(drawn(2, 1, 4, 8, 12), drawn(OTHER, 1, 4, 8, 12), strength)
    torch.testing.assert_close(sample, expected.repeat(2, 1, 1, 1), rtol=0, atol=1e-6)
    assert trace.requests[0].variation == (OTHER, strength)


@pytest.mark.parametrize("strength", [0.0, 0.05, 0.5, 0.9, 1.0])
def test_mixed_noise_has_unit_variance(strength: float) -> None:
    with varied([REQUEST.with_(variation=(OTHER, strength))]):
        noise = drawn(2, 100_000)
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(noise.std()) == pytest.approx(1, abs=0.01)
    correlation = torch.corrcoef(torch.stack([noise, drawn(2, 100_000)]))[0, 1]
    assert float(correlation) == pytest.approx((1 - strength**2) ** 0.5, abs=0.01)


def test_later_draws_of_a_generator_are_mixed_with_later_ones() -> None:
    own, other = (torch.Generator().manual_seed(seed) for seed in (2, OTHER))
    with varied([REQUEST.with_(variation=(OTHER, 0.3))]):
        generator = torch.Generator().manual_seed(2)
        found = [torch.randn(5, generator=generator), torch.randn((2, 3), generator=generator, dtype=torch.float64)]
    expected = [
        (torch.randn(5, generator=g), torch.randn((2, 3), generator=g, dtype=torch.float64)) for g in (own, other)
    ]
    for one, mine, theirs in zip(found, *expected, strict=True):
        torch.testing.assert_close(one, mixed(mine, theirs, 0.3))
    assert found[1].dtype == torch.float64


def test_other_draws_are_left_alone() -> None:
    torch.manual_seed(0)
    plain = (torch.randn(4), drawn(3, 4), torch.rand(4, generator=torch.Generator().manual_seed(2)))
    torch.manual_seed(0)
    with varied([REQUEST.with_(variation=(OTHER, 0.5))]):
        found = (torch.randn(4), drawn(3, 4), torch.rand(4, generator=torch.Generator().manual_seed(2)))
    for one, other in zip(found, plain, strict=True):
        assert torch.equal(one, other)
    with varied([REQUEST]):
        assert torch._C._len_torch_function_stack() == 0  # nothing to do


def test_every_image_is_mixed_with_that_of_its_number(tiny_pipeline: StableDiffusionPipeline) -> None:
    model, several = sfumato.wrap(tiny_pipeline), REQUEST.with_(images=3)
    assert_same(generate(model, several.with_(variation=(20, 1))), generate(model, several.with_(seed=20)))
    trace = generate(model, several.with_(variation=(20, 0.4)), record=True)
    for number in range(3):
        expected = mixed(drawn(2 + number, 1, 4, 8, 12), drawn(20 + number, 1, 4, 8, 12), 0.4)
        torch.testing.assert_close(trace.call(0).sample[number][None], expected, rtol=0, atol=1e-6)
    alone = generate(model, REQUEST.with_(seed=4, variation=(22, 0.4)))
    torch.testing.assert_close(trace.latents[2:], alone.latents, rtol=1e-5, atol=1e-5)


def test_prompts_of_one_batch_may_share_a_seed(tiny_pipeline: StableDiffusionPipeline) -> None:
    model, request = sfumato.wrap(tiny_pipeline), REQUEST.with_(variation=(OTHER, 0.4))
    prompts = (PROMPT, "a blue dog", "")
    trace = generate(model, [request.with_(prompt=prompt) for prompt in prompts], record=True)
    expected = mixed(drawn(2, 1, 4, 8, 12), drawn(OTHER, 1, 4, 8, 12), 0.4)
    for sample in trace.call(0).sample:
        torch.testing.assert_close(sample[None], expected, rtol=0, atol=1e-6)
    for number, prompt in enumerate(prompts):  # an image does not depend on what else is in its batch
        alone = generate(model, request.with_(prompt=prompt))
        torch.testing.assert_close(trace.latents[trace.of(number)], alone.latents, rtol=1e-5, atol=1e-5)


def test_one_seed_of_several_requests_is_mixed_with_another_seed_in_each(
    tiny_pipeline: StableDiffusionPipeline,
) -> None:
    first = REQUEST.with_(images=2, variation=(20, 1))  # seeds 2 and 3, with 20 and 21
    second = first.with_(prompt="a blue dog", seed=3)  # seeds 3 and 4, with 20 and 21
    trace = generate(sfumato.wrap(tiny_pipeline), [first, second], record=True)
    for place, other in enumerate((20, 21, 20, 21)):
        assert torch.equal(trace.call(0).sample[place], drawn(other, 1, 4, 8, 12)[0])


def test_all_draws_of_a_stochastic_scheduler_are_mixed() -> None:
    pipeline = stable_diffusion()
    pipeline.unet.register_forward_hook(lambda module, args, output: (torch.zeros_like(output[0]),))
    model = sfumato.wrap(pipeline)
    request = REQUEST.with_(scheduler="ddpm", steps=4)
    own, other = (generate(model, request.with_(seed=seed)).latents for seed in (2, OTHER))
    made = generate(model, request.with_(variation=(OTHER, 0.3))).latents
    # a denoiser that predicts nothing leaves a sum of all draws
    torch.testing.assert_close(made, mixed(own, other, 0.3), rtol=1e-4, atol=1e-4)
    first = mixed(drawn(2, 1, 4, 8, 12), drawn(OTHER, 1, 4, 8, 12), 0.3) - drawn(2, 1, 4, 8, 12)
    assert float((made - own).std()) > 1.5 * float(first.std()), "more than the first draw counts"


@pytest.mark.parametrize("scheduler", ["ddpm", "eulerancestral"])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_ends_of_stochastic_schedulers(tiny_pipeline: StableDiffusionPipeline, scheduler: str) -> None:
    assert_ends(sfumato.wrap(tiny_pipeline), REQUEST.with_(scheduler=scheduler, steps=3))


def test_models_on_pixels() -> None:
    assert_ends(model_of("labels"), LABEL)
    trace = generate(model_of("labels"), LABEL.with_(variation=(OTHER, 0.2)), record=True)
    expected = mixed(drawn(3, 3, 16, 16), drawn(OTHER, 3, 16, 16), 0.2)
    torch.testing.assert_close(trace.call(0).sample[-1], expected, rtol=0, atol=1e-6)
    assert_ends(model_of("unconditional"), Request(seed=3, steps=4))


@pytest.mark.parametrize("one", [family(name) for name in SOME], ids=str)
@pytest.mark.filterwarnings("ignore")  # of the families
def test_the_ends_on_other_pipelines(one: Family) -> None:
    assert_ends(one.wrapped(), one.request())


@pytest.mark.slow
@pytest.mark.parametrize("one", [one for one in FAMILIES if one.name not in SOME], ids=str)
@pytest.mark.filterwarnings("ignore")  # of the families
def test_the_ends_on_every_pipeline(one: Family) -> None:
    assert_ends(one.wrapped(), one.request())


def test_the_noise_on_a_given_image_is_mixed(tiny_pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(tiny_pipeline)
    request = Request(PROMPT, seed=2, guidance=4.0, image=GIVEN, invert="noise", at=300)

    def given(**more: Any) -> torch.Tensor:
        return generate(model, request.with_(**more), record=True).call(0).sample[:1]

    assert torch.equal(given(variation=(OTHER, 0)), given())
    assert torch.equal(given(variation=(OTHER, 1)), given(seed=OTHER))
    _, spread = model.levels(300.0)
    added = mixed(drawn(2, 1, 4, 8, 12), drawn(OTHER, 1, 4, 8, 12), 0.4) - drawn(2, 1, 4, 8, 12)
    torch.testing.assert_close(given(variation=(OTHER, 0.4)) - given(), added * float(spread), rtol=0, atol=1e-5)
    several = generate(model, request.with_(images=2, variation=(OTHER, 1)), record=True).call(0).sample[:2]
    torch.testing.assert_close(several, torch.cat([given(seed=OTHER), given(seed=OTHER + 1)]), rtol=0, atol=1e-5)


def test_watching_a_variation_sees_the_same_and_changes_nothing(tiny_pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(tiny_pipeline)
    plain = sfumato.explain(model, REQUEST, keep=("step", "layer", "head"))
    still = sfumato.explain(model, REQUEST.with_(variation=(OTHER, 0)), keep=("step", "layer", "head"))
    np.testing.assert_array_equal(np.asarray(still.image), np.asarray(plain.image))
    for node in plain.tree.subtree:
        if "map" in node.data_vars:
            np.testing.assert_allclose(still.tree[node.path]["map"], node["map"], rtol=0, atol=1e-5)

    varying = REQUEST.with_(variation=(OTHER, 0.5))
    watched, unseen = sfumato.explain(model, varying, keep=("step",)), generate(model, varying)
    np.testing.assert_array_equal(np.asarray(watched.image), pixels(unseen)[0])
    np.testing.assert_allclose(
        select(watched, steps=[0, 1]).words["map"], sfumato.explain(model, varying).words["map"], atol=1e-5
    )
    assert np.abs(watched.words["map"] - plain.words["map"]).max() > 1e-4


def test_steps_of_a_variation_are_replayed(tiny_pipeline: StableDiffusionPipeline) -> None:
    trace = generate(sfumato.wrap(tiny_pipeline), REQUEST.with_(guidance=1, variation=(OTHER, 0.5)), record=True)
    assert torch.equal(trace.replay(1), trace.call(1).output)


def test_nothing_stays_active_whatever_happens(tiny_pipeline: StableDiffusionPipeline) -> None:
    model, request = sfumato.wrap(tiny_pipeline), REQUEST.with_(variation=(OTHER, 0.5))
    before = fingerprint(tiny_pipeline)
    assert before["function modes"] == 0
    made = generate(model, request)
    assert fingerprint(tiny_pipeline) == before

    class Broken(Exception):
        pass

    def fail(*seen: Any) -> None:
        assert torch._C._len_torch_function_stack() > 0
        raise Broken

    hook = tiny_pipeline.unet.register_forward_hook(fail)
    with pytest.raises(Broken):
        generate(model, request)
    hook.remove()
    assert fingerprint(tiny_pipeline) == before
    with not_a_number(model, after=1), pytest.raises(NonFinite):
        generate(model, request)
    assert fingerprint(tiny_pipeline) == before
    assert_same(generate(model, request), made)
