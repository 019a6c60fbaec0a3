"""The ways in which users run their pipelines: the image stays that of its own call, the maps those of a softmax."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
)
from diffusers.hooks import apply_group_offloading
from diffusers.models.attention_processor import AttnProcessor
from numpy.typing import NDArray

import sfumato
from sfumato.errors import ModelError, RequestError
from sfumato.generation.generate import generate
from sfumato.methods.daam import select
from sfumato.results.explanation import Explanation
from tests.cli.running import run
from tests.families import Family, family
from tests.families.parts import NEGATIVE, PROMPT, mask, picture
from tests.models.test_families import Explained, by_softmax
from tests.pipelines import fingerprint

pytestmark = [
    pytest.mark.slow,
    # diffusers and transformers turn tensors into arrays in a way that NumPy 2 is going to drop
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`(FluxPosEmbed|upcast_vae)` is deprecated:FutureWarning"),
]

UNETS = ("Stable Diffusion", "Stable Diffusion XL")
JOINT = ("Stable Diffusion 3", "Flux dev", "Chroma", "Qwen-Image")
ALL = (*UNETS, *JOINT, "PixArt sigma")
HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}
CPU = torch.device("cpu")

ROUNDING = 1e-4
"""Of the largest value: what another order of additions makes after two steps."""


def denoiser_of(pipeline: DiffusionPipeline) -> Any:
    return pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer


def maps_of(found: Explanation) -> NDArray[np.float32]:
    maps: NDArray[np.float32] = found.tree["tokens"]["map"].values
    return maps


@cache
def built(name: str) -> Any:
    """A family's pipeline that was called once, for tests that leave it as it is."""
    pipeline = family(name).build()
    family(name).run(pipeline, steps=1)
    return pipeline


@cache
def plain_maps(name: str, steps: tuple[int, ...] | None = None, **more: Any) -> NDArray[np.float32]:
    """Of a family's tokens, with its pipeline as it was built."""
    return maps_of(sfumato.explain(family(name).wrapped(built(name)), family(name).request(**more), steps=steps))


def assert_near(found: NDArray[Any], wanted: NDArray[Any], tolerance: float = ROUNDING) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * float(np.abs(wanted).max()))


def changed(name: str, change: Callable[[Any], Any]) -> DiffusionPipeline:
    pipeline = family(name).build()
    change(pipeline)
    return pipeline


