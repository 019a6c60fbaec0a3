"""What a chart shows, in words: a heading, a sentence, how to read it, and its numbers as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from sfumato.app.pieces.piece import piece

SILENT: dict[str, Any] = {"title": ""}


def reading(elem_id: str) -> gr.HTML:
    """The component, saying nothing."""
    return piece("reading", dict(SILENT), elem_id=elem_id)


def said(
    title: str, text: str = "", aid: str = "", head: Sequence[str] = (), rows: Sequence[Sequence[str]] = ()
) -> dict[str, Any]:
    """The value that says something.

    Args:
        title: A heading.
        text: What was found.
        aid: How to read the chart below.
        head: Of a table.
        rows: Of the same, each with a name first.
    """
    return {"title": title, "text": text, "aid": aid, "head": list(head), "rows": [list(row) for row in rows]}
