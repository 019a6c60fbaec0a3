"""Random weights: which parts in which order, put back whatever happens, and what that does to maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sfumato
from sfumato.errors import ModelError, NonFinite
from sfumato.judging import randomising
from sfumato.judging.again import again
from sfumato.judging.checks import by_chance
from sfumato.judging.maps import named_maps
from sfumato.judging.randomising import blocks_with_weights, permuted, randomisation
from sfumato.metrics import rank_correlation
from sfumato.models.fingerprint import weight_hash
from sfumato.models.model import Model
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from tests.families import family
from tests.judging.made_up import REQUEST, explained, pattern
from tests.methods.steps import REQUESTS, model_of
from tests.pipelines import fingerprint, stable_diffusion

UNET = ["time_embedding", "conv_in", "down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.0", "up_blocks.1",
        "conv_norm_out", "conv_out"]  # fmt: skip


class Net(nn.Module):
    """Two parts with a buffer each, a weight that both share, and a weight outside."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 8))
        self.second = nn.Linear(8, 8)
        self.second.weight = self.first[2].weight
        self.outside = nn.Linear(8, 8)
        self.whole = nn.Parameter(torch.arange(4), requires_grad=False)
        with torch.no_grad():
            for weight in self.parameters():
                if weight.is_floating_point():
                    weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: values.clone() for name, values in module.state_dict().items()}


def assert_state(module: nn.Module, expected: dict[str, torch.Tensor]) -> None:
    found = module.state_dict()
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert torch.equal(found[name], values), name


def facts(model: Model) -> dict[str, Any]:
    """What must be as before; weights are written to, and compared value by value."""
    return {name: fact for name, fact in fingerprint(model.pipeline).items() if not name.startswith("weight ")}


@pytest.fixture(scope="module")
def model() -> Model:
    """A model whose weights are written to, so that no other test shares it."""
    return sfumato.wrap(stable_diffusion(sharpness=30))


@pytest.fixture(scope="module")
def explanation(model: Model) -> Explanation:
    return sfumato.explain(model, REQUEST)


def test_every_weight_gets_another_order_of_its_own_values() -> None:
    net = Net()
    before = state(net)
    identities = {name: id(weight) for name, weight in net.named_parameters()}
    with permuted([net.first, net.second], seed=0):
        inside = state(net)
        for name, weight in net.named_parameters():
            assert weight.requires_grad == (name != "whole")
            assert weight.grad is None
    assert {name: id(weight) for name, weight in net.named_parameters()} == identities
    assert_state(net, before)
    moved = {name for name in before if not torch.equal(inside[name], before[name])}
    assert moved == {
        *(f"first.{place}.{name}" for place in range(3) for name in ("weight", "bias")),
        "second.weight",
        "second.bias",
    }  # no buffer, and nothing outside
    for name in moved:
        assert torch.equal(inside[name].flatten().sort()[0], before[name].flatten().sort()[0]), name
    assert torch.equal(inside["second.weight"], inside["first.2.weight"])


def test_the_order_is_that_of_the_seed() -> None:
    net, found = Net(), []
    for seed in (0, 0, 1):
        torch.manual_seed(len(found))
        with permuted([net.first], seed):
            found.append(net.first[0].weight.clone())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_neither_randomness_nor_the_mode_of_gradients_is_touched() -> None:
    net = Net()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with permuted([net.first], 0):
        assert torch.is_grad_enabled()
    with torch.no_grad(), permuted([net.first], 0):
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    assert torch.equal(torch.rand(3), expected)


