"""What a method found, part by part, as the report shows it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from sfumato.app.pieces.piece import piece
from sfumato.app.pieces.stage import notes_of
from sfumato.report.page import template
from sfumato.report.sections import sections
from sfumato.results.explanation import Explanation

NOTHING: dict[str, Any] = {"parts": []}


def sections_view(elem_id: str) -> gr.HTML:
    """The component, empty."""
    return piece("sections", dict(NOTHING), style=template("tokens.css") + template("style.css"), elem_id=elem_id)


def shown_sections(explanation: Explanation, title: str = "", *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The value that shows an explanation of one image.

    Args:
        explanation: Of any method.
        title: A heading above all.
        without: Beginnings of nodes that are shown elsewhere.
    """
    parts = [
        {"node": node, "html": part.html}
        for node, part in sections(explanation)
        if not any(node.startswith(beginning) for beginning in without)
    ]
    return {"parts": parts, "title": title, "notes": notes_of(explanation)}