# --- the state of a pipeline ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """Something that users do to a pipeline before they call it.

    Attributes:
        change: What is done.
        families: To which.
        same: Whether the maps stay those of the plain way; else they are compared with an ordinary softmax.
    """

    change: Callable[[Any], Any]
    families: tuple[str, ...] = ALL
    same: bool = True


def in_small_tiles(pipeline: Any) -> None:
    pipeline.vae.enable_slicing()
    pipeline.vae.enable_tiling()
    for name in ("tile_sample_min_height", "tile_sample_min_width", "tile_sample_min_size"):
        if hasattr(pipeline.vae, name):
            setattr(pipeline.vae, name, 32)
    for name in ("tile_sample_stride_height", "tile_sample_stride_width"):
        if hasattr(pipeline.vae, name):
            setattr(pipeline.vae, name, 24)
    if hasattr(pipeline.vae, "tile_latent_min_size"):
        pipeline.vae.tile_latent_min_size = 8


def offloaded_by_groups(kind: str, pipeline: Any) -> None:
    apply_group_offloading(denoiser_of(pipeline), CPU, offload_type=kind, num_blocks_per_group=1)


def with_scheduler(kind: Any, pipeline: Any) -> None:
    more = {"skip_prk_steps": True} if kind is PNDMScheduler else {}
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **more)


SOME = ("Stable Diffusion", "Flux dev")
WAYS = {
    "fused projections": Way(lambda p: denoiser_of(p).fuse_qkv_projections()),
    "fused by the pipeline": Way(lambda p: p.fuse_qkv_projections(), ("Stable Diffusion",)),
    "sliced attention": Way(lambda p: p.enable_attention_slicing(1), ("Stable Diffusion", "Stable Diffusion 3")),
    "explicit attention": Way(
        lambda p: denoiser_of(p).set_attn_processor(AttnProcessor()), ("Stable Diffusion XL", "PixArt sigma")
    ),
    "small tiles": Way(in_small_tiles, ("Stable Diffusion", "Flux dev", "Qwen-Image")),
    "FreeU": Way(lambda p: p.enable_freeu(0.9, 0.2, 1.2, 1.4), ("Stable Diffusion",), same=False),
    "models offloaded": Way(lambda p: p.enable_model_cpu_offload(device="cpu"), (*SOME, "Qwen-Image")),
    "leaves offloaded": Way(partial(offloaded_by_groups, "leaf_level"), SOME),
    "blocks offloaded": Way(partial(offloaded_by_groups, "block_level"), SOME),
    "stored in bfloat16": Way(
        lambda p: denoiser_of(p).enable_layerwise_casting(torch.bfloat16, torch.float32), SOME, same=False
    ),
    "in training mode": Way(lambda p: denoiser_of(p).train(), SOME),
    "checkpointed": Way(lambda p: denoiser_of(p).enable_gradient_checkpointing(), SOME),
    "PNDM": Way(partial(with_scheduler, PNDMScheduler), ("Stable Diffusion",), same=False),
    "Heun": Way(partial(with_scheduler, HeunDiscreteScheduler), ("Stable Diffusion", "PixArt sigma"), same=False),
    "Heun of a flow": Way(
        partial(with_scheduler, FlowMatchHeunDiscreteScheduler), ("Stable Diffusion 3", "AuraFlow"), same=False
    ),
    "float16": Way(lambda p: p.to(torch.float16), SOME, same=False),
    "bfloat16": Way(lambda p: p.to(torch.bfloat16), same=False),
}
TABLE = [(way, name) for way, found in WAYS.items() for name in found.families]


def assert_explained_as_it_is(name: str, pipeline: Any, *, same: bool) -> NDArray[np.float32]:
    """The image with and without watching, what is left behind, and the maps."""
    made = replace(family(name), build=lambda: pipeline)
    if same:
        image, before = made.run(pipeline), fingerprint(pipeline)
        found = sfumato.explain(made.wrapped(pipeline), made.request())
        assert fingerprint(pipeline) == before
        assert_near(maps_of(found), plain_maps(name))
    else:
        watched = Explained(made)
        image, found = watched.plain, watched.found
        np.testing.assert_array_equal(watched.after, image)
        assert watched.restored
        tokens = found.tree["tokens"].to_dataset()
        assert_near(maps_of(found), by_softmax(made, watched, (tokens.sizes["y"], tokens.sizes["x"]))[tokens["index"]])
    np.testing.assert_array_equal(np.asarray(found.image), image)
    assert maps_of(found).dtype == np.float32
    return maps_of(found)


@pytest.mark.parametrize(("way", "name"), TABLE)
def test_a_pipeline_is_explained_as_it_is(way: str, name: str) -> None:
    assert_explained_as_it_is(name, changed(name, WAYS[way].change), same=WAYS[way].same)


@pytest.mark.parametrize(("name", "kind"), [*product(ALL, ["bfloat16"]), *product(SOME, ["float16"])])
def test_half_precision_is_near_single_precision(name: str, kind: str) -> None:
    model = family(name).wrapped(family(name).build().to(HALF[kind]))
    # Flux embeds 1000 times its guidance: 4000 is a number of bfloat16, 3500 is not
    found = sfumato.explain(model, family(name).request(guidance=4.0), steps=(0,))  # later ones start elsewhere
    assert found.provenance["dtype"] == kind
    together = np.corrcoef(maps_of(found).ravel(), plain_maps(name, (0,), guidance=4.0).ravel())[0, 1]
    assert together > {"float16": 0.99999, "bfloat16": 0.999}[kind]


@pytest.mark.parametrize("name", ["Stable Diffusion", "Flux dev"])
def test_weights_that_are_elsewhere_between_calls(name: str) -> None:
    pipeline = family(name).build()
    accelerate.cpu_offload(denoiser_of(pipeline), execution_device=CPU)  # as enable_sequential_cpu_offload does it
    image = family(name).run(pipeline)
    kept = {fact for fact in fingerprint(pipeline).items() if not fact[0].startswith("weight ")}  # exchanged each time
    found = sfumato.explain(family(name).wrapped(pipeline), family(name).request())
    np.testing.assert_array_equal(np.asarray(found.image), image)
    assert {fact for fact in fingerprint(pipeline).items() if not fact[0].startswith("weight ")} == kept
    assert_near(maps_of(found), plain_maps(name))


# --- adapters of low rank ---------------------------------------------------------------------------------------


def adapted(name: str, way: str) -> DiffusionPipeline:
    """A pipeline with a random LoRA in its attention."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline = family(name).build()
    denoiser = denoiser_of(pipeline)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        targets = ["to_q", "to_k", "to_v", "to_out.0"]
        denoiser.add_adapter(LoraConfig(r=4, lora_alpha=8, init_lora_weights=False, target_modules=targets), "mine")
    if way == "loaded":
        part = "unet" if hasattr(pipeline, "unet") else "transformer"
        learnt = get_peft_model_state_dict(denoiser, adapter_name="mine")
        pipeline = family(name).build()
        pipeline.load_lora_weights({f"{part}.{key}": value for key, value in learnt.items()})
    elif way == "fused":
        pipeline.fuse_lora()
    return pipeline


