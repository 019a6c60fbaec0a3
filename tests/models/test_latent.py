from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PNDMScheduler, StableDiffusionPipeline

import sfumato
from sfumato.errors import ModelError, SfumatoWarning
from sfumato.models.identity import said
from sfumato.models.schedulers import choices, scheduler_name
from sfumato.request import Request
from tests.families import family
from tests.pipelines import PROMPT, SD15_NARROW, Shape, ddim, stable_diffusion

# diffusers turns tensors into arrays in a way that NumPy 2 is going to drop
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

Build = Callable[..., StableDiffusionPipeline]


@pytest.fixture(scope="module")
def eight() -> StableDiffusionPipeline:
    """A VAE that makes 8 pixels of one cell, as that of Stable Diffusion."""
    return stable_diffusion(Shape(vae_channels=(8, 8, 8, 8), latent_side=16))


# --- requests ---------------------------------------------------------------------------------------------------


def test_open_fields_take_the_models_defaults(eight: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(eight)
    done = model.complete(Request("a"))
    assert done == Request("a", steps=50, guidance=7.5, height=128, width=128, scheduler="ddim")
    assert model.complete(done) == done
    given = Request("a", steps=3, guidance=0, height=64, width=96, scheduler="euler", seed=4, images=2)
    assert model.complete(given) == given
    assert model.latent_grid(given) == (8, 12)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"height": 513}, "height is 513; this model makes multiples of 8, so take 512 or 520"),
        ({"width": 12}, "width is 12; this model makes multiples of 8, so take 8 or 16"),
        ({"width": 8191}, "take 8184 or 8192"),
    ],
)
def test_a_size_that_the_model_cannot_make(eight: StableDiffusionPipeline, size: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        sfumato.wrap(eight).complete(Request("a", **size))  # type: ignore[arg-type]


def test_a_size_that_only_the_pipeline_refuses(tiny_pipeline: StableDiffusionPipeline) -> None:
    assert tiny_pipeline.vae_scale_factor == 2
    with pytest.raises(ModelError, match="height is 34; this model makes multiples of 8, so take 32 or 40"):
        sfumato.wrap(tiny_pipeline).complete(Request("a", height=34))


@pytest.mark.parametrize("name", ["DDIM", "ddim", "DDIMScheduler", " ddim "])
def test_a_scheduler_has_one_name(tiny_pipeline: StableDiffusionPipeline, name: str) -> None:
    assert sfumato.wrap(tiny_pipeline).complete(Request("a", scheduler=name)).scheduler == "ddim"


def test_an_unknown_scheduler_lists_those_that_fit(tiny_pipeline: StableDiffusionPipeline) -> None:
    for name in ("nosuch", "flowmatcheuler", "edmeuler"):
        with pytest.raises(
            ModelError, match=r"no scheduler .* fits this model; choose from: ddim, ddpm, .*euler.*pndm"
        ):
            sfumato.wrap(tiny_pipeline).complete(Request("a", scheduler=name))


def test_every_scheduler_that_is_offered_can_be_used(tiny_pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(tiny_pipeline)
    offered = choices(tiny_pipeline)
    assert {"ddim", "pndm", "euler", "eulerancestral", "heun", "dpmsolvermultistep", "unipcmultistep"} <= set(offered)
    for name, kind in offered.items():
        assert scheduler_name(kind) == name
        assert model.complete(Request("a", scheduler=name, steps=20)).scheduler == name


def test_steps_that_a_scheduler_cannot_make(tiny_sd: Build) -> None:
    pipeline = tiny_sd()
    model = sfumato.wrap(pipeline)
    assert model.complete(Request("a", steps=999)).steps == 999
    with pytest.raises(
        ModelError, match="ddim cannot make 1000 steps: it would begin at timestep 1000, but .* 0 to 999"
    ):
        model.complete(Request("a", steps=1000))
    assert model.complete(Request("a", steps=1, scheduler="pndm")).steps == 1
    pipeline.scheduler = PNDMScheduler.from_config(pipeline.scheduler.config, skip_prk_steps=False)
    with pytest.raises(ModelError, match="the scheduler pndm cannot make 1 steps .*take another number"):
        model.complete(Request("a", steps=1))


def test_the_batch_has_one_generator_for_each_image(tiny_pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(tiny_pipeline)
    one = model.complete(Request("a", seed=5, images=2, negative_prompt="n"))
    given = model.called_with([one, model.complete(Request("b", seed=2**63 - 1))])
    assert given["prompt"] == ["a", "a", "b"]
    assert given["negative_prompt"] == ["n", "n", ""]
    assert [generator.initial_seed() for generator in given["generator"]] == [5, 6, 2**63 - 1]
    assert {generator.device.type for generator in given["generator"]} == {"cpu"}


@pytest.mark.parametrize(
    ("guidance", "names"),
    [(0, ("conditional",)), (1, ("conditional",)), (1.01, ("unconditional", "conditional"))],
)
def test_branches(tiny_pipeline: StableDiffusionPipeline, guidance: float, names: tuple[str, ...]) -> None:
    model = sfumato.wrap(tiny_pipeline)
    branches = model.branches(model.complete(Request("a", guidance=guidance)))
    assert branches.names == names
    assert branches.rows("conditional", 3) == slice(3 * len(names) - 3, 3 * len(names))


# --- structure --------------------------------------------------------------------------------------------------


def test_the_sites_are_the_attention_modules_in_order(eight: StableDiffusionPipeline) -> None:
    pipeline = stable_diffusion(SD15_NARROW)
    model = sfumato.wrap(pipeline)
    for kind in ("self", "cross"):
        places = [site.place for site in model.sites() if site.kind == kind]
        assert places == ["down"] * 6 + ["mid"] + ["up"] * 9
    called: list[str] = []
    handles = [
        model.denoiser.get_submodule(site.name).register_forward_pre_hook(
            lambda module, args, name=site.name: called.append(name)
        )
        for site in model.sites()
    ]
    with torch.no_grad():
        pipeline.unet(torch.zeros(1, 4, 8, 8), 1, encoder_hidden_states=torch.zeros(1, 77, 32))
    assert called == [site.name for site in model.sites()]
    for handle in handles:
        handle.remove()


def test_words_and_tokens_come_from_the_tokenizer(tiny_pipeline: StableDiffusionPipeline) -> None:
    tokens = sfumato.wrap(tiny_pipeline).tokens(PROMPT)
    assert [word.text for word in tokens.words] == PROMPT.split()
    assert [word.tokens for word in tokens.words] == [(i + 1,) for i in range(9)]
    assert [word.pos for word in tokens.words][:5] == ["det", "noun", "adp", "det", "adj"]


def test_an_embedding_of_several_tokens_does_not_shift_the_words(tiny_sd: Build) -> None:
    pipeline = tiny_sd()
    pipeline.tokenizer.add_tokens(["<toy>", "<toy>_1", "<toy>_2"])
    tokens = sfumato.wrap(pipeline).tokens("a <toy> on the table")
    written = pipeline.tokenizer(pipeline.maybe_convert_prompt("a <toy> on the table", pipeline.tokenizer))["input_ids"]
    table = next(word for word in tokens.words if word.text == "table")
    assert pipeline.tokenizer.convert_ids_to_tokens([written[place] for place in table.tokens]) == ["table</w>"]


# --- notes in the model's folder ----------------------------------------------------------------------------------


def saved(tiny_sd: Build, folder: Path, notes: str | None) -> Path:
    tiny_sd().save_pretrained(folder)
    if notes is not None:
        (folder / "sfumato.json").write_text(notes)
    return folder


def test_a_model_recommends_settings_and_names_its_words(tiny_sd: Build, tmp_path: Path) -> None:
    notes = {"defaults": {"steps": 12, "guidance": 3}, "words": ["a", "red", "cat"]}
    model = sfumato.load(saved(tiny_sd, tmp_path / "m", json.dumps(notes)), device="cpu")
    done = model.complete(Request("a"))
    assert (done.steps, done.guidance) == (12, 3.0)
    assert model.unknown_words("A red zebra and a zebra") == ("zebra", "and")
    with pytest.warns(SfumatoWarning, match="never seen in training: zebra"):
        found = sfumato.explain(model, Request("a zebra", steps=1, height=16, width=16))
    assert found.provenance["notes"] == ["never seen in training: zebra"]
    assert found.out_of_vocabulary == {"zebra"}
    assert [row["out_of_vocabulary"] for row in found.summary()["words"]] == [False, True]
    small = Request("a cat", steps=1, height=16, width=16)
    with pytest.warns(SfumatoWarning, match="never seen in training: Lion"):
        other = sfumato.explain(model, small, "ovam", text="red Lion")  # not of the prompt, but read by the model
    assert [row["out_of_vocabulary"] for row in other.summary()["words"]] == [False, True]
    known = sfumato.explain(model, small)
    assert (known.notes, known.out_of_vocabulary) == ((), frozenset())


def test_damaged_notes_are_an_error(tiny_sd: Build, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="sfumato.json of m cannot be read: it is no JSON"):
        sfumato.load(saved(tiny_sd, tmp_path / "m", "{"), device="cpu").complete(Request("a"))


def test_notes_that_lie_around_are_not_the_models(
    tiny_pipeline: StableDiffusionPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sfumato.json").write_text('{"defaults": {"steps": 12}}')
    monkeypatch.chdir(tmp_path)
    assert sfumato.wrap(tiny_pipeline).complete(Request("a")).steps == 50


# --- latents and images -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("timestep", [1, 400, 981])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_clean_estimate_of_a_perfect_prediction_is_the_clean_latent(
    tiny_sd: Build, prediction: str, timestep: int
) -> None:
    pipeline = tiny_sd(scheduler=ddim(prediction))
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(2, 4, 8, 12, generator=generator, dtype=torch.float64) for _ in range(2))
    steps = torch.tensor([timestep, timestep])
    noisy = pipeline.scheduler.add_noise(clean, noise, steps)
    perfect = {
        "epsilon": noise,
        "v_prediction": pipeline.scheduler.get_velocity(clean, noise, steps),
        "sample": clean,
    }[prediction]
    found = sfumato.wrap(pipeline).clean(perfect, noisy, float(timestep))
    torch.testing.assert_close(found, clean, rtol=0, atol=1e-6)


def test_another_prediction_is_refused(tiny_sd: Build) -> None:
    pipeline = tiny_sd(scheduler=ddim("velocity of a flow"))
    with pytest.raises(ModelError, match="predicts 'velocity of a flow'; known are: epsilon, v_prediction, sample"):
        sfumato.wrap(pipeline).clean(torch.zeros(1), torch.zeros(1), 5)


def test_encoding_and_decoding(tiny_pipeline: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(tiny_pipeline)
    condition = model.encode(["a cat", "", "cat " * 200])
    assert condition.shape == (3, 77, 32)
    torch.testing.assert_close(model.encode(["a cat"]), condition[:1], rtol=1e-5, atol=1e-5)
    latents = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    images = model.decode(latents)
    assert images.shape == (2, 3, 16, 24)
    scaled = latents / tiny_pipeline.vae.config.scaling_factor
    torch.testing.assert_close(images, tiny_pipeline.vae.decode(scaled).sample, rtol=0, atol=0)
    assert not images.requires_grad


# --- arguments of the pipeline's own call -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["PixArt sigma", "Sana"])
def test_space_around_a_prompt_moves_no_token(name: str) -> None:
    model = family(name).wrapped()
    plain, spaced = model.tokens("a red cat"), model.tokens("   A Red cat ")
    assert [word.tokens for word in spaced.words] == [word.tokens for word in plain.words]
    assert [(word.text, word.start) for word in spaced.words] == [("A", 3), ("Red", 5), ("cat", 9)]


def test_a_negative_prompt_of_sana_has_no_instructions_before_it() -> None:
    model = family("Sana").wrapped()
    texts = [token.text for token in model.tokens("a cat", negative=True).context]
    assert texts[:2] == ["<bos>", "a"]
    assert len(texts) == 3


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Stable Diffusion XL", {"denoising_end": 0.5}, "denoising_end is said by the request or the run"),
        ("Stable Diffusion", {"timesteps": [5, 3]}, "timesteps is said by the request or the run"),
        (
            "PixArt sigma",
            {"clean_caption": True},
            "clean_caption must be False: else words",
        ),
        ("Flux dev", {"max_sequence_length": 0}, "max_sequence_length is 0; expected a whole number from 1"),
    ],
)
def test_arguments_that_would_change_what_is_known(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        sfumato.wrap(family(name).build(), **arguments)


def test_a_negative_prompt_that_would_not_count_is_refused() -> None:
    with pytest.raises(ModelError, match="would not count; leave it out, or wrap the pipeline with true_cfg_scale"):
        family("Flux dev").wrapped().complete(family("Flux dev").request(negative_prompt="a dog"))


def test_rescaled_guidance_is_not_made_again() -> None:
    model = sfumato.wrap(stable_diffusion(), guidance_rescale=0.7)
    with pytest.raises(ModelError, match="df_rise needs replay"):
        sfumato.explain(model, Request("a cat", height=16, width=16, steps=1), "df_rise")


def test_arguments_are_known_by_their_values() -> None:
    masks = [torch.zeros(5000), torch.zeros(5000)]
    masks[1][4999] = 1
    one, other = ({"cross_attention_kwargs": {"ip_adapter_masks": [mask]}} for mask in masks)
    assert said(one) != said(other)
    assert said(one) == said({"cross_attention_kwargs": {"ip_adapter_masks": [torch.zeros(5000)]}})
    assert json.loads(json.dumps(said(one | {"scale": 0.5, "name": "x", "none": None})))["scale"] == 0.5
