from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor, SlicedAttnProcessor

import sfumato
from sfumato.generation.generate import generate
from sfumato.generation.recorders import attention as watching
from sfumato.generation.recorders.attention import Attention
from sfumato.models.model import Site
from sfumato.request import Request
from tests.generation.recorders.explicit_attention import run_plainly, written_out
from tests.generation.recorders.watchers import Keeping, Seeing
from tests.pipelines import PROMPT, Shape, stable_diffusion

DEEP = Shape(unet_channels=(16, 32, 32), reads_prompt=(True, True, True), heads=(2, 4, 4))
REQUEST = Request(PROMPT, negative_prompt="blue", seed=4, steps=2, guidance=7.5, height=32, width=48)
Build = Callable[..., StableDiffusionPipeline]


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return stable_diffusion(DEEP, sharpness=3)


@pytest.fixture(scope="module")
def explicit(pipeline: StableDiffusionPipeline) -> dict[str, list[torch.Tensor]]:
    """What a processor of the test computes, all rows: site to one (row, head, query, key) per call."""
    found: dict[str, list[torch.Tensor]] = defaultdict(list)
    with written_out(pipeline, lambda name, maps: found[name].append(maps.clone())):
        run_plainly(pipeline, [PROMPT], [4], negative=["blue"], steps=2, height=32, width=48)
    return found


@pytest.mark.parametrize("way", ["kernel", "explicit", "sliced", "sliced by 3"])
@pytest.mark.parametrize(("branch", "row"), [("conditional", 1), ("unconditional", 0)])
def test_what_is_seen_is_the_softmax(
    pipeline: StableDiffusionPipeline, explicit: dict[str, list[torch.Tensor]], way: str, branch: str, row: int
) -> None:
    own = dict(pipeline.unet.attn_processors)
    processor = {"explicit": AttnProcessor(), "sliced": SlicedAttnProcessor(1), "sliced by 3": SlicedAttnProcessor(3)}
    if way in processor:
        pipeline.unet.set_attn_processor(processor[way])
    try:
        generate(sfumato.wrap(pipeline), REQUEST, attachments=[seen := Keeping(branch)])
    finally:
        pipeline.unet.set_attn_processor(own)
    assert seen.maps.keys() == {name for name in explicit if name.endswith("attn2")}
    for name, calls in seen.maps.items():
        assert len(calls) == len(explicit[name]) == 2
        # the second call starts from latents that differ in their last digits, which guidance has enlarged
        for ours, theirs, digits in zip(calls, explicit[name], (1e-6, 1e-5), strict=True):
            assert ours.dtype == torch.float32
            torch.testing.assert_close(ours, theirs[row : row + 1], rtol=0, atol=digits)
            torch.testing.assert_close(ours.sum(-1), torch.ones(ours.shape[:-1]), rtol=0, atol=1e-5)
    difference = max(float((explicit[name][0][0] - explicit[name][0][1]).abs().max()) for name in seen.maps)
    assert difference > 1e-3  # the wrong row would be noticed


def test_the_grid_is_the_feature_map_height_first(pipeline: StableDiffusionPipeline) -> None:
    generate(sfumato.wrap(pipeline), REQUEST.with_(steps=1), attachments=[seen := Keeping()])
    sides = {"down_blocks.0": (16, 24), "down_blocks.1": (8, 12), "down_blocks.2": (4, 6), "mid_block": (4, 6)}
    sides |= {"up_blocks.0": (4, 6), "up_blocks.1": (8, 12), "up_blocks.2": (16, 24)}
    for name, grid in seen.grids.items():
        assert grid == next(side for place, side in sides.items() if name.startswith(place)), name
        assert seen.maps[name][0].shape[2] == grid[0] * grid[1]


def test_a_side_that_does_not_halve_evenly(pipeline: StableDiffusionPipeline) -> None:
    generate(sfumato.wrap(pipeline), REQUEST.with_(steps=1, height=24, width=40), attachments=[seen := Keeping()])
    assert set(seen.grids.values()) == {(12, 20), (6, 10), (3, 5)}
    generate(sfumato.wrap(pipeline), REQUEST.with_(steps=1, height=24, width=56), attachments=[seen := Keeping()])
    assert set(seen.grids.values()) == {(12, 28), (6, 14), (3, 7)}
    generate(sfumato.wrap(pipeline), REQUEST.with_(steps=1, height=8, width=40), attachments=[seen := Keeping()])
    assert set(seen.grids.values()) == {(4, 20), (2, 10), (1, 5)}