@pytest.mark.parametrize("way", ["added", "loaded", "fused"])
@pytest.mark.parametrize("name", [*UNETS, *JOINT])
def test_adapters_of_low_rank(name: str, way: str) -> None:
    pytest.importorskip("peft")
    maps = assert_explained_as_it_is(name, adapted(name, way), same=False)
    assert np.abs(maps - plain_maps(name)).max() > 0.01 * plain_maps(name).max()  # it has an effect


# --- what is asked for ------------------------------------------------------------------------------------------


def called(pipeline: Any, chosen: Family, prompts: list[str], seeds: list[int], **more: Any) -> list[NDArray[Any]]:
    """The images of the pipeline's own call for several prompts."""
    arguments = {**chosen.arguments, "prompt": prompts}
    if "negative_prompt" in arguments:
        arguments["negative_prompt"] = [arguments["negative_prompt"]] * len(prompts)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    made = pipeline(**{**arguments, **more}, num_inference_steps=2, generator=generators).images
    return [np.asarray(image) for image in made]


@pytest.mark.parametrize("name", ALL)
def test_several_images_and_prompts(name: str) -> None:
    chosen, pipeline = family(name), built(name)
    model = chosen.wrapped(pipeline)
    for prompts, requests in {
        (PROMPT,) * 3: [chosen.request(images=3)],
        (PROMPT, "a dog on the left"): [chosen.request(), chosen.request(prompt="a dog on the left", seed=1)],
    }.items():
        wanted = called(pipeline, chosen, list(prompts), list(range(len(prompts))))
        before = fingerprint(pipeline)
        found = sfumato.explain(model, requests)
        images = [np.asarray(image) for one in found for image in one.images]
        np.testing.assert_array_equal(np.stack(images), np.stack(wanted))
        assert fingerprint(pipeline) == before
        first = maps_of(found[0])
        assert_near(first[0] if first.ndim == 4 else first, plain_maps(name))


