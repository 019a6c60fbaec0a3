"""Pipelines and calls out of the ordinary: explained as they are, or refused in one line, with nothing left behind."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache, wraps
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

import sfumato
from sfumato.errors import CannotWatch, ModelError, RequestError
from sfumato.generation.generate import generate
from sfumato.request import Request
from tests.families import Family, family
from tests.families.parts import NEGATIVE, PROMPT, SIZE, T5_LENGTH
from tests.generation.recorders.explicit_attention import hand_made_softmax, ordinary_softmax
from tests.pipelines import WORDS, clip_tokenizer, fingerprint

pytestmark = [
    # diffusers and transformers turn tensors into arrays in a way that NumPy 2 is going to drop
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning"),
]

ROUNDING = 1e-4
"""Of the largest value: what another order of additions makes after two steps."""


def denoiser_of(pipeline: DiffusionPipeline) -> Any:
    return pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer


def maps_of(found: Any) -> NDArray[np.float32]:
    maps: NDArray[np.float32] = found.tree["tokens"]["map"].values
    return maps


@cache
def plain_maps(name: str) -> NDArray[np.float32]:
    """Of a family's tokens, with its pipeline as it was built."""
    return maps_of(sfumato.explain(family(name).wrapped(), family(name).request()))


def assert_near(found: NDArray[Any], wanted: NDArray[Any]) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=ROUNDING * float(np.abs(wanted).max()))


def ran(name: str) -> tuple[Family, Any]:
    """A family and its pipeline, which was called once: its text encoders keep what they set up at their first call."""
    pipeline = family(name).build()
    family(name).run(pipeline, steps=1)
    return family(name), pipeline


@contextmanager
def unchanged(pipeline: Any) -> Iterator[None]:
    before = fingerprint(pipeline)
    yield
    assert fingerprint(pipeline) == before


@contextmanager
def refused(pipeline: Any, kind: type[Exception], message: str) -> Iterator[None]:
    """One line that says what was wrong, and a pipeline as it was."""
    with unchanged(pipeline), pytest.raises(kind, match=message) as error:
        yield
    assert "\n" not in str(error.value)


# --- ways to compute attention ----------------------------------------------------------------------------------


def compiled(pipeline: Any, way: str) -> None:
    if way == "wrapper":
        pipeline.transformer = torch.compile(pipeline.transformer, backend="eager")
    elif way == "in place":
        pipeline.transformer.compile(backend="eager")
    else:
        pipeline.transformer.transformer_blocks[1].compile(backend="eager")


@pytest.mark.parametrize("way", ["wrapper", "in place", "one block"])
@pytest.mark.parametrize("name", ["Flux dev", "Stable Diffusion 3", "PixArt sigma"])
def test_a_compiled_transformer(name: str, way: str) -> None:
    chosen, pipeline = ran(name)
    compiled(pipeline, way)
    with refused(pipeline, CannotWatch, r"is compiled, so its attention cannot be seen; load the model without"):
        sfumato.explain(chosen.wrapped(pipeline), chosen.request())


