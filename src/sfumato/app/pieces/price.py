"""What something will cost, or why it cannot be done, said before it is started."""

from __future__ import annotations

from typing import Any

import gradio as gr

from sfumato.app.pieces.piece import piece


def price(elem_id: str) -> gr.HTML:
    """The component, saying nothing."""
    return piece("price", told(), elem_id=elem_id)


def told(text: str = "", *, wrong: bool = False) -> dict[str, Any]:
    """The value that says something; `wrong` where it is a reason."""
    return {"text": text, "wrong": wrong}