def test_the_weights_are_put_back_after_an_exception() -> None:
    net = Net()
    before = state(net)

    def stopped() -> None:
        with permuted([net.first], 0):
            assert not torch.equal(net.first[0].weight, before["first.0.weight"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert_state(net, before)


@pytest.mark.parametrize("good", [0, 1, 3])
def test_the_weights_are_put_back_where_not_all_could_be_exchanged(good: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, calls, draw = Net(), [], torch.randperm
    before = state(net)

    def draw_so_often(*given: Any, **more: Any) -> torch.Tensor:
        calls.append(given)
        if len(calls) > good:
            raise MemoryError
        return draw(*given, **more)

    monkeypatch.setattr(torch, "randperm", draw_so_often)
    with pytest.raises(MemoryError), permuted([net.first, net.second], 0):
        pytest.fail("it was not entered")
    assert len(calls) == good + 1
    assert_state(net, before)


def test_weights_of_one_memory_are_put_back_in_turn() -> None:
    net = Net()
    net.second.weight = nn.Parameter(net.first[2].weight.data)  # another parameter, the same numbers
    before = state(net)
    with permuted([net.first], 0), permuted([net.second], 1):
        assert not torch.equal(net.second.weight, before["second.weight"])
    assert_state(net, before)
    with permuted([net.first, net.second], 0):
        assert not torch.equal(net.second.weight, before["second.weight"])
    assert_state(net, before)


def test_offloaded_weights_are_refused() -> None:
    refused = pytest.raises(ModelError, match="the weights are offloaded, .*; load the model without offloading")
    with refused, permuted([Net(), nn.Linear(2, 2, device="meta")], 0):
        pytest.fail("it was not entered")


def test_the_digest_of_the_weights_knows(model: Model) -> None:
    before = weight_hash(model.pipeline)
    with permuted([model.denoiser.get_submodule("mid_block")], 0):
        inside = weight_hash(model.pipeline)
        assert inside != before
        with permuted([model.denoiser.get_submodule("mid_block")], 1):
            assert weight_hash(model.pipeline) not in (before, inside)
        assert weight_hash(model.pipeline) == inside
    assert weight_hash(model.pipeline) == before


def test_blocks_are_in_order_of_execution() -> None:
    assert blocks_with_weights(model_of("text"), REQUEST) == UNET
    assert blocks_with_weights(model_of("unconditional"), REQUESTS["unconditional"]) == [
        "time_embedding", "conv_in", "down_blocks.0", "mid_block", "up_blocks.0", "conv_norm_out", "conv_out",
    ]  # fmt: skip
    # a level of the label model is a list of four parts, which nobody calls as a whole
    assert blocks_with_weights(model_of("labels"), REQUESTS["labels"]) == [
        "time_mlp", "init_conv", *(f"downs.0.{n}" for n in range(4)), *(f"downs.1.{n}" for n in range(3)),
        "mid_block1", "mid_attn", "mid_block2", *(f"ups.0.{n}" for n in range(4)), "final_conv",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["Flux dev", "Qwen-Image", "PixArt alpha", "AuraFlow"])
@pytest.mark.filterwarnings("ignore")  # of the families
def test_blocks_of_transformers(name: str) -> None:
    one = family(name)
    model = one.wrapped()
    found = blocks_with_weights(model, model.complete(one.request()))
    stacks = [block for block in found if block[-1].isdecimal()]
    order = ["transformer_blocks", "joint_transformer_blocks", "single_transformer_blocks"]
    assert stacks == sorted(stacks, key=lambda block: (order.index(block.split(".")[0]), block))
    assert found.index(stacks[0]) > 1
    assert found[found.index(stacks[-1]) + 1 :][-1] == "proj_out"


@pytest.mark.parametrize("kind", ["text", "labels", "unconditional"])
def test_every_weight_belongs_to_one_block_and_looking_leaves_nothing(kind: str) -> None:
    model = model_of(kind)
    before, calls = fingerprint(model.pipeline), []
    hook = model.denoiser.register_forward_hook(lambda *given: calls.append(1))
    found = blocks_with_weights(model, REQUESTS[kind].with_(images=1))
    hook.remove()
    assert len(calls) == 1
    assert fingerprint(model.pipeline) == before
    owners = [name for name, _ in model.denoiser.named_parameters() for block in found if name.startswith(f"{block}.")]
    assert sorted(owners) == sorted(name for name, _ in model.denoiser.named_parameters())


def test_a_part_that_is_never_called_comes_first() -> None:
    model = sfumato.wrap(stable_diffusion())
    model.denoiser.register_module("unused", nn.Linear(2, 2))
    model.denoiser.register_module("empty", nn.ReLU())
    assert blocks_with_weights(model, REQUEST) == ["unused", *UNET]


def test_ever_more_of_the_model_gets_random(model: Model, explanation: Explanation) -> None:
    before, weights, told = facts(model), state(model.denoiser), []
    (row,), node = randomisation(model, explanation, stages=3, progress=lambda *now: told.append(now))
    assert facts(model) == before
    assert_state(model.denoiser, weights)
    assert told == [("random weights", stage, 3) for stage in (1, 2, 3)]
    assert node["stage"].values.tolist() == [0, 3, 6, 9]
    assert node.attrs["blocks"] == len(UNET) == 9
    maps = named_maps(explanation)
    assert node["map"].values.tolist() == list(maps) == ["red", "cat", ",", "dog", "left"]
    np.testing.assert_array_equal(node["likeness"][0], 1)
    np.testing.assert_array_equal(node["pixels"][0], np.asarray(explanation.image))
    images = [image.tobytes() for image in node["pixels"].values]
    assert len(set(images)) == 4
    np.testing.assert_allclose(node["control"], [by_chance(heat, REQUEST.seed) for heat in maps.values()])
    assert (row.check, row.against, row.wanted) == ("randomisation", "random maps", "like")
    assert row.value.mean == pytest.approx(float(node["likeness"][-1].mean()))
    assert row.control.mean == pytest.approx(float(node["control"].mean()))
    assert row.value.n == 5


def test_the_last_blocks_get_random_first(model: Model, explanation: Explanation) -> None:
    _, node = randomisation(model, explanation, stages=3)
    maps = named_maps(explanation)
    last = [model.denoiser.get_submodule(name) for name in UNET[::-1]]
    with permuted(last[:3], 0):
        found = again(model, explanation, REQUEST)
        np.testing.assert_array_equal(node["pixels"][1], np.asarray(found.image))
        with permuted(last[3:6], 1), permuted(last[6:], 2):
            found = again(model, explanation, REQUEST)
    np.testing.assert_array_equal(node["pixels"][3], np.asarray(found.image))
    expected = [
        rank_correlation(heat, other) for heat, other in zip(maps.values(), named_maps(found).values(), strict=True)
    ]
    np.testing.assert_allclose(node["likeness"][3], expected, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(again(model, explanation, REQUEST).image), np.asarray(explanation.image))


@pytest.mark.parametrize(("stages", "ends"), [(1, [0, 9]), (2, [0, 4, 9]), (50, list(range(10)))])
def test_there_are_no_more_stages_than_blocks(
    stages: int, ends: list[int], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(randomising, "again", lambda model, explanation, request: explanation)
    (row,), node = randomisation(model, explained(), stages=stages)
    assert node["stage"].values.tolist() == ends
    np.testing.assert_allclose(node["likeness"], 1)
    assert row.value.mean == pytest.approx(1)
    assert row.verdict == "failed"  # a map that stays as it was


def test_maps_that_have_nothing_to_do_with_the_old_ones_pass(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(100, 1000))

    def others(model: Model, explanation: Explanation, request: Request) -> Explanation:
        return explained({name: pattern(next(numbers)) for name in ("red", "cat", "dog", "left")})

    monkeypatch.setattr(randomising, "again", others)
    (row,), node = randomisation(model, explained(), stages=2)
    assert np.isnan(node["likeness"].sel(map=",")[1:]).all()  # it has no map there
    assert row.value.n == 4
    assert abs(row.value.mean) < 0.25
    assert row.verdict == "inconclusive"  # of four maps


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_stage_that_blows_up_has_no_maps(
    broken: int, model: Model, explanation: Explanation, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages, told = iter(range(3)), []

    def sometimes(*given: Any) -> Explanation:
        if next(stages) == broken:
            raise NonFinite("the latents became NaN")
        return again(*given)

    monkeypatch.setattr(randomising, "again", sometimes)
    weights = state(model.denoiser)
    (row,), node = randomisation(model, explanation, stages=3, progress=lambda *now: told.append(now))
    assert_state(model.denoiser, weights)
    assert len(told) == 3
    lost = np.isnan(node["likeness"].values).all(1)
    assert lost.tolist() == [False, *(stage == broken for stage in range(3))]
    assert not node["pixels"][broken + 1].any()
    assert node["pixels"].shape[0] == 4
    if broken == 2:
        assert (row.value.n, row.verdict) == (0, "inconclusive")
    else:
        assert row.value.n == 5


def test_weights_are_as_before_when_a_method_fails(
    model: Model, explanation: Explanation, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, weights = facts(model), state(model.denoiser)
    calls = []

    def fail(module: Any, args: Any, output: Any) -> None:
        calls.append(1)
        if len(calls) > 4:
            raise KeyboardInterrupt

    hook = model.denoiser.register_forward_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        randomisation(model, explanation, stages=3)
    hook.remove()
    assert facts(model) == before
    assert_state(model.denoiser, weights)
    assert weight_hash(model.pipeline) == explanation.provenance["weights_sha256"]


def test_a_map_without_an_order_is_like_nothing(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(randomising, "again", lambda model, explanation, request: explanation)
    flat = explained({"red": pattern(0), "cat": np.ones((8, 12)), "dog": pattern(1)})
    (row,), node = randomisation(model, flat, stages=1)
    assert np.isnan(node["likeness"].sel(map="cat")).all()
    assert np.isnan(node["control"].sel(map="cat"))
    assert row.value.n == row.control.n == row.gain.n == 2