@pytest.mark.parametrize("backend", [backend.value for backend in AttentionBackendName])
@pytest.mark.parametrize("name", ["Flux dev", "Chroma"])  # without and with a mask
def test_attention_backends(name: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, pipeline = family(name), family(name).build()
    monkeypatch.setattr(_AttentionBackendRegistry, "_active_backend", _AttentionBackendRegistry._active_backend)
    before = fingerprint(pipeline)
    try:
        pipeline.transformer.set_attention_backend(backend)
    except (RuntimeError, ValueError, ImportError):  # of a library that is not installed, which diffusers says
        assert backend not in ("native", "flex", "_native_math")
        assert fingerprint(pipeline) == before
        return
    try:
        image, problem = chosen.run(pipeline), None
    except (RuntimeError, ValueError) as error:
        image, problem = None, error
    if problem is not None:  # not on a CPU, or not with a mask
        with unchanged(pipeline), pytest.raises((type(problem), ModelError), match=str(problem)[:40]):
            sfumato.explain(chosen.wrapped(pipeline), chosen.request())
    elif backend == "flex":
        with refused(pipeline, CannotWatch, r"transformer_blocks.0.attn \(Flux.*set_attention_backend\('native'\)"):
            sfumato.explain(chosen.wrapped(pipeline), chosen.request())
    else:
        with unchanged(pipeline):
            found = sfumato.explain(chosen.wrapped(pipeline), chosen.request())
        np.testing.assert_array_equal(np.asarray(found.image), image)
        assert_near(maps_of(found), plain_maps(name))


class WrittenOut(TorchFunctionMode):
    """Attention without PyTorch's kernel, by some softmax."""

    def __init__(self, softmax: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.softmax = softmax

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        names = ("query", "key", "value", "attn_mask")
        return self.attend(**dict(zip(names, args, strict=False)) | (kwargs or {}))

    def attend(self, query: Any, key: Any, value: Any, attn_mask: Any = None, **settings: Any) -> torch.Tensor:
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        if attn_mask is not None:
            scores = scores.masked_fill(~attn_mask, -1e9) if attn_mask.dtype == torch.bool else scores + attn_mask
        return self.softmax(scores) @ value


def of_ones_own(processor: Any, softmax: Callable[[torch.Tensor], torch.Tensor] | None) -> Any:
    """A processor of another name that does as the given one, with the kernel or with a softmax."""
    kind = type(processor)

    @wraps(kind.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with nullcontext() if softmax is None else WrittenOut(softmax):
            return kind.__call__(self, *args, **kwargs)

    own = copy.copy(processor)
    own.__class__ = type("OnesOwn", (kind,), {"__call__": call})
    return own


def with_processors(pipeline: Any, softmax: Callable[[torch.Tensor], torch.Tensor] | None) -> Any:
    for module in denoiser_of(pipeline).modules():
        if hasattr(module, "processor"):
            module.processor = of_ones_own(module.processor, softmax)
    return pipeline


@pytest.mark.parametrize("softmax", [None, ordinary_softmax], ids=["kernel", "softmax"])
@pytest.mark.parametrize(
    "name",
    [
        "Stable Diffusion",
        "Stable Diffusion 3",
        "PixArt sigma",
        "Flux dev",
        "Chroma",
        "Qwen-Image",
        "AuraFlow",
    ],
)
def test_processors_of_ones_own_give_the_same_maps(name: str, softmax: Any) -> None:
    pipeline = with_processors(family(name).build(), softmax)
    image = family(name).run(pipeline)
    with unchanged(pipeline):
        found = sfumato.explain(family(name).wrapped(pipeline), family(name).request())
    np.testing.assert_array_equal(np.asarray(found.image), image)
    assert_near(maps_of(found), plain_maps(name))


@pytest.mark.parametrize(
    ("name", "site", "advice"),
    [
        ("Stable Diffusion", "attn2", r"unet\.set_attn_processor\(AttnProcessor2_0\(\)\)"),
        ("Stable Diffusion 3", r"transformer_blocks\.0\.attn", r"transformer\.set_attention_backend\('native'\)"),
        ("Flux dev", r"transformer_blocks\.0\.attn", r"transformer\.set_attention_backend\('native'\)"),
    ],
)
def test_processors_that_show_no_softmax(name: str, site: str, advice: str) -> None:
    chosen, pipeline = ran(name)
    with_processors(pipeline, hand_made_softmax)
    with refused(
        pipeline, CannotWatch, rf"attention at \S*{site} \(OnesOwn\) does not go through .*switch to.*{advice}"
    ):
        sfumato.explain(chosen.wrapped(pipeline), chosen.request())


def test_layers_that_are_skipped_for_guidance_are_an_unknown_call() -> None:
    chosen, pipeline = ran("Stable Diffusion 3")
    always = {"skip_guidance_layers": [1], "skip_layer_guidance_start": 0.0, "skip_layer_guidance_stop": 1.0}
    with refused(pipeline, CannotWatch, "called with 1 rows where 2 were expected"):
        sfumato.explain(sfumato.wrap(pipeline, max_sequence_length=T5_LENGTH, **always), chosen.request(steps=3))


# --- classes ----------------------------------------------------------------------------------------------------


class MyPipeline(StableDiffusionPipeline):
    """As that of diffusers, with a name of its own."""


class Stranger(DiffusionPipeline):
    """Of no known family."""


@pytest.mark.parametrize("kind", ["subclass", "stranger", "object", "none", "name"])
def test_a_class_that_nobody_knows(kind: str) -> None:
    parts = family("Stable Diffusion").build().components
    given: dict[str, Callable[[], Any]] = {
        "subclass": lambda: MyPipeline(**parts, requires_safety_checker=False),
        "stranger": Stranger,
        "object": object,
        "none": lambda: None,
        "name": lambda: "studio/scenes",
    }
    with pytest.raises(ModelError, match=r"^\w+ is not supported; supported are: StableDiffusionPipeline, .*Flux"):
        sfumato.wrap(given[kind]())


def test_a_pipeline_without_text() -> None:
    chosen, pipeline = ran("DDPM")
    with refused(pipeline, ModelError, "daam needs token-maps, which DDPMPipeline .* does not have; methods that fit"):
        sfumato.explain(chosen.wrapped(pipeline), chosen.request())
    with refused(pipeline, ModelError, "DDPMPipeline takes no text; leave out the prompt"):
        generate(chosen.wrapped(pipeline), chosen.request(prompt="a cat"))
    with refused(pipeline, ModelError, "told everything by the request; leave out eta"):
        sfumato.wrap(pipeline, eta=1.0)


def test_kandinsky_without_embeddings() -> None:
    chosen, pipeline = ran("Kandinsky 2.2, decoder")
    for given, missing in ({}, "image_embeds"), ({"image_embeds": torch.zeros(1, 32)}, "negative_image_embeds"):
        with refused(pipeline, ModelError, rf"reads embeddings, and {missing} is missing; .*sfumato\.wrap\(pipeline, "):
            sfumato.wrap(pipeline, **given)
    with refused(pipeline, ModelError, "takes no prompt; leave it out"):
        sfumato.explain(chosen.wrapped(pipeline), chosen.request(prompt="a cat"))


def test_kandinsky_is_not_sent_to_the_pipeline_that_it_is() -> None:
    chosen, pipeline = ran("Kandinsky 2.2, decoder")
    with pytest.raises(ModelError) as error:
        sfumato.explain(chosen.wrapped(pipeline), chosen.request(invert="noise", image=np.zeros((64, 96, 3), np.uint8)))
    assert "task='text-to-image'" not in str(error.value)


# --- embeddings -------------------------------------------------------------------------------------------------


def pick(found: Any, **places: int) -> dict[str, torch.Tensor]:
    return {name: found[place] for name, place in places.items()}


@torch.no_grad()
def embeddings(name: str, pipeline: Any, prompt: str, negative: str) -> dict[str, torch.Tensor]:
    """What the pipeline's own encoders make of a prompt and a negative prompt, by the arguments of its call."""
    more: dict[str, Any] = {} if name.startswith("Stable Diffusion") else {"max_sequence_length": T5_LENGTH}
    both = {"prompt_embeds": 0, "negative_prompt_embeds": 1}
    masked = {"prompt_embeds": 0, "prompt_attention_mask": 1}
    masked |= {"negative_prompt_embeds": 2, "negative_prompt_attention_mask": 3}
    pooled = {"pooled_prompt_embeds": 2, "negative_pooled_prompt_embeds": 3}
    if name == "Stable Diffusion":
        return pick(pipeline.encode_prompt(prompt, "cpu", 1, True, negative), **both)
    if name == "Stable Diffusion XL":
        return pick(pipeline.encode_prompt(prompt, device="cpu", negative_prompt=negative), **both, **pooled)
    if name == "Stable Diffusion 3":
        made = pipeline.encode_prompt(prompt, None, None, negative_prompt=negative, max_sequence_length=T5_LENGTH)
        return pick(made, **both, **pooled)
    if name in ("PixArt sigma", "AuraFlow"):
        return pick(pipeline.encode_prompt(prompt, negative_prompt=negative, **more), **masked)
    if name == "Chroma":
        masked |= {"prompt_attention_mask": 2, "negative_prompt_embeds": 3, "negative_prompt_attention_mask": 5}
        return pick(pipeline.encode_prompt(prompt, negative, **more), **masked)
    if name == "Qwen-Image":
        first, second = (pipeline.encode_prompt(text, **more) for text in (prompt, negative))
        own = pick(first, prompt_embeds=0, prompt_embeds_mask=1)
        return own | pick(second, negative_prompt_embeds=0, negative_prompt_embeds_mask=1)
    first, second = (pipeline.encode_prompt(text, None, **more) for text in (prompt, negative))
    own = pick(first, prompt_embeds=0, pooled_prompt_embeds=1)
    return own | pick(second, negative_prompt_embeds=0, negative_pooled_prompt_embeds=1)


def embedded(name: str, pipeline: Any, *, negative: bool) -> dict[str, Any]:
    """The arguments of the pipeline's call, with embeddings in place of the texts."""
    found = embeddings(name, pipeline, PROMPT, NEGATIVE)
    kept = {key: value for key, value in found.items() if negative or not key.startswith("negative")}
    return {**family(name).wrapped(pipeline).arguments, **kept}


def without_text(name: str, **more: Any) -> Request:
    return family(name).request(prompt="", negative_prompt="", **more)


EMBEDDED = ("Stable Diffusion", "Stable Diffusion XL", "Stable Diffusion 3", "Flux dev", "PixArt sigma", "AuraFlow")


@pytest.mark.parametrize("name", EMBEDDED)
def test_embeddings_have_maps_by_place(name: str) -> None:
    chosen, pipeline = ran(name)
    model = sfumato.wrap(pipeline, **embedded(name, pipeline, negative=False))
    with unchanged(pipeline):
        found = sfumato.explain(model, without_text(name))
    wanted = sfumato.explain(chosen.wrapped(pipeline), chosen.request(negative_prompt=""))
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(wanted.image))
    tokens = found.tree["tokens"].to_dataset()
    assert list(found.tree.children) == ["image", "tokens"]
    assert tokens["token"].values.tolist() == [str(place) for place in range(tokens.sizes["token"])]
    assert set(tokens["word_index"].values.tolist()) == {-1}
    assert_near(tokens["map"].values[wanted.tree["tokens"]["index"].values], maps_of(wanted))
    for field in ("prompt", "negative_prompt"):
        with refused(pipeline, ModelError, f"takes no {field.replace('_', ' ')}; leave it out"):
            sfumato.explain(model, Request(**{field: "a cat"}, **SIZE, steps=2))


@pytest.mark.parametrize(
    "name",
    [
        "Stable Diffusion",
        "Stable Diffusion XL",
        "Stable Diffusion 3",
        "AuraFlow",
        "PixArt sigma",
        "Chroma",
        "Flux, true guidance",
        "Qwen-Image",
    ],
)
def test_embeddings_of_both_prompts_with_guidance(name: str) -> None:
    chosen, pipeline = ran(name)
    model = sfumato.wrap(pipeline, **embedded(name, pipeline, negative=True))
    with unchanged(pipeline):
        found = sfumato.explain(model, without_text(name), negative=True)
    wanted = sfumato.explain(chosen.wrapped(pipeline), chosen.request(negative_prompt=NEGATIVE), negative=True)
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(wanted.image))
    assert list(found.tree.children) == ["image", "tokens", "negative_tokens"]
    for node in ("tokens", "negative_tokens"):
        by_place = found.tree[node]["map"].values[wanted.tree[node]["index"].values]
        assert_near(by_place, wanted.tree[node]["map"].values)


def test_a_negative_embedding_beside_a_prompt_is_a_branch() -> None:
    """Its tokens are as many as the prompt's, so nothing else than their number of calls would tell."""
    chosen, pipeline = ran("Qwen-Image")
    other = "a blue dog, a zebra and a dog on the left"
    known = embedded("Qwen-Image", pipeline, negative=False)
    given = embeddings("Qwen-Image", pipeline, PROMPT, other)
    kept = {key: value for key, value in {**known, **given}.items() if not key.startswith("prompt")}
    found = sfumato.explain(sfumato.wrap(pipeline, **kept), chosen.request(negative_prompt=""))
    wanted = sfumato.explain(chosen.wrapped(pipeline), chosen.request(negative_prompt=other))
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(wanted.image))
    assert_near(maps_of(found), maps_of(wanted))


