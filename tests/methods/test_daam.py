from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato.errors import BudgetExceeded, CannotWatch, ModelError, OptionError, RequestError, SfumatoWarning
from sfumato.generation.context import GenerationContext
from sfumato.generation.generate import generate
from sfumato.generation.recorders.reduce import AttentionSums
from sfumato.methods.daam import select
from sfumato.models.model import Model
from sfumato.models.schedulers import using
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from tests.methods.reference_daam import Setting, paper_maps, reference_maps, word_map
from tests.pipelines import PROMPT, SD15_NARROW, Shape, stable_diffusion

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

# Four resolutions of cross-attention with differing numbers of heads; the smallest is 1/8 of the latent.
LAYERED = Shape(
    unet_channels=(16, 16, 32, 32),
    reads_prompt=(True, True, True, True),
    heads=(2, 2, 4, 4),
    vae_channels=(16, 16),
    latent_side=16,
)
LONG = "a red circle and a blue circle"


@pytest.fixture(scope="module")
def layered() -> StableDiffusionPipeline:
    return stable_diffusion(LAYERED)


@pytest.fixture(scope="module")
def sharp() -> StableDiffusionPipeline:
    return stable_diffusion(LAYERED, sharpness=30)


def asked(setting: Setting, **more: Any) -> Request:
    return Request(
        setting.prompt,
        negative_prompt=setting.negative,
        seed=setting.seed,
        steps=setting.steps,
        guidance=setting.guidance,
        height=setting.height,
        width=setting.width,
        **more,
    )


def tokens(explanation: Explanation) -> np.ndarray[Any, np.dtype[np.float32]]:
    values: np.ndarray[Any, np.dtype[np.float32]] = node(explanation, "tokens")["map"].values
    return values


def node(explanation: Explanation, name: str) -> xr.Dataset:
    return explanation.tree.children[name].to_dataset()


# --- the reference code -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sharpness", ["layered", "sharp"])
@pytest.mark.parametrize("scheduler", ["ddim", "pndm", "euler", "heun"])
def test_parity_with_the_reference_code(request: pytest.FixtureRequest, sharpness: str, scheduler: str) -> None:
    pipeline: StableDiffusionPipeline = request.getfixturevalue(sharpness)
    setting = Setting("a red circle and a blue zebra", seed=3, steps=4)
    explanation = sfumato.explain(sfumato.wrap(pipeline), asked(setting, scheduler=scheduler), parity="daam-0.2")
    own = pipeline.scheduler
    with using(pipeline, sfumato.wrap(pipeline).complete(asked(setting, scheduler=scheduler))):
        expected = reference_maps(pipeline, setting)
    assert pipeline.scheduler is own
    scale = float(expected.max())
    np.testing.assert_allclose(tokens(explanation), expected, rtol=0, atol=1e-5 * max(1.0, scale))
    for word in ("a", "red", "zebra"):
        np.testing.assert_allclose(
            explanation.word_map(word), word_map(pipeline, setting.prompt, word, expected), rtol=0, atol=1e-5
        )


def test_clamping_after_the_mean_over_heads_would_be_noticed(sharp: StableDiffusionPipeline) -> None:
    setting = Setting(PROMPT, steps=2)
    right, wrong = reference_maps(sharp, setting), reference_maps(sharp, setting, heads_first=True)
    assert float((right - wrong).abs().max()) > 1e-3 * float(right.max())
    explanation = sfumato.explain(sfumato.wrap(sharp), asked(setting), parity="daam-0.2")
    assert np.abs(tokens(explanation) - wrong.numpy()).max() > 1e-3 * float(right.max())


def test_parity_normalises_as_the_reference_does(sharp: StableDiffusionPipeline) -> None:
    setting = Setting(PROMPT, steps=2)
    explanation = sfumato.explain(sfumato.wrap(sharp), asked(setting), parity="daam-0.2", normalise=True)
    np.testing.assert_allclose(
        tokens(explanation), reference_maps(sharp, setting, normalise=True), rtol=1e-4, atol=1e-5
    )
    shares = tokens(explanation)[1:-1].sum(0)
    np.testing.assert_allclose(shares, 1, atol=1e-4)


def test_parity_without_a_layer_that_the_reference_knows_is_refused(layered: StableDiffusionPipeline) -> None:
    with pytest.raises(OptionError, match="1/8 of the latent"):
        sfumato.explain(
            sfumato.wrap(layered), asked(Setting("cat", steps=1)), parity="daam-0.2", layers="down_blocks.3"
        )