SITE = Site("x.attn2", "cross", "down", "x")


def call(mask: torch.Tensor | None = None, heads: int = 4) -> tuple[Attention, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(3, heads, n, 8, generator=generator) for n in (6, 5))
    return Attention(SITE, 0, (2, 3), heads, 3, query, key, mask, 8**-0.5), query, key


@pytest.mark.parametrize("kind", ["none", "boolean", "additive", "per row"])
def test_masks_count(kind: str) -> None:
    mask = {
        "none": None,
        "boolean": torch.tensor([True, True, False, True, False]).expand(1, 1, 6, 5),
        "additive": torch.tensor([0.0, -torch.inf, 0.5, 0.0, 1.0]).expand(1, 1, 6, 5),
        "per row": torch.randn(3, 1, 1, 5, generator=torch.Generator().manual_seed(1)),
    }[kind]
    attention, query, key = call(mask)
    identity = torch.eye(5).expand(3, 4, 5, 5)
    # with the identity for values, the kernel's own output is the attention
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, identity, attn_mask=mask)
    torch.testing.assert_close(attention.probabilities(slice(None)), expected)
    torch.testing.assert_close(attention.probabilities(slice(1, 3), slice(2, 3)), expected[1:3, 2:3])


def test_the_kernels_own_sum_gives_the_same_probabilities() -> None:
    whole, query, key = call()
    _, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, key)
    quick = Attention(SITE, 0, (2, 3), 4, 3, query, key, None, 8**-0.5, log_sum)
    for rows, heads, tokens in (
        (slice(None), slice(None), range(2)),
        (slice(1, 3), slice(2, 3), [0, 2, 4]),
        (slice(2), slice(3), None),
    ):
        expected = whole.probabilities(rows, heads)[..., slice(None) if tokens is None else list(tokens)]
        torch.testing.assert_close(quick.probabilities(rows, heads, tokens), expected)
        torch.testing.assert_close(whole.probabilities(rows, heads, tokens), expected)


def test_the_fused_kernel_is_asked_for_its_sum(pipeline: StableDiffusionPipeline) -> None:
    found: list[bool] = []
    watcher = Seeing(lambda attention, run: found.append(attention._log_sum is not None))
    generate(sfumato.wrap(pipeline), REQUEST.with_(steps=1), attachments=[watcher])
    assert found
    assert all(found)


@pytest.mark.parametrize("limit", [1, 400, 10**9])
def test_heads_come_in_groups_that_fit_the_memory(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(watching, "CHUNK_BYTES", limit)
    attention, _, _ = call()
    parts = list(attention.by_heads(slice(0, 1)))
    assert [heads.stop - heads.start for heads, _ in parts] == {1: [1] * 4, 400: [3, 1], 10**9: [4]}[limit]
    torch.testing.assert_close(torch.cat([maps for _, maps in parts], 1), attention.probabilities(slice(0, 1)))


def test_half_precision_is_summed_in_single(pipeline: StableDiffusionPipeline) -> None:
    attention, query, key = call()
    half = Attention(SITE, 0, (2, 3), 4, 3, query.bfloat16(), key.bfloat16(), None, 8**-0.5)
    assert half.probabilities(slice(None)).dtype == torch.float32
    torch.testing.assert_close(half.probabilities(slice(None)).sum(-1), torch.ones(3, 4, 6))
    torch.testing.assert_close(
        half.probabilities(slice(None)), attention.probabilities(slice(None)), rtol=0.1, atol=0.02
    )


def test_a_users_own_mode_stays_active(tiny_sd: Build) -> None:
    from torch.overrides import TorchFunctionMode

    class Counting(TorchFunctionMode):
        count = 0

        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            Counting.count += func is torch.nn.functional.scaled_dot_product_attention
            return func(*args, **(kwargs or {}))

    pipeline = tiny_sd()
    attentions = len(pipeline.unet.attn_processors)
    with Counting():
        before = Counting.count
        generate(
            sfumato.wrap(pipeline),
            Request("cat", steps=2, guidance=1, height=16, width=16),
            attachments=[Keeping(), Keeping()],
        )
        assert torch._C._len_torch_function_stack() == 1
        inside = Counting.count - before
    text_encoder = inside - 2 * attentions
    assert text_encoder >= 0  # every attention of the denoiser was counted once, those of other networks beside them
    assert torch._C._len_torch_function_stack() == 0
