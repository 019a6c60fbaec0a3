"""The rules of relevance, written out place by place, and the attention that derivatives are taken by."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from numpy.typing import NDArray

import sfumato
from sfumato.errors import BudgetExceeded, CannotWatch, NonFinite
from sfumato.generation.generate import generate
from sfumato.generation.recorders.probabilities import ExplicitAttention
from sfumato.generation.trace import Trace
from sfumato.models.model import Kind, Site
from sfumato.request import Request
from sfumato.saliency.relevance import _moved as moved
from sfumato.saliency.relevance import normalised, of_tokens, relevance, through
from tests.generation.recorders.explicit_attention import written_out
from tests.pipelines import PROMPT, fingerprint, stable_diffusion

Grid = tuple[int, int]
LARGE, SMALL = (4, 6), (2, 3)
TOKENS = 5
ORDER: list[tuple[Kind, Grid]] = [
    ("cross", LARGE),
    ("self", LARGE),
    ("cross", LARGE),
    ("self", SMALL),
    ("cross", SMALL),
    ("self", SMALL),
    ("self", LARGE),
    ("cross", LARGE),
]
REQUEST = Request(PROMPT, seed=2, steps=2, guidance=4.0, height=16, width=24)


def layers(order: list[tuple[Kind, Grid]] = ORDER, seed: int = 0) -> tuple[list[Site], list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    sites, found = [], []
    for number, (kind, (height, width)) in enumerate(order):
        keys = height * width if kind == "self" else TOKENS
        sites.append(Site(f"{number}", kind, "mid", ""))
        found.append(0.02 * torch.rand(height * width, keys, generator=generator))
    return sites, found


def cells(place: int, grid: Grid, wanted: Grid) -> dict[int, float]:
    """Which places of another grid lie below one place, each with its share of the place."""
    y, x = divmod(place, grid[1])
    if wanted[0] < grid[0]:
        ratio = grid[0] // wanted[0]
        return {(y // ratio) * wanted[1] + x // ratio: 1.0}
    ratio = wanted[0] // grid[0]
    below = [(ratio * y + a, ratio * x + b) for a in range(ratio) for b in range(ratio)]
    return {a * wanted[1] + b: 1 / ratio**2 for a, b in below}


def to_grid(values: NDArray[np.float64], grid: Grid, wanted: Grid) -> NDArray[np.float64]:
    """Rows of (place, ...) on another grid: means over the places of each, or copies."""
    if grid == wanted:
        return values
    found = np.zeros((wanted[0] * wanted[1], *values.shape[1:]))
    for place in range(len(found)):
        for other, share in cells(place, wanted, grid).items():
            found[place] += share * values[other]
    return found


def from_grid(values: NDArray[np.float64], grid: Grid, wanted: Grid) -> NDArray[np.float64]:
    """Columns of (..., place) on another grid: sums over places, or equal parts."""
    if grid == wanted:
        return values
    found = np.zeros((*values.shape[:-1], wanted[0] * wanted[1]))
    for place in range(values.shape[-1]):
        for other, share in cells(place, grid, wanted).items():
            found[..., other] += share * values[..., place]
    return found


def written_rules(
    sites: list[Site], each: list[NDArray[np.float64]], among: NDArray[np.float64], grids: list[Grid], latent: Grid
) -> NDArray[np.float64]:
    """R_iq (token, y, x), with what R_ii gains over the identity kept apart from it."""

    def mean_rows(gained: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = gained.sum(1, keepdims=True)
        return np.divide(gained, sums, out=np.zeros_like(gained), where=sums > 0)

    tokens = np.eye(len(among)) + mean_rows(among - np.eye(len(among)))
    grid = latent
    gained = np.zeros((grid[0] * grid[1],) * 2)
    across = np.zeros((grid[0] * grid[1], len(among)))
    for site, layer, wanted in zip(sites, each, grids, strict=True):
        gained = from_grid(to_grid(gained, grid, wanted), grid, wanted)
        across, grid = to_grid(across, grid, wanted), wanted
        if site.kind == "self":
            gained, across = gained + layer + layer @ gained, across + layer @ across
        else:
            across = across + (np.eye(len(gained)) + mean_rows(gained)).T @ layer @ tokens
    return to_grid(across, grid, latent).T.reshape(-1, *latent)


def test_the_rules_are_those_written_out_place_by_place() -> None:
    sites, each = layers()
    among = of_tokens([0.1 * torch.rand(TOKENS, TOKENS, generator=torch.Generator().manual_seed(9))] * 2, TOKENS)
    found = through(sites, each, among, LARGE)
    assert found.shape == (TOKENS, *LARGE)
    doubles = [one.double().numpy() for one in each]
    expected = written_rules(sites, doubles, among.double().numpy(), [grid for _, grid in ORDER], LARGE)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_tokens_gather_relevance_from_each_other_by_the_first_rule() -> None:
    one, two = (torch.rand(3, 3, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    identity = torch.eye(3)
    expected = (identity + two) @ (identity + one)
    np.testing.assert_allclose(of_tokens([one, two], 3), expected, rtol=1e-5)
    np.testing.assert_array_equal(of_tokens([], 3), identity)


def test_what_is_gained_is_divided_by_its_sums() -> None:
    gained = torch.tensor([[1.0, 3.0], [0.0, 0.0]])
    np.testing.assert_allclose(normalised(gained + torch.eye(2)), [[1.25, 0.75], [0, 1]])


@pytest.mark.parametrize("silent", [0, 3])
def test_a_token_that_gets_no_attention_has_no_relevance(silent: int) -> None:
    sites, each = layers()
    for site, layer in zip(sites, each, strict=True):
        if site.kind == "cross":
            layer[:, silent] = 0
    found = through(sites, each, torch.eye(TOKENS), LARGE)
    assert not found[silent].any()
    assert (found[[token for token in range(TOKENS) if token != silent]] > 0).all()


def test_no_relevance_is_negative_whatever_grids_come_after_each_other() -> None:
    sites, each = layers([*ORDER, ("self", SMALL), ("cross", LARGE), ("cross", LARGE)])
    assert float(through(sites, [1e-3 * layer for layer in each], torch.eye(TOKENS), LARGE).min()) > 0


@pytest.mark.parametrize(
    ("grid", "wanted"), [((4, 6), (2, 3)), ((2, 3), (4, 6)), ((5, 7), (3, 4)), ((3, 4), (5, 7)), ((9, 5), (3, 2))]
)
def test_rows_keep_their_sums_on_another_grid(grid: Grid, wanted: Grid) -> None:
    own = torch.rand(grid[0] * grid[1], grid[0] * grid[1], generator=torch.Generator().manual_seed(0))
    sums = own.sum(1, keepdim=True)
    own = own / sums + torch.eye(len(own))  # every row has gained 1
    found = moved(own, grid, wanted)
    assert found.shape == (wanted[0] * wanted[1],) * 2
    np.testing.assert_allclose(found.sum(1), 2, rtol=1e-5)
    assert float(found.min()) >= 0
    there_is = moved(torch.eye(grid[0] * grid[1]), grid, wanted)
    np.testing.assert_array_equal(there_is, torch.eye(wanted[0] * wanted[1]))


def test_the_total_does_not_depend_on_the_grid_where_relevance_is_even() -> None:
    sites, _ = layers([("cross", SMALL)])
    flat = torch.full((6, TOKENS), 0.3)
    np.testing.assert_allclose(through(sites, [flat], torch.eye(TOKENS), LARGE), 0.3, rtol=1e-6)


def test_a_layer_without_a_grid_of_the_latent_is_refused() -> None:
    sites = [Site("strange", "cross", "mid", "")]
    with pytest.raises(CannotWatch, match="an attention layer has 7 places, which is no grid of the latent 4 x 6"):
        through(sites, [torch.rand(7, TOKENS)], torch.eye(TOKENS), LARGE)


def heads(seed: int, places: int) -> torch.Tensor:
    return torch.randn(2, 3, places, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "how", ["plain", "scaled", "causal", "boolean mask", "added mask", "by name", "keys of another number"]
)
def test_explicit_attention_gives_what_the_kernel_gives(how: str) -> None:
    query, key, value = heads(0, 6), heads(1, 6), heads(2, 6)
    forbidden = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(3)) < 0.4
    forbidden[..., 0] = False
    told: dict[str, Any] = {
        "scaled": {"scale": 0.9},
        "causal": {"is_causal": True},
        "boolean mask": {"attn_mask": ~forbidden},
        "added mask": {"attn_mask": torch.randn(6, 6, generator=torch.Generator().manual_seed(4))},
    }.get(how, {})
    if how == "keys of another number":
        key, value = heads(1, 9), heads(2, 9)

    def attend() -> torch.Tensor:
        if how == "by name":
            return F.scaled_dot_product_attention(value=value, key=key, query=query)
        return F.scaled_dot_product_attention(query, key, value, **told)

    kernel = attend()
    with ExplicitAttention(1e6) as seen:
        found = attend()
        other = F.softmax(query, -1)
    np.testing.assert_allclose(found.detach(), kernel, atol=1e-5)
    (probabilities,) = seen.kept
    assert probabilities.shape == (2, 3, 6, key.shape[2])
    np.testing.assert_allclose(probabilities.detach().sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(other, F.softmax(query, -1))
    if how == "causal":
        assert not probabilities[..., 0, 1:].any()
    if how == "boolean mask":
        assert not probabilities.detach()[forbidden.expand(-1, 3, -1, -1)].any()
    assert torch._C._len_torch_function_stack() == 0


def test_the_result_depends_on_the_probabilities_that_are_kept() -> None:
    query, key, value = heads(0, 6), heads(1, 6), heads(2, 6)
    with ExplicitAttention(1e6) as seen:
        first = F.scaled_dot_product_attention(query, key, value)
        second = F.scaled_dot_product_attention(first, key, value)
    assert len(seen.kept) == 2
    direct, through_both = torch.autograd.grad(second.sum(), [seen.kept[1], seen.kept[0]])
    np.testing.assert_allclose(direct, value.sum(-1)[:, :, None].expand(-1, -1, 6, -1), rtol=1e-5)
    assert through_both.abs().max() > 0


def test_probabilities_beyond_the_budget_are_refused_before_they_are_made() -> None:
    query = heads(0, 6)
    each = 4 * 2 * 3 * 6 * 6
    with ExplicitAttention(2 * each) as seen:
        for _ in range(2):
            F.scaled_dot_product_attention(query, query, query)
        with pytest.raises(BudgetExceeded, match=r"need more than 0 MB; the budget is 0 MB; make a smaller image"):
            F.scaled_dot_product_attention(query, query, query)
    assert len(seen.kept) == 2
    assert torch._C._len_torch_function_stack() == 0


def recorded(pipeline: StableDiffusionPipeline) -> Trace:
    return generate(sfumato.wrap(pipeline), REQUEST, record=True)


def test_relevance_of_a_step_is_by_gradients_of_explicit_attention() -> None:
    pipeline = stable_diffusion()
    trace = recorded(pipeline)
    found = relevance(trace, 1)
    assert found.shape == (77, 8, 12)
    call = trace.call(1)
    pipeline.text_encoder.set_attn_implementation("eager")
    ids = pipeline.tokenizer(PROMPT, padding="max_length", return_tensors="pt").input_ids
    kept: dict[str, torch.Tensor] = {}

    def capture(name: str, probabilities: torch.Tensor) -> None:
        kept[name] = probabilities

    pipeline.text_encoder.requires_grad_(True)
    read = pipeline.text_encoder(ids, output_attentions=True)
    with written_out(pipeline, capture):
        sample = call.sample[1:].clone().requires_grad_(True)  # the first layers do not read the text
        output = pipeline.unet(sample, call.timestep, read.last_hidden_state).sample
    sites = list(trace.model.sites())
    every = [*read.attentions, *(kept[site.name] for site in sites)]
    slopes = torch.autograd.grad(output.sum(), every)
    weighed = [
        np.maximum((slope * one).detach().double().numpy(), 0)[0].mean(0)
        for slope, one in zip(slopes, every, strict=True)
    ]
    count = len(read.attentions)
    among = np.eye(77)
    for layer in weighed[:count]:
        among = among + layer @ among
    grids = [(4, 6)] * len(sites)
    expected = written_rules(sites, weighed[count:], among, grids, (8, 12))
    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3 * expected.max())


def test_relevance_leaves_everything_as_it_was(tiny_pipeline: StableDiffusionPipeline) -> None:
    trace = recorded(tiny_pipeline)
    before, sample = fingerprint(tiny_pipeline), trace.call(1).sample.clone()
    one, other = relevance(trace, 1), relevance(trace, 1)
    assert torch.equal(one, other)
    assert float(one.min()) >= 0
    assert not math.isclose(float(one.sum()), float(relevance(trace, 0).sum()), rel_tol=1e-3)
    with pytest.raises(BudgetExceeded):
        relevance(trace, 1, budget=1e4)
    assert fingerprint(tiny_pipeline) == before
    assert torch.equal(trace.call(1).sample, sample)
    assert not trace.call(1).sample.requires_grad


def test_attention_that_cannot_be_seen_is_refused() -> None:
    pipeline = stable_diffusion()
    trace = recorded(pipeline)
    pipeline.unet.set_attn_processor(AttnProcessor())
    with pytest.raises(CannotWatch, match=r"attention 0 times by PyTorch's kernel where 8 are known; switch"):
        relevance(trace, 1)
    pipeline = stable_diffusion()
    trace = recorded(pipeline)
    pipeline.text_encoder.set_attn_implementation("eager")
    with pytest.raises(CannotWatch, match=r"the text encoder did not compute its attention by PyTorch's kernel"):
        relevance(trace, 1)


def test_gradients_that_are_not_finite_are_an_error() -> None:
    pipeline = stable_diffusion()
    trace = recorded(pipeline)
    hook = pipeline.unet.conv_out.register_forward_hook(lambda module, args, output: output * float("nan"))
    with pytest.raises(NonFinite, match="the gradient of the attention is NaN or infinite at step 1; try float32"):
        relevance(trace, 1)
    hook.remove()