@pytest.mark.parametrize("name", EMBEDDED)
def test_several_images_of_one_embedding(name: str) -> None:
    pipeline = family(name).build()
    model = sfumato.wrap(pipeline, **embedded(name, pipeline, negative=False))
    several, second = (sfumato.explain(model, without_text(name, **more)) for more in ({"images": 3}, {"seed": 1}))
    assert_near(maps_of(several)[1], maps_of(second))


def test_embeddings_of_two_encoders_are_one_context() -> None:
    pipeline = family("Hunyuan-DiT").build()
    given: dict[str, torch.Tensor] = {}
    for place, suffix in enumerate(("", "_2")):
        made = pipeline.encode_prompt(PROMPT, text_encoder_index=place)
        given |= pick(made, **{f"prompt_embeds{suffix}": 0, f"prompt_attention_mask{suffix}": 2})
    model = sfumato.wrap(pipeline, use_resolution_binning=False, **given)
    assert model.tokens("").length == 77 + 256


# --- tokenizers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Stable Diffusion XL", "Stable Diffusion 3"])
def test_tokenizers_that_cut_differently(name: str) -> None:
    chosen, pipeline = ran(name)
    pipeline.tokenizer_2 = clip_tokenizer(WORDS[:-6])
    with refused(pipeline, ModelError, r"two tokenizers cut 'a red cat and a dog' differently \(8 and 12 tokens\)"):
        sfumato.explain(chosen.wrapped(pipeline), chosen.request(prompt="a red cat and a dog"))


