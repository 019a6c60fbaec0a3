"""Sections of a reference image: maps both ways, points, and what covering a patch changes."""

from __future__ import annotations

from sfumato.report.markup import number, table
from sfumato.report.process import sheet
from sfumato.report.sections import Section, section
from sfumato.results.explanation import Explanation

_NUMBERS = {
    "imacs_g": "IMACS on the image",
    "imacs_r": "IMACS on the reference",
    "iou": "IoU of the place found with the mask",
}


@section("i2am")
def i2am(explanation: Explanation, path: str) -> Section:
    """Both directions, with the numbers that the maps were judged by."""
    data = explanation.tree["i2am"].to_dataset()
    lines = [
        f'<tr><th scope="row">{title}</th><td class="n">{number(float(data.attrs[name]), 3)}</td></tr>'
        for name, title in _NUMBERS.items()
        if data.attrs.get(name) is not None
    ]
    return sheet(explanation, "i2am", table(("measure", "value"), lines) if lines else "")


@section("pairs/*")
def pairs(explanation: Explanation, path: str) -> Section | None:
    """The points that were asked for, at the place of the first grid; the arrays are in the store."""
    first = next(iter(explanation.tree["pairs"].children))
    data = explanation.tree["i2am"].to_dataset()
    asked = {"specific", "reverse", "specific_mask"} & set(data)
    return sheet(explanation, "i2am_points") if asked and path == f"pairs/{first}" else None


@section("reference", "i2am_unguided")
def beside(explanation: Explanation, path: str) -> Section | None:
    """Shown on the sheet of the maps."""
    return None


@section("causal")
def causal(explanation: Explanation, path: str) -> Section:
    """Changes beside attention."""
    found = explanation.tree["causal"].attrs.get("agreement")
    if found is None:
        return sheet(explanation, "causal")
    row = f'<tr><th scope="row">mean rank agreement</th><td class="n">{number(float(found), 3)}</td></tr>'
    return sheet(explanation, "causal", table(("measure", "value"), [row]))
