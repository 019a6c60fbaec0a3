"""Sheets of a reference: both directions, points, causes, and what they need."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import xarray as xr

import sfumato
from sfumato.errors import SfumatoError
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
        "IMACS on the image",
        "Points and patches",
        "Covering patches",
        "rank agreement",
    ):
        assert line in text, line