@pytest.mark.parametrize("name", ["Stable Diffusion", "Stable Diffusion XL"])
def test_a_tokenizer_longer_than_the_encoder(name: str) -> None:
    chosen, pipeline = ran(name)
    for part in ("tokenizer", "tokenizer_2"):
        if hasattr(pipeline, part):
            getattr(pipeline, part).model_max_length = 200
    with refused(pipeline, ValueError, "200 and max_position_embeddings: 77"):
        chosen.run(pipeline)
    with refused(pipeline, ModelError, "refuses its arguments: .*200 and max_position_embeddings: 77"):
        sfumato.explain(chosen.wrapped(pipeline), chosen.request(prompt="red cat " * 60))


@pytest.mark.parametrize(
    ("name", "tokenizer", "arguments", "seen"),
    [
        ("Stable Diffusion", 10, {}, 8),  # without start and end
        ("Flux dev", None, {"max_sequence_length": 10}, 9),
        ("PixArt sigma", None, {"max_sequence_length": 10}, 9),
        ("Qwen-Image", None, {"max_sequence_length": 10}, 10),
        ("Stable Diffusion 3", 10, {"max_sequence_length": 12}, 11),  # the longer one counts
    ],
)
@pytest.mark.filterwarnings("ignore:cut off after:sfumato.errors.SfumatoWarning")
def test_words_beyond_the_context(name: str, tokenizer: int | None, arguments: dict[str, Any], seen: int) -> None:
    chosen, pipeline = ran(name)
    if tokenizer is not None:
        for part in ("tokenizer", "tokenizer_2"):
            if hasattr(pipeline, part):
                getattr(pipeline, part).model_max_length = tokenizer
    found = sfumato.explain(sfumato.wrap(pipeline, **arguments), chosen.request(prompt="red cat " * 8))
    assert found.words["seen"].values.tolist() == [True] * seen + [False] * (16 - seen)
    assert np.isfinite(found.words["map"].values[:seen]).all()
    assert np.isnan(found.words["map"].values[seen:]).all()