# --- the paper's definition -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting",
    [
        Setting(PROMPT, steps=2),
        Setting(PROMPT, steps=2, guidance=1.0),
        Setting("a zebra on the table", steps=1, height=32, width=64),
        Setting("cat", seed=4, steps=1, height=64, width=32, guidance=0),
    ],
    ids=["guided", "guidance-1", "wide", "tall-guidance-0"],
)
def test_the_default_is_the_mean_over_calls_layers_and_heads(sharp: StableDiffusionPipeline, setting: Setting) -> None:
    explanation = sfumato.explain(sfumato.wrap(sharp), asked(setting))
    expected = paper_maps(sharp, setting)[: len(tokens(explanation))]
    np.testing.assert_allclose(tokens(explanation), expected, rtol=0, atol=1e-6)
    words = explanation.words
    assert words["map"].dtype == np.float32
    assert words["map"].shape[1:] == setting.latent(sharp)
    np.testing.assert_allclose(words["y"], (np.arange(words.sizes["y"]) + 0.5) / words.sizes["y"])
    np.testing.assert_allclose(words["x"], (np.arange(words.sizes["x"]) + 0.5) / words.sizes["x"])
    last = setting.prompt.split()[-1]
    np.testing.assert_allclose(
        explanation.word_map(last), word_map(sharp, setting.prompt, last, expected), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"steps": (1,)}, {"calls": (1,)}),
        ({"steps": (2, 0)}, {"calls": (0, 2)}),
        ({"layers": "up_blocks"}, {"layers": "up_blocks"}),
        ({"layers": r"down_blocks\.0.*attn2", "steps": (0,)}, {"layers": "down_blocks.0", "calls": (0,)}),
    ],
)
def test_only_the_chosen_steps_and_layers_count(
    sharp: StableDiffusionPipeline, options: dict[str, Any], part: dict[str, Any]
) -> None:
    setting = Setting("a red cat", steps=3)
    explanation = sfumato.explain(sfumato.wrap(sharp), asked(setting), **options)
    np.testing.assert_allclose(tokens(explanation), paper_maps(sharp, setting, **part)[:5], rtol=0, atol=3e-6)


@pytest.fixture(scope="module")
def kept(sharp: StableDiffusionPipeline) -> Explanation:
    return sfumato.explain(sfumato.wrap(sharp), asked(Setting(LONG, steps=2)), keep=("step", "layer", "head"))


@pytest.mark.parametrize(
    ("chosen", "part"),
    [
        ({}, {}),
        ({"steps": [1]}, {"calls": (1,)}),
        ({"layers": "up_blocks.0"}, {"layers": "up_blocks.0"}),
        (
            {"steps": [0], "layers": "down_blocks.1", "heads": [1]},
            {"calls": (0,), "layers": "down_blocks.1", "heads": (1,)},
        ),
        ({"layers": "down_blocks.2", "heads": [3]}, {"layers": "down_blocks.2", "heads": (3,)}),
    ],
)
def test_selecting_after_the_run(
    sharp: StableDiffusionPipeline, kept: Explanation, chosen: dict[str, Any], part: dict[str, Any]
) -> None:
    found = select(kept, **chosen)
    expected = paper_maps(sharp, Setting(LONG, steps=2), **part)[:9]
    np.testing.assert_allclose(tokens(found), expected, rtol=0, atol=1e-5)
    for word in ("circle", "a", "red"):
        np.testing.assert_allclose(found.word_map(word), word_map(sharp, LONG, word, expected), rtol=0, atol=1e-5)
    assert len(found.provenance["selected"]) == len(chosen)


@pytest.mark.parametrize("options", [{}, {"normalise": True}, {"threshold": 0.4}, {"negative": True}])
def test_selecting_everything_is_the_default(sharp: StableDiffusionPipeline, options: dict[str, Any]) -> None:
    request = asked(Setting("a red cat", steps=2, negative="blue dog"), images=2)
    model = sfumato.wrap(sharp)
    whole = sfumato.explain(model, request, **options)
    kept = sfumato.explain(model, request, keep=("head", "step"), **options)
    for one in (kept, select(kept)):
        for place in whole.tree.children:
            for name, array in node(whole, place).data_vars.items():
                found = node(one, place)[name]
                np.testing.assert_allclose(found, array, rtol=1e-4, atol=1e-6, err_msg=f"{place}/{name}")
    changed = select(kept, steps=[0])
    for place in [name for name in whole.tree.children if name.endswith("words")]:
        assert not np.allclose(node(changed, place)["map"], node(whole, place)["map"], atol=1e-6), place
    if "threshold" in options:
        maps = changed.words["map"].values
        np.testing.assert_array_equal(changed.words["hard"], maps >= 0.4 * maps.max((-1, -2), keepdims=True))


