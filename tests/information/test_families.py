"""Every family whose steps can be replayed says what words tell it; other timesteps are as the pipeline's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import sfumato
from sfumato.errors import ModelError, OptionError
from sfumato.generation.generate import generate
from sfumato.information.estimating import Contexts, along
from sfumato.information.levels import levels_at
from tests.families import FAMILIES, Family, family
from tests.methods.steps import REQUESTS, model_of
from tests.pipelines import fingerprint

# diffusers and transformers turn tensors into arrays in a way that NumPy 2 is going to drop
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
TOLD_NOTHING = ("Kandinsky 2.2, decoder", "Kandinsky 2.2, inpainting", "DDPM", "DDIM")
NOT_REPLAYED = (
    "InstructPix2Pix", "Flux dev", "Flux schnell", "Flux, true guidance", "Flux, image to image", "Flux, inpainting",
    "Chroma", "AuraFlow", "Qwen-Image", "Hunyuan-DiT", "Sana", "Paint-by-Example",
)  # fmt: skip
MOST_UNLIKE = (
    "Stable Diffusion",
    "Stable Diffusion, inpainting with nine channels",
    "Stable Diffusion XL",
    "Stable Diffusion 3.5",
    "PixArt sigma",
)
ASKABLE = [
    pytest.param(one, marks=() if one.name in MOST_UNLIKE else pytest.mark.slow, id=one.name)
    for one in FAMILIES
    if one.name not in TOLD_NOTHING + NOT_REPLAYED
]
STALE = ("Stable Diffusion, ControlNet", "Stable Diffusion XL, ControlNet")
"""What the network beside the denoiser gave at the recorded step is taken at every timestep."""

NAMES = ("timestep", "encoder_hidden_states")


@pytest.mark.parametrize("found", ASKABLE)
def test_maps_are_on_the_latent_and_sum_to_the_importance(found: Family) -> None:
    model, request = found.wrapped(), found.request(prompt="red cat")
    plain = np.asarray(generate(model, request).images[0])
    before = fingerprint(model.pipeline)  # text encoders hook themselves when they are first called
    for options in ({"samples": 3}, {"of": "trajectory"}):
        one = sfumato.explain(model, request, "information", **options)
        maps = one.tree["information/maps"]["nats"].values
        assert maps.shape == (2, *model.latent_grid(model.complete(request)))
        assert np.isfinite(maps).all()
        assert maps.min() >= 0
        assert maps.max() > 0
        np.testing.assert_allclose(maps.sum((1, 2)), one.tree["information/word_importance"]["phi"].values, rtol=1e-4)
        np.testing.assert_array_equal(np.asarray(one.image), plain)
    assert fingerprint(model.pipeline) == before


@pytest.mark.parametrize("found", ASKABLE)
def test_another_timestep_is_the_call_of_the_pipeline_at_that_step(found: Family) -> None:
    model = found.wrapped()
    trace = generate(model, found.request(steps=4), record=True)
    rows = trace.branches.rows("conditional", 1)
    for call in trace.calls[1:]:
        made = trace.replay(0, sample=call.sample[rows], timestep=call.timestep)
        stale = trace.replay(0, sample=call.sample[rows])
        scale = float(call.output[rows].abs().max())
        assert (stale - call.output[rows]).abs().max() > 1e-5 * scale  # the timestep counts
        if found.name not in STALE:
            torch.testing.assert_close(made, call.output[rows], rtol=0, atol=1e-4 * scale)


def test_along_a_run_a_control_net_says_what_it_said_at_each_step() -> None:
    found = family(STALE[0])
    model, request = found.wrapped(), found.request(prompt="red cat")
    trace = generate(model, request, record=True)
    known = levels_at(model, [call.timestep for call in trace.calls])
    expected = np.zeros(model.latent_grid(trace.requests[0]))
    for call in trace.calls:
        made = trace.replay(call.step, condition=model.encode(["cat", "red cat"]))
        width = known.width[known.timesteps.tolist().index(call.timestep)]
        expected += width / 2 * (made[0] - made[1]).square().sum(0).numpy()
    maps = along(trace, Contexts(("red cat", "cat"), ((1, 0),)), known).maps
    np.testing.assert_allclose(maps[0], expected, rtol=0, atol=1e-3 * expected.max())


@pytest.mark.parametrize("name", ["Stable Diffusion XL", "Stable Diffusion, inpainting with nine channels"])
def test_the_denoiser_is_given_each_context_and_the_same_sample(name: str) -> None:
    found = family(name)
    model, request = found.wrapped(), found.request(prompt="red cat")
    trace = generate(model, request, record=(0,))
    calls: list[dict[str, Any]] = []

    def see(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        calls.append({"sample": args[0], **dict(zip(NAMES, args[1:], strict=False)), **kwargs})

    hook = model.denoiser.register_forward_pre_hook(see, with_kwargs=True)
    sfumato.explain(model, request, "information", samples=2, at=(200, 700))
    hook.remove()
    texts = ["red cat", "cat", "red"]
    first, second = calls[-2:]
    assert sorted(float(call["timestep"]) for call in (first, second)) == [200, 700]
    for call in (first, second):
        torch.testing.assert_close(call["encoder_hidden_states"], model.encode(texts))
        assert call["sample"].shape[0] == 3
        assert (call["sample"] == call["sample"][:1]).all()
        signal, spread = (float(level) for level in model.levels(float(call["timestep"])))
        noise = (call["sample"][:1, :4] - signal * trace.latents) / spread
        assert float(noise.std()) == pytest.approx(1, abs=0.15)
        if "nine" in name:
            recorded = trace.call(0).sample[1:]
            torch.testing.assert_close(call["sample"][:, 4:], recorded[:, 4:].expand(3, -1, -1, -1))
        if name == "Stable Diffusion XL":
            added = call["added_cond_kwargs"]
            torch.testing.assert_close(added["text_embeds"], model.pooled(texts)["added_cond_kwargs.text_embeds"])
            ids = trace.call(0).arguments["added_cond_kwargs"]["time_ids"][1:]
            torch.testing.assert_close(added["time_ids"], ids.expand(3, -1))
    assert (first["sample"] - second["sample"]).abs().max() > 0.1


def test_a_label_model_is_told_labels() -> None:
    model, request = model_of("velocity"), REQUESTS["velocity"]
    one = sfumato.explain(model, request, "information", samples=3)
    maps = one.tree["information/maps"]["nats"].values
    assert maps.shape == (5, 16, 16)
    assert maps.min() >= 0
    np.testing.assert_allclose(maps.sum((1, 2)), one.tree["information/word_importance"]["phi"].values, rtol=1e-4)
    trace = generate(model, request, record=True)
    rows = trace.branches.rows("conditional", 1)
    for call in trace.calls[1:]:
        made = trace.replay(0, sample=call.sample[rows], timestep=call.timestep)
        torch.testing.assert_close(made, call.output[rows], rtol=1e-4, atol=1e-5)


def test_a_denoiser_that_is_told_no_timestep_cannot_be_asked_about_another() -> None:
    trace = generate(model_of("text"), REQUESTS["text"], record=True)
    del trace.calls[0].arguments["timestep"]
    with pytest.raises(ModelError, match="the denoiser's call names no timestep, so it cannot be asked about another"):
        trace.replay(0, timestep=300)


@pytest.mark.slow
@pytest.mark.parametrize("name", NOT_REPLAYED)
def test_families_that_cannot_be_replayed_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="information needs replay, "):
        sfumato.explain(family(name).wrapped(), family(name).request(), "information")


@pytest.mark.parametrize("name", TOLD_NOTHING)
def test_families_that_are_told_no_words_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="information needs .*words or label or reference, which .* does not have"):
        sfumato.explain(family(name).wrapped(), family(name).request(), "information")


def test_a_model_of_distilled_guidance_is_asked_what_a_word_adds_to_the_rest() -> None:
    found = family("Latent Consistency Model")
    model, request = found.wrapped(), found.request(prompt="red cat")
    one = sfumato.explain(model, request, "information", samples=3)
    assert (one.tree["information/word_importance"]["phi"].values > 0).all()
    with pytest.raises(
        OptionError, match="distilled into it, so the empty prompt means nothing to it; take given=rest"
    ):
        sfumato.explain(model, request, "information", given="empty")