class Slow:
    """A tokenizer that says that it is slow."""

    is_fast = False

    def __init__(self, own: Any) -> None:
        self._own = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._own(*args, **kwargs)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Stable Diffusion", "tokenizer"),
        ("Stable Diffusion XL", "tokenizer_2"),
        ("Stable Diffusion 3", "tokenizer_3"),
        ("Flux dev", "tokenizer_2"),
        ("PixArt sigma", "tokenizer"),
        ("Qwen-Image", "tokenizer"),
    ],
)
def test_a_tokenizer_without_offsets(name: str, part: str) -> None:
    chosen, pipeline = ran(name)
    setattr(pipeline, part, Slow(getattr(pipeline, part)))
    with refused(pipeline, ModelError, "Slow reports no character offsets.*load the model with a fast tokenizer"):
        sfumato.explain(chosen.wrapped(pipeline), chosen.request())


# --- arguments, sizes and batches -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Flux dev", {"nonsense": 1}, r"FluxPipeline takes no argument 'nonsense'; it takes: .*max_sequence_length"),
        ("Flux dev", {"negative_prompt": "a"}, "negative_prompt is said by the request"),
        (
            "Stable Diffusion",
            {"height": 64},
            "height is said by the request or the run, not by the model; leave it out here",
        ),
        ("Stable Diffusion", {"guidance_scale": 2.0}, "guidance_scale is said by the request"),
        ("Stable Diffusion", {"latents": torch.zeros(1)}, "latents is said by the request"),
        ("Qwen-Image", {"true_cfg_scale": 2.0}, "true_cfg_scale is said by the request"),
        ("Stable Diffusion XL", {"true_cfg_scale": 2.0}, "takes no argument 'true_cfg_scale'"),
    ],
)
def test_arguments_that_are_not_the_models(name: str, arguments: dict[str, Any], message: str) -> None:
    pipeline = family(name).build()
    with refused(pipeline, ModelError, message):
        sfumato.wrap(pipeline, **arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Stable Diffusion XL", {"prompt_2": "a dog"}),  # half of each token's channels are another text's
        ("Stable Diffusion 3", {"prompt_3": "a dog"}),
        ("Flux dev", {"prompt_2": "a blue dog"}),  # the whole context is another text's
        ("Stable Diffusion XL", {"negative_prompt_2": "a dog"}),
        ("Stable Diffusion", {"output_type": "latent"}),
        ("Flux dev", {"output_type": "np"}),
        ("Stable Diffusion", {"return_dict": False}),
        ("Stable Diffusion", {"callback_on_step_end": print}),
        ("Stable Diffusion", {"callback_on_step_end_tensor_inputs": ["prompt_embeds"]}),
        ("Stable Diffusion, image to image", {"image": None}),
    ],
)
def test_arguments_that_would_make_another_run(name: str, arguments: dict[str, Any]) -> None:
    pipeline = family(name).build()
    with refused(pipeline, ModelError, f"{next(iter(arguments))} is said by"):
        sfumato.wrap(pipeline, **arguments)


