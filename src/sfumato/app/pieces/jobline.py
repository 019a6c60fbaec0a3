"""The line that tells how work goes, with its button to cancel."""

from __future__ import annotations

import gradio as gr

from sfumato.app.pieces.piece import piece
from sfumato.app.server.workshop import QUIET, Workshop


def jobline(workshop: Workshop) -> gr.HTML:
    """A line; its value is what ``Workshop.driven`` yields. "Cancel" calls off all that the tab asked for."""
    line = piece("jobline", dict(QUIET))

    def cancel(request: gr.Request) -> None:
        workshop.stop(workshop.seat(request).tab, "cancelled")

    line.cancel(cancel, None, None, show_progress="hidden", concurrency_limit=None)
    return line