def test_a_selection_of_nothing_teaches(kept: Explanation, layered: StableDiffusionPipeline) -> None:
    with pytest.raises(OptionError, match="7 was not kept; kept are: 0, 1"):
        select(kept, steps=[7])
    with pytest.raises(OptionError, match="no attention map is left"):
        select(kept, layers="sideways")
    model = sfumato.wrap(layered)
    with pytest.raises(OptionError, match="kept no axis; explain again with keep="):
        select(sfumato.explain(model, asked(Setting("cat", steps=1))))
    with pytest.raises(OptionError, match="the axis head was not kept"):
        select(sfumato.explain(model, asked(Setting("cat", steps=1)), keep=("layer",)), heads=[0])


# --- memory -----------------------------------------------------------------------------------------------------


def test_a_budget_is_checked_before_memory_is_taken(layered: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(layered)
    cross = [site for site in model.sites() if site.kind == "cross"]
    sums = AttentionSums(cross, "conditional", range(5), ("step", "layer", "head"), budget=1e5)
    with pytest.raises(
        BudgetExceeded, match=r"head, layer, step needs more than .* MB.*the budget is 0.1 MB; keep fewer"
    ):
        generate(model, asked(Setting("a red cat", steps=4)), attachments=[sums])
    assert held(sums) <= 1e5

    exact = 4.0 * 5 * 2 * sum(_heads(model, site.name) * positions for site, positions in _positions(model))
    request = asked(Setting("a red cat", steps=2))
    generate(
        model,
        request,
        attachments=[fits := AttentionSums(cross, "conditional", range(5), ("step", "layer", "head"), budget=exact)],
    )
    assert held(fits) == exact
    with pytest.raises(BudgetExceeded):
        generate(
            model,
            request,
            attachments=[AttentionSums(cross, "conditional", range(5), ("step", "layer", "head"), budget=exact - 1)],
        )


def held(sums: AttentionSums) -> int:
    """Bytes of the tensors that a watcher holds."""
    return sum(tensor.numel() * tensor.element_size() for tensor in sums._sums.values())


def _heads(model: Model, name: str) -> int:
    heads = model.denoiser.get_submodule(name).heads
    assert isinstance(heads, int)
    return heads


def _positions(model: Model) -> list[tuple[Any, int]]:
    """Positions of every cross-attention for 16 x 16 latents."""
    sides = {"down_blocks.0": 16, "down_blocks.1": 8, "down_blocks.2": 4, "down_blocks.3": 2, "mid_block": 2}
    sides |= {"up_blocks.0": 2, "up_blocks.1": 4, "up_blocks.2": 8, "up_blocks.3": 16}
    return [
        (site, next(side for place, side in sides.items() if site.name.startswith(place)) ** 2)
        for site in model.sites()
        if site.kind == "cross"
    ]


def test_the_default_run_holds_at_most_2_mb_of_an_image_of_512_pixels() -> None:
    shape = replace(
        SD15_NARROW, unet_channels=(16, 16, 16, 16), vae_channels=(8, 8, 8, 8)
    )  # its resolutions and layers
    model = sfumato.wrap(stable_diffusion(shape))
    sites = [site for site in model.sites() if site.kind == "cross" and site.place != "mid"]
    assert len(sites) == 15
    sums = AttentionSums(sites, "conditional", range(77))  # the longest prompt
    generate(model, Request("cat " * 100, steps=1, guidance=1), attachments=[sums])
    assert 4 * 77 * 64 * 64 < held(sums) <= 2e6


def test_nothing_reaches_the_host_before_the_end(
    layered: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        own = getattr(torch.Tensor, name)

        def copy(*arguments: Any) -> Any:
            copies.append(name)
            return own(*arguments)

        return copy

    for name in ("cpu", "numpy", "tolist", "item", "__bool__", "__float__"):
        monkeypatch.setattr(torch.Tensor, name, counted(name))

    class Inspected(AttentionSums):
        def _add(self, *arguments: Any) -> None:
            before = len(copies)
            super()._add(*arguments)
            assert len(copies) == before

    model = sfumato.wrap(layered)
    sites = [site for site in model.sites() if site.kind == "cross"]
    generate(model, asked(Setting("cat", steps=2)), attachments=[sums := Inspected(sites, "conditional", range(3))])
    assert held(sums) == 4 * 3 * (16**2 + 8**2 + 4**2 + 2**2)


# --- words ------------------------------------------------------------------------------------------------------


def test_a_word_of_several_tokens_is_their_mean(sharp: StableDiffusionPipeline) -> None:
    explanation = sfumato.explain(sfumato.wrap(sharp), asked(Setting("a zebra", steps=1)))
    owners = node(explanation, "tokens")["word_index"].values
    assert (owners == 1).sum() == 5  # zebra is no word of the vocabulary, so it is spelled
    assert owners[0] == owners[-1] == -1
    np.testing.assert_allclose(explanation.word_map("zebra"), tokens(explanation)[owners == 1].mean(0), rtol=1e-6)


def test_the_same_word_twice_is_addressed_by_occurrence(sharp: StableDiffusionPipeline) -> None:
    explanation = sfumato.explain(sfumato.wrap(sharp), asked(Setting(LONG, steps=1)))
    assert explanation.words["occurrence"].values.tolist() == [1, 1, 1, 1, 2, 1, 2]
    first, second = explanation.word_map("circle#1"), explanation.word_map("circle#2")
    assert float(np.abs(first - second).max()) > 1e-6
    np.testing.assert_allclose(explanation.word_map("circle"), (first.values + second.values) / 2, rtol=1e-6)
    np.testing.assert_array_equal(explanation.word_map(6), second)


def test_a_word_that_was_cut_off_has_no_map(layered: StableDiffusionPipeline) -> None:
    prompt = " ".join(["cat"] * 75 + ["dog", "table"])
    with pytest.warns(SfumatoWarning, match="cut off after 77 tokens, not seen by the model: dog, table"):
        explanation = sfumato.explain(sfumato.wrap(layered), asked(Setting(prompt, steps=1)), threshold=0.5)
    words = explanation.words
    assert words["seen"].values.tolist() == [True] * 75 + [False] * 2
    assert np.isnan(words["map"][75:]).all()
    assert np.isfinite(words["map"][:75]).all()
    assert not words["hard"][75:].any()
    assert node(explanation, "tokens").sizes["token"] == 77


def test_start_and_end_token_have_maps_and_all_tokens_share_one(layered: StableDiffusionPipeline) -> None:
    prompt = " ".join(["cat"] * 75)
    explanation = sfumato.explain(sfumato.wrap(layered), asked(Setting(prompt, steps=1)))
    names = node(explanation, "tokens")["token"].values.tolist()
    assert (names[0], names[-1], len(names)) == ("<|startoftext|>", "<|endoftext|>", 77)
    np.testing.assert_allclose(tokens(explanation).sum(0), 1, atol=1e-5)


def test_negative_words_are_mapped_on_their_own_rows(sharp: StableDiffusionPipeline) -> None:
    setting = Setting("a red cat", steps=2, negative="blue dog on the table")
    explanation = sfumato.explain(sfumato.wrap(sharp), asked(setting), negative=True)
    expected = paper_maps(sharp, setting, branch="unconditional")[:7]
    np.testing.assert_allclose(node(explanation, "negative_tokens")["map"], expected, rtol=0, atol=1e-6)
    assert node(explanation, "negative_words")["word"].values.tolist() == ["blue", "dog", "on", "the", "table"]
    np.testing.assert_allclose(tokens(explanation), paper_maps(sharp, setting)[:5], rtol=0, atol=1e-6)
    assert "negative_words" not in sfumato.explain(sfumato.wrap(sharp), asked(setting)).tree.children


def test_a_word_that_the_model_cannot_read_scores_zero() -> None:
    pipeline = deaf_to("dog")
    request = Request("a red dog on the table", seed=1, steps=2, guidance=7.5, height=32, width=32)
    explanation = sfumato.explain(sfumato.wrap(pipeline), request)
    assert float(np.abs(explanation.word_map("dog")).max()) == 0.0
    others = [word for word in explanation.words["word"].values.tolist() if word != "dog"]
    assert all(float(explanation.word_map(word).min()) > 0 for word in others)
    # and it is true: another word of the kind in its place, and the image is the same
    same = generate(sfumato.wrap(deaf_to("dog")), request).latents
    swapped = generate(sfumato.wrap(deaf_to("circle")), request.with_(prompt="a red circle on the table")).latents
    torch.testing.assert_close(same, swapped, rtol=0, atol=0)


def deaf_to(word: str) -> StableDiffusionPipeline:
    """A pipeline whose attention to one word is exactly zero.

    The text encoder mixes no tokens; queries are one constant q; the word's key is far on the other side of q.
    """
    pipeline = stable_diffusion(LAYERED)
    for name, module in pipeline.text_encoder.named_modules():
        if name.endswith(("out_proj", "fc2")):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    with torch.no_grad():
        embeddings = pipeline.text_encoder.get_input_embeddings().weight
        embeddings[:, -1] = embeddings[:, :-1].mean(1)  # which the last layer norm makes zero
        embeddings[pipeline.tokenizer.convert_tokens_to_ids(f"{word}</w>")] = torch.eye(embeddings.shape[1])[-1]
        parts = {name.rpartition(".")[2]: part for name, part in pipeline.text_encoder.named_modules()}
        parts["position_embedding"].weight.zero_()
        parts["final_layer_norm"].weight.fill_(1)
        parts["final_layer_norm"].bias.zero_()
        for name, module in pipeline.unet.named_modules():
            if name.endswith(".norm2"):
                module.weight.zero_()
                module.bias.fill_(1)
            if name.endswith(".attn2"):
                query = module.to_q.weight.sum(1)
                per_head = query.unflatten(0, (module.heads, -1))
                away = -(per_head / per_head.norm(dim=1, keepdim=True) ** 2).flatten()
                module.to_k.weight.zero_()
                module.to_k.weight[:, -1] = 3e3 * away
    return pipeline


def test_a_context_of_one_token_gets_all_attention(sharp: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(sharp)
    trace = generate(model, asked(Setting("cat", steps=1)), record=True)
    sites = [site for site in model.sites() if site.kind == "cross"]
    sums = AttentionSums(sites, "conditional", range(1), ("layer", "head"))
    trace.replay(0, condition=trace.call(0).condition[-1:, 1:2], attachments=[sums])
    for grid in sums.grids().values():
        maps = grid.maps[:, np.ones_like(grid.weights, bool) & (grid.weights > 0)]
        np.testing.assert_allclose(maps, 1.0, rtol=0, atol=2e-5)  # scores of a thousand, rounded in the kernel's sum


# --- several images, several prompts ----------------------------------------------------------------------------


def test_an_item_does_not_depend_on_its_batch(layered: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(layered)
    one = asked(Setting("a red cat", seed=7, steps=2))
    other = asked(Setting("the blue dog on a table", seed=70, steps=2, negative="circle"), images=2)
    alone = sfumato.explain(model, one)
    together = sfumato.explain(model, [other, one, other.with_(seed=3)], batch=8)
    split = sfumato.explain(model, [other, one, other.with_(seed=3)], batch=1)
    assert [found.request.prompt for found in together] == [other.prompt, one.prompt, other.prompt]
    assert [found.request.seed for found in split] == [70, 7, 3]
    for found in (together[1], split[1]):
        np.testing.assert_allclose(found.words["map"], alone.words["map"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(np.asarray(found.image, int), np.asarray(alone.image, int), atol=1)
        assert found.words["word"].values.tolist() == ["a", "red", "cat"]
    first = generate(model, one).latents
    torch.testing.assert_close(generate(model, [other, one]).latents[2:], first, rtol=1e-4, atol=5e-5)


def test_image_i_of_a_request_is_the_single_image_of_its_seed(layered: StableDiffusionPipeline) -> None:
    model = sfumato.wrap(layered)
    request = asked(Setting("a red cat", seed=7, steps=2), images=3)
    several = sfumato.explain(model, request)
    assert several.words["map"].dims == ("image", "word", "y", "x")
    assert node(several, "image")["seed"].values.tolist() == [7, 8, 9]
    for i in range(3):
        single = sfumato.explain(model, request.with_(seed=7 + i, images=1))
        np.testing.assert_allclose(several.words["map"][i], single.words["map"], rtol=0, atol=1e-5)
        np.testing.assert_allclose(np.asarray(several.images[i], int), np.asarray(single.image, int), atol=1)
    assert not np.array_equal(np.asarray(several.images[0]), np.asarray(several.images[1]))


# --- options ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stepz": 3}, "daam has no option 'stepz'; its options are: layers, steps, keep, budget_mb, normalise"),
        ({"keep": ("step", "token")}, "keep is 'token'; choose from: step, layer, head"),
        ({"keep": 3}, "keep is 3; choose from: step, layer, head"),
        ({"keep": None}, "keep is None; choose from: step"),
        ({"threshold": 0}, "threshold is 0; expected a number above 0, at most 1"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"threshold": "0.4"}, "threshold is '0.4'; expected a number above 0, at most 1"),
        ({"budget_mb": 0}, "budget_mb is 0"),
        ({"budget_mb": float("nan")}, "budget_mb is nan"),
        ({"parity": "daam-1"}, "parity is 'daam-1'; choose from: daam-0.2"),
        ({"parity": "daam-0.2", "keep": ("step",)}, "parity and keep do not go together"),
        ({"steps": ()}, "steps is"),
        ({"steps": (-1,)}, "steps is"),
        ({"steps": (0.5,)}, "steps is"),
        ({"steps": (2,)}, "steps has 2; this run has steps 0 to 1"),
        ({"layers": "("}, r"layers is '\(', no regular expression"),
        ({"layers": "sideways"}, r"no layer matches 'sideways'; layers are: down_blocks.1.attentions.0.transformer"),
    ],
)
def test_an_unusable_option_teaches(
    tiny_pipeline: StableDiffusionPipeline, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        sfumato.explain(sfumato.wrap(tiny_pipeline), asked(Setting("cat", steps=2)), **options)


@pytest.mark.parametrize(("given", "kept"), [("layer", ("layer",)), (["step", "head"], ("step", "head"))])
def test_one_axis_or_a_list_may_be_kept(
    tiny_pipeline: StableDiffusionPipeline, given: Any, kept: tuple[str, ...]
) -> None:
    explanation = sfumato.explain(sfumato.wrap(tiny_pipeline), asked(Setting("cat", steps=1)), keep=given, steps=0)
    assert {"step", "layer", "head"} & set(explanation.tree["attention/8x8"].dims) == set(kept)


@pytest.mark.parametrize("prompt", ["", "   ", "\u200b", "\n\t"])
def test_a_prompt_without_words_is_refused(tiny_pipeline: StableDiffusionPipeline, prompt: str) -> None:
    with pytest.raises(RequestError, match="has no words; write what the image shows"):
        sfumato.explain(sfumato.wrap(tiny_pipeline), asked(Setting(prompt, steps=1)))


def test_negative_maps_need_guidance(tiny_pipeline: StableDiffusionPipeline) -> None:
    with pytest.raises(ModelError, match="there is no guidance.*raise guidance above 1"):
        sfumato.explain(sfumato.wrap(tiny_pipeline), asked(Setting("cat", steps=1, guidance=1)), negative=True)


@pytest.mark.parametrize(
    "prompt", ["🐈‍⬛🔴 cat", "قطة حمراء", "a\u200bb", "<|endoftext|> cat", "a <|startoftext|> cat", "don't", "?!"]
)
def test_any_text_with_something_visible_is_explained(tiny_pipeline: StableDiffusionPipeline, prompt: str) -> None:
    explanation = sfumato.explain(sfumato.wrap(tiny_pipeline), asked(Setting(prompt, steps=1)))
    assert explanation.words["seen"].all()
    assert np.isfinite(explanation.words["map"]).all()


def test_a_pipeline_that_batches_in_its_own_way_is_refused(layered: StableDiffusionPipeline) -> None:
    class Misled(AttentionSums):
        def install(self, run: GenerationContext) -> None:
            super().install(
                GenerationContext(run.model, run.requests, run.items + 1, run.branches, run.clock, run.hooks)
            )

    model = sfumato.wrap(layered)
    sums = Misled([site for site in model.sites() if site.kind == "cross"], "conditional", range(3))
    with pytest.raises(CannotWatch, match="called with 2 rows where 4 were expected"):
        generate(model, asked(Setting("cat", steps=1)), attachments=[sums])