@pytest.mark.parametrize(
    ("name", "height", "near"),
    [
        ("Stable Diffusion", 100, "multiples of 8, so take 96 or 104"),
        ("Stable Diffusion 3", 100, "multiples of 8, so take 96 or 104"),
        ("Flux dev", 12, "multiples of 8, so take 8 or 16"),
        ("Qwen-Image", 33, "multiples of 8, so take 32 or 40"),
        ("Hunyuan-DiT", 72, "multiples of 16, so take 64 or 80"),  # whose autoencoder has a level more
    ],
)
def test_a_size_that_is_no_multiple(name: str, height: int, near: str) -> None:
    pipeline = family(name).build()
    with refused(pipeline, ModelError, f"height is {height}; this model makes {near}"):
        sfumato.explain(family(name).wrapped(pipeline), family(name).request(height=height))


@pytest.mark.parametrize("name", ["Stable Diffusion XL", "Qwen-Image"])
def test_no_negative_prompt_is_not_an_empty_one(name: str) -> None:
    chosen, pipeline = ran(name)
    model = chosen.wrapped(pipeline)
    asked = [chosen.request(negative_prompt=negative, seed=seed) for seed, negative in enumerate(("", NEGATIVE, ""))]
    with refused(pipeline, ModelError, "treats no negative prompt otherwise than an empty one; run them apart"):
        generate(model, asked)
    for one, request in zip(sfumato.explain(model, asked), asked, strict=True):
        assert one.provenance["batch"] == (1 if request.negative_prompt else 2)
        assert_near(maps_of(one), maps_of(sfumato.explain(model, request)))


def test_requests_that_share_no_settings() -> None:
    chosen, pipeline = ran("Flux dev")
    with refused(pipeline, RequestError, "must share width: request 0 has 96, request 1 has 64"):
        generate(chosen.wrapped(pipeline), [chosen.request(), chosen.request(width=64)])
    with refused(pipeline, RequestError, "the prompt ' ' has no words"):
        sfumato.explain(chosen.wrapped(pipeline), chosen.request(prompt=" "))
