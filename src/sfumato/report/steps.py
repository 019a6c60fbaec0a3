"""Sections of the saliency of steps."""

from __future__ import annotations

from sfumato.report.markup import isolated, number, table
from sfumato.report.process import sheet
from sfumato.report.sections import Section, section
from sfumato.results.explanation import Explanation
from sfumato.results.numbers import relevance_totals


@section("saliency/*")
def saliency(explanation: Explanation, path: str) -> Section | None:
    """All maps on one sheet, at the place of the first."""
    first = next(iter(explanation.tree["saliency"].children))
    return sheet(explanation, "saliency") if path == f"saliency/{first}" else None


@section("relevance")
def relevance(explanation: Explanation, path: str) -> Section:
    """Curves, maps, and the sum of every word over the steps."""
    data = explanation.tree["relevance"].to_dataset()
    total = relevance_totals(data)
    lines = [
        f'<tr><th scope="row">{isolated(word)}</th><td class="n">{number(value, 2)}</td>'
        f'<td class="n">{number(added, 3)}</td></tr>'
        for word, value, added in zip(data["word"].values.tolist(), total, data["image_score"].values, strict=True)
    ]
    return sheet(explanation, "relevance", table(("word", "relevance, all steps", "added to CLIP's score"), lines))
