"""Sections of a reference image: maps both ways, points, and what covering a patch changes."""

from __future__ import annotations

from sfumato.report.markup import escaped, number, table
from sfumato.report.process import sheet
from sfumato.report.sections import Section, section
from sfumato.results.explanation import Explanation

_NUMBERS = {
    "average_precision": "average precision of the forward map on the mask",
    "imacs_g": "IMACS of the forward map on the mask",
    "iou": "IoU of the pixels found with the mask",
    "box_iou": "IoU of the box found with the mask's box",
    "found_share": "share of the image found",
    "imacs_r": "IMACS on the reference",
}


@section("i2am")
def i2am(explanation: Explanation, path: str) -> Section:
    """Both directions, with the numbers that the maps were judged by and those of the whole image."""
    attrs = explanation.tree["i2am"].to_dataset().attrs
    lines = [
        f'<tr><th scope="row">{title}</th><td class="n">{_number(attrs.get(name))}</td>'
        f'<td class="n">{_number(attrs.get(f"{name}_whole_image"))}</td></tr>'
        for name, title in _NUMBERS.items()
        if attrs.get(name) is not None
    ]
    note = f'<p class="note">{escaped(attrs["note"])}</p>' if attrs.get("note") else ""
    return sheet(explanation, "i2am", (table(("measure", "value", "whole image"), lines) if lines else "") + note)


def _number(value: float | None) -> str:
    return "" if value is None else number(float(value), 3)


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
