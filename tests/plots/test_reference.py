"""Sheets of a reference: both directions, points, causes, and what they need."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import xarray as xr

import sfumato
from sfumato.errors import SfumatoError
from sfumato.plots import reference as plots
from sfumato.plots.reference import causal_sheet, points_sheet, reference_sheet
from sfumato.plots.sheets import process_sheets
from sfumato.report.page import page
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.images import image_node
from tests.references import reference_request, tiny_references


@cache
def explained(**options: Any) -> Explanation:
    return sfumato.explain(sfumato.wrap(tiny_references()), reference_request(), "i2am", **options)


def without(explanation: Explanation, *names: str) -> Explanation:
    """The explanation with some arrays of the node i2am left out."""
    nodes = {node.path: node.to_dataset(inherit=False) for node in explanation.tree.subtree}
    nodes["/i2am"] = nodes["/i2am"].drop_vars(names)
    return Explanation(xr.DataTree.from_dict(nodes), explanation.request, explanation.provenance)


def test_an_explanation_has_the_sheets_that_were_asked_for() -> None:
    assert list(process_sheets(explained())) == ["i2am", "i2am_points"]  # what the masked part looked at
    assert list(process_sheets(explained(at=(10, 12), causal=True))) == ["i2am", "i2am_points", "causal"]
    assert list(process_sheets(without(explained(), "specific_mask"))) == ["i2am"]


def test_more_points_make_a_taller_sheet() -> None:
    one, three = points_sheet(explained(at=(10, 12))), points_sheet(explained(at=(10, 12, 4, 8), patches=(40, 100)))
    assert three.height > 1.5 * one.height
    assert one.width == three.width
    with pytest.raises(SfumatoError, match="no points"):
        points_sheet(without(explained(), "specific_mask"))


def test_the_sheet_has_rows_for_both_ways_or_for_one() -> None:
    both = reference_sheet(explained(groups=3))
    backward = [name for name in explained(groups=3).tree["i2am"].to_dataset() if str(name).startswith("backward")]
    one = reference_sheet(without(explained(groups=3), *map(str, backward)))
    assert both.height > one.height > 300
    assert reference_sheet(explained(groups=3, unguided=True)).height > both.height + 300
    assert np.asarray(both).std() > 20


def test_every_layer_is_on_the_sheet_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    title = plots._title
    monkeypatch.setattr(plots, "_title", lambda *given: drawn.append(title(*given)) or drawn[-1])
    whole = explained(groups=3)
    nodes = {node.path: node.to_dataset(inherit=False) for node in whole.tree.subtree}
    data = nodes["/i2am"]
    layers = data["layer"].values.tolist()
    twice = data.isel(layer=[*range(7), *range(7)]).assign_coords(layer=[*layers, *(f"again.{one}" for one in layers)])
    many = Explanation(xr.DataTree.from_dict(nodes | {"/i2am": twice}), whole.request, whole.provenance)
    assert reference_sheet(many).height > reference_sheet(whole).height + 300
    names = [name for name in drawn if "blocks" in name or "mid" in name]
    assert len(set(names)) == 14
    assert "down_blocks.0\nattentions.0" in names


def test_blocks_of_one_attention_have_names_of_their_own() -> None:
    path = "down_blocks.2.attentions.1.transformer_blocks.{}.attn2"
    assert [plots._layer(path.format(number)) for number in (0, 3)] == [
        "down_blocks.2\nattentions.1",
        "down_blocks.2\nattentions.1, block 3",
    ]


def test_a_map_that_finds_everything_says_so_on_the_sheet_and_the_page() -> None:
    all_of_it = explained(threshold=0.01)
    assert "every pixel reaches 0.01" in page(all_of_it)
    assert "whole image" in page(all_of_it)
    quiet = Explanation(all_of_it.tree.copy(), all_of_it.request, all_of_it.provenance)
    del quiet.tree["i2am"].attrs["note"]
    assert np.abs(np.asarray(reference_sheet(all_of_it), int) - np.asarray(reference_sheet(quiet), int)).max() > 50


def test_what_is_not_there_cannot_be_drawn() -> None:
    image = image_node([np.zeros((8, 8, 3), np.uint8)], [0])
    nothing = Explanation(xr.DataTree.from_dict({"/image": image}), Request(""), {})
    with pytest.raises(SfumatoError, match="no maps of a reference"):
        reference_sheet(nothing)
    with pytest.raises(SfumatoError, match="no causal maps"):
        causal_sheet(explained())


def test_the_page_shows_the_maps_and_their_numbers() -> None:
    text = page(explained(at=(10, 12), causal=True))
    for line in (
        "Reference and image",
        "IMACS of the forward map on the mask",
        "Points and patches",
        "Covering patches",
        "rank agreement",
    ):
        assert line in text, line
