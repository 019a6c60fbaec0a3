"""The drawing of a denoiser is made from its module tree: blocks in order, levels by resolution, layers inside."""

from __future__ import annotations

from typing import Any

import pytest

import sfumato
from sfumato.app.asking.profiles import MOST_LAYERS, facts_of, first_layers, what_it_reads
from sfumato.app.pieces.schematic import Block, blocks_of, drawing, picked, sides_of
from sfumato.generation.feature_layers import Layer, layers_of
from sfumato.models.model import Model
from sfumato.request import Request
from tests.families import family
from tests.families.cross import pixart
from tests.families.joint import flux
from tests.labels import tiny_labels, tiny_unconditional
from tests.pipelines import PROMPT, stable_diffusion

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def model_of(name: str) -> tuple[Model, Request]:
    if name == "labels":
        model, request = sfumato.wrap(tiny_labels()), Request(label="0011", steps=2)
    elif name == "nothing":
        model, request = sfumato.wrap(tiny_unconditional()), Request(steps=2)
    else:
        build: Any = {"stable diffusion": stable_diffusion, "pixart": pixart, "flux": flux}[name]
        model, request = sfumato.wrap(build()), Request(PROMPT, steps=2)
    return model, model.complete(request)


@pytest.mark.parametrize("name", ["labels", "nothing", "stable diffusion", "pixart", "flux"])
def test_every_layer_is_in_one_block_and_blocks_stand_in_order(name: str) -> None:
    model, request = model_of(name)
    known = layers_of(model, request)
    blocks = blocks_of(model.denoiser, known)
    assert sorted(layer.name for block in blocks for layer in block.layers) == sorted(layer.name for layer in known)
    order = [layer.name for layer in known]
    firsts = [order.index(block.layers[0].name) for block in blocks]
    assert firsts == sorted(firsts)
    for block in blocks:
        assert block.cells
        assert {layer.name for layer in block.cells} <= {layer.name for layer in block.layers}


def test_a_u_net_goes_down_and_up_through_its_levels() -> None:
    model, request = model_of("labels")
    drawn = drawing(model, layers_of(model, request))
    assert drawn["levels"] == ["16 × 16", "8 × 8"]
    assert {block["name"]: (block["side"], block["level"]) for block in drawn["blocks"]} == {
        "init_conv": ("down", 0),
        "downs.0": ("down", 0),
        "downs.1": ("down", 1),
        "mid_block1": ("middle", 1),
        "mid_attn": ("middle", 1),
        "mid_block2": ("middle", 1),
        "ups.0": ("up", 1),
        "final_conv": ("up", 0),
    }
    first = next(block for block in drawn["blocks"] if block["name"] == "downs.0")
    cells = {layer["name"]: layer["role"] for layer in first["layers"] if layer["cell"]}
    assert cells == {"downs.0.0": "", "downs.0.1": "", "downs.0.2": "attention", "downs.0.3": "sampling"}
    sizes = {layer["name"]: layer["size"] for layer in first["layers"]}
    assert sizes["downs.0.3"] == "8 × 8 × 8"


@pytest.mark.parametrize("name", ["pixart", "flux"])
def test_a_transformer_is_a_column(name: str) -> None:
    model, request = model_of(name)
    drawn = drawing(model, layers_of(model, request))
    assert {block["side"] for block in drawn["blocks"]} == {"column"}


def test_parts_of_a_block_are_those_that_lie_in_no_other() -> None:
    names = ("a.0.resnets.0.conv", "a.0.resnets.0", "a.0.attentions.0", "a.0")
    layers = tuple(Layer(name, "Kind", 4, 8, 8) for name in names)
    assert [one.name for one in Block("a.0", "Kind", False, layers).cells] == ["a.0.resnets.0", "a.0.attentions.0"]
    alone = Block("conv_in", "Conv2d", True, (Layer("conv_in", "Conv2d", 4, 8, 8),))
    assert [one.name for one in alone.cells] == ["conv_in"]


def test_without_a_lone_middle_one_block_of_the_lowest_level_is_the_middle() -> None:
    sizes = (16, 8, 4, 4, 8, 16)
    blocks = [Block(f"b.{i}", "K", False, (Layer(f"b.{i}", "K", 1, s, s),)) for i, s in enumerate(sizes)]
    assert sides_of(blocks) == ["down", "down", "down", "middle", "up", "up"]
    assert sides_of([]) == []


def test_what_a_browser_says_is_picked_is_plain_text_and_bounded() -> None:
    assert picked({"chosen": ["downs.0.3", 7]}) == ("downs.0.3", "7")
    assert picked(None) == picked("x") == picked({"chosen": "downs"}) == ()
    assert len(picked({"chosen": ["x" * 1000] * 1000})) == 64
    assert len(picked({"chosen": ["x" * 1000]})[0]) == 300


def test_facts_say_what_a_model_reads_and_where_to_begin() -> None:
    for name, reads in (("labels", "label"), ("nothing", "nothing"), ("stable diffusion", "words")):
        model, request = model_of(name)
        assert what_it_reads(model).reads == reads
        facts = facts_of(model, request)
        known = [layer.name for layer in facts.layers]
        assert 0 < len(facts.first) <= MOST_LAYERS
        assert [known.index(one) for one in facts.first] == sorted(known.index(one) for one in facts.first)
        assert facts.schematic["blocks"]


def test_the_first_layers_are_attention_where_there_is_any() -> None:
    model, request = model_of("labels")
    sites = {site.name for site in model.sites()}
    assert set(first_layers(model, layers_of(model, request))) <= sites
    sd3 = family("Stable Diffusion 3")
    joint, given = sd3.wrapped(), sd3.request()
    known = layers_of(joint, joint.complete(given))
    assert list(first_layers(joint, known)) == [site.name for site in joint.sites()]