@pytest.mark.parametrize(("name", "size"), [*((name, (128, 40)) for name in ALL), ("Flux dev", (32, 64))])
def test_sizes(name: str, size: tuple[int, int]) -> None:
    chosen, pipeline = family(name), built(name)
    chosen = replace(chosen, arguments={**chosen.arguments, "height": size[0], "width": size[1]})
    image, before = chosen.run(pipeline), fingerprint(pipeline)
    found = sfumato.explain(chosen.wrapped(pipeline), chosen.request())
    np.testing.assert_array_equal(np.asarray(found.image), image)
    assert fingerprint(pipeline) == before
    assert image.shape == (*size, 3)
    assert maps_of(found).shape[1:] == (size[0] // 4, size[1] // 4)


@pytest.mark.parametrize("name", ALL)
def test_kept_axes_give_the_running_mean(name: str) -> None:
    chosen = family(name)
    kept = sfumato.explain(chosen.wrapped(built(chosen.name)), chosen.request(), keep=("step", "layer", "head"))
    assert_near(maps_of(kept), plain_maps(name), 1e-6)
    assert_near(maps_of(select(kept)), plain_maps(name), 1e-6)
    assert_near(maps_of(select(kept, steps=[1])), plain_maps(name, (1,)), 1e-6)


@pytest.mark.parametrize("name", [name for name in ALL if name != "Flux dev"] + ["Flux, true guidance"])
def test_what_is_steered_away_from_has_the_map_that_it_has_as_a_prompt(name: str) -> None:
    """Prompt and negative prompt are exchanged; at the first step both branches see the same noise."""
    model = family(name).wrapped(built(name))
    asked = family(name).request(negative_prompt=NEGATIVE)
    swapped = asked.with_(prompt=NEGATIVE, negative_prompt=PROMPT)
    first, second = (sfumato.explain(model, one, negative=True, steps=(0,)) for one in (asked, swapped))
    assert first.tree["negative_words"]["word"].values.tolist() == ["a", "blue", "dog"]
    for one, other in ((first, second), (second, first)):
        assert_near(one.tree["negative_tokens"]["map"].values, maps_of(other))


@pytest.mark.parametrize(
    ("name", "settings", "advice"),
    [
        ("Flux dev", {"guidance": 3.5}, "true_cfg_scale"),
        ("Qwen-Image", {"guidance": 4.0, "negative_prompt": ""}, "give a negative prompt"),
    ],
)
def test_the_advice_for_negative_maps_can_be_followed(name: str, settings: dict[str, Any], advice: str) -> None:
    with pytest.raises(ModelError, match=advice):
        sfumato.explain(family(name).wrapped(built(name)), family(name).request(**settings), negative=True)


# --- folders ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Pipelines in diffusers' layout, by the names of their families."""
    root = tmp_path_factory.mktemp("saved")

    @cache
    def folder(name: str) -> Path:
        family(name).build().save_pretrained(root / name)
        return root / name

    return folder


@pytest.mark.parametrize("name", ALL)
def test_a_saved_pipeline_gives_the_same_maps(name: str, saved: Callable[[str], Path]) -> None:
    arguments = family(name).wrapped(built(name)).arguments
    model = sfumato.load(saved(name), device="cpu", arguments=arguments)
    assert dict(model.arguments) == dict(arguments)
    assert_near(maps_of(sfumato.explain(model, family(name).request())), plain_maps(name), 1e-6)


@pytest.mark.parametrize(
    ("task", "given"),
    [
        ("image-to-image", {"image": picture(), "strength": 0.9}),
        ("inpainting", {"image": picture(), "mask_image": mask(), "strength": 0.9}),
    ],
)
@pytest.mark.parametrize("name", [*UNETS, "Stable Diffusion 3", "Flux dev"])
def test_a_folder_is_used_for_other_tasks(name: str, task: Any, given: dict[str, Any], saved: Any) -> None:
    chosen = replace(family(name), arguments={**family(name).arguments, **given})
    model = sfumato.load(saved(name), device="cpu", task=task, arguments=family(name).wrapped(built(name)).arguments)
    model.pipeline.set_progress_bar_config(disable=True)
    plain, before = chosen.run(model.pipeline, steps=3), fingerprint(model.pipeline)
    found = sfumato.explain(model, chosen.request(steps=3))
    np.testing.assert_array_equal(np.asarray(found.image), plain)
    assert fingerprint(model.pipeline) == before
    assert "table" in found.words["word"].values


def test_a_task_that_a_model_cannot_do(saved: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="ChromaPipeline cannot do inpainting"):
        sfumato.load(saved("Chroma"), device="cpu", task="inpainting")
    with pytest.raises(ModelError, match="QwenImageImg2ImgPipeline is not supported; supported are: "):
        sfumato.load(saved("Qwen-Image"), device="cpu", task="image-to-image")


@pytest.mark.parametrize("name", ["Flux dev", "Stable Diffusion 3"])
def test_on_the_command_line(name: str, saved: Callable[[str], Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = ["--steps", "2", "--size", "64x96", "--device", "cpu", "--argument", "max_sequence_length=32"]
    done = run("explain", "a red cat", "--model", str(saved(name)), *settings, "--out", str(out))
    assert (done.code, done.err) == (0, "")
    found = sfumato.open(out)
    assert found.words["word"].values.tolist() == ["a", "red", "cat"]
    assert (found.words.sizes["y"], found.words.sizes["x"]) == (16, 24)
    assert {file.stem.split("-")[-1] for file in (out / "words").glob("*.png")} >= {"red", "cat"}


# --- given images -----------------------------------------------------------------------------------------------

GIVEN = picture(seed=3)
LOOKED_AT = (*ALL, "AuraFlow", "Flux, true guidance")


def looked_at(name: str, **more: Any) -> sfumato.Request:
    """What is asked of a family about the given image."""
    return family(name).request(image=GIVEN, invert="noise", **{"steps": None, **more})


@torch.no_grad()
def noised(pipeline: Any, at: int, seed: int) -> torch.Tensor:
    """The given image with noise, written out: signal * mean of the VAE's posterior + spread * noise of the seed."""
    pixels = torch.from_numpy(np.array(GIVEN)).permute(2, 0, 1)[None] / 127.5 - 1
    vae = pipeline.vae
    if type(vae).__name__ == "AutoencoderKLQwenImage":
        latent = vae.encode(pixels[:, :, None]).latent_dist.mean[:, :, 0]  # its mean and spread are 0 and 1 here
    else:
        mean = vae.encode(pixels).latent_dist.mean
        latent = (mean - (vae.config.shift_factor or 0)) * vae.config.scaling_factor
    drawn = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed))
    if hasattr(pipeline.scheduler, "alphas_cumprod"):
        alpha_bar = pipeline.scheduler.alphas_cumprod[at]
        return alpha_bar.sqrt() * latent + (1 - alpha_bar).sqrt() * drawn
    return (1 - at / 1000) * latent + at / 1000 * drawn


def packed(latent: torch.Tensor) -> torch.Tensor:
    """Two by two positions as channels of a sequence."""
    rows, channels, height, width = latent.shape
    apart = latent.view(rows, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return apart.reshape(rows, height * width // 4, channels * 4)


@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_given_image_is_looked_at_once(name: str) -> None:
    chosen, pipeline = family(name), built(name)
    model, asked = chosen.wrapped(pipeline), looked_at(name, at=500, seed=7)
    before = fingerprint(pipeline)
    found = sfumato.explain(model, asked)
    trace = generate(model, asked, record=True)
    assert fingerprint(pipeline) == before
    assert len(trace.calls) == trace.branches.calls
    wanted = noised(pipeline, 500, 7)
    for call in trace.calls:
        assert call.timestep == 500
        assert len(call.sample) == trace.branches.blocks
        rows = packed(wanted) if call.sample.ndim == 3 else wanted
        torch.testing.assert_close(call.sample, rows.expand_as(call.sample), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(GIVEN))
    assert "table" in found.words["word"].values
    early, late = (maps_of(sfumato.explain(model, asked.with_(at=at))) for at in (100, 900))
    assert np.abs(early - late).max() > 0.01 * early.max()


@pytest.mark.parametrize("name", ["Stable Diffusion", "Chroma"])
def test_given_images_share_a_batch(name: str) -> None:
    model = family(name).wrapped(built(name))
    first = looked_at(name, images=3)
    other = first.with_(prompt="a dog", image=picture(seed=4), images=1, seed=9)
    several, another = sfumato.explain(model, [first, other])
    assert [np.array_equal(np.asarray(image), np.asarray(GIVEN)) for image in several.images] == [True] * 3
    alone = sfumato.explain(model, first.with_(seed=1, images=1))
    assert_near(maps_of(several)[1], maps_of(alone))
    assert_near(maps_of(another), maps_of(sfumato.explain(model, other)))


@pytest.mark.parametrize("name", ["Stable Diffusion, image to image", "Flux, inpainting", "InstructPix2Pix"])
def test_a_pipeline_that_takes_an_image_otherwise(name: str) -> None:
    with pytest.raises(ModelError, match="cannot look at a given image; take a text-to-image pipeline of the"):
        sfumato.explain(family(name).wrapped(), family(name).request(invert="noise", strength=None, steps=None))


def test_given_images_that_cannot_be_looked_at() -> None:
    chosen = family("Stable Diffusion")
    model = chosen.wrapped(built(chosen.name))
    with pytest.raises(ModelError, match="height is 50; this model makes multiples of 8, so take 48 or 56"):
        sfumato.explain(model, sfumato.Request("a", image=picture(50, 72), invert="noise"))
    with pytest.raises(ModelError, match="or give invert='noise' to look at it"):
        sfumato.explain(model, chosen.request(image=GIVEN))
    with pytest.raises(ModelError, match="steps is 2; a given image is looked at once, so leave it out"):
        sfumato.explain(model, looked_at(chosen.name, steps=2))
    with pytest.raises(RequestError, match="at is 300, but no image is to be noised"):
        chosen.request(at=300)


@pytest.mark.parametrize("name", ["Sana", "Latent Consistency Model"])
def test_autoencoders_without_a_posterior_and_schedulers_of_their_own_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="cannot look at a given image"):
        sfumato.explain(family(name).wrapped(), looked_at(name))


@pytest.mark.parametrize("order", [1, -1])
def test_images_that_are_given_and_made_do_not_share_a_batch(order: int) -> None:
    chosen = family("Stable Diffusion")
    given = looked_at(chosen.name, at=300)
    made = chosen.request(steps=None, schedule=(300,), scheduler="ddim")
    with pytest.raises(RequestError, match="must share invert"):
        generate(chosen.wrapped(built(chosen.name)), [given, made][::order])


def test_an_autoencoder_that_overflows_in_half_precision_encodes_in_single_precision() -> None:
    pipeline = family("Stable Diffusion XL").build().to(torch.float16)
    assert pipeline.vae.config.force_upcast
    seen: list[torch.dtype] = []
    pipeline.vae.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
    model = family("Stable Diffusion XL").wrapped(pipeline)
    sfumato.explain(model, looked_at("Stable Diffusion XL"))
    assert seen == [torch.float32]
