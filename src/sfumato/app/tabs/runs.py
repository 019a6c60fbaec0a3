"""Runs: those of the folder given at the start, how far they are, and what came out; the page starts none."""

from __future__ import annotations

from typing import Any

import gradio as gr

from sfumato.app.pieces.jobline import jobline
from sfumato.app.pieces.piece import data_of, piece
from sfumato.app.pieces.runs import NO_ROWS, NOTHING, line_of, page_of, rows_of
from sfumato.app.registry import tab
from sfumato.app.server.runs import Runs
from sfumato.app.server.visitors import Gone
from sfumato.app.server.workshop import QUIET, Workshop, refused
from sfumato.errors import SfumatoError

NO_FOLDER = "This page was opened without a folder of runs; name one at the start: sfumato app --library runs"
NO_RUNS = "The folder holds no run; start one on the command line: sfumato run explain --out FOLDER"


@tab("Runs", place=6)
def runs_tab(workshop: Workshop, page: gr.Blocks, tab: gr.Tab) -> None:
    """Build the tab."""
    runs = None if workshop.library is None else Runs(workshop.library)
    shelf = piece("runs", {"runs": [], "empty": ""}, elem_id="sf-runs")
    line = jobline(workshop)
    view = piece("run", dict(NOTHING), elem_id="sf-run")
    items = piece("items", dict(NO_ROWS), elem_id="sf-items")

    def listed() -> dict[str, Any]:
        found = [] if runs is None else [line_of(one) for one in runs.listed()]
        return {"runs": found, "empty": NO_FOLDER if runs is None else NO_RUNS}

    def chosen(event: gr.EventData) -> Any:
        if runs is None:
            raise Gone(NO_FOLDER)
        return runs.find(str(data_of(event).get("id", "")))

    def open_one(event: gr.EventData) -> dict[Any, Any]:
        try:
            run = chosen(event)
        except SfumatoError as error:
            return {line: refused(error), view: dict(NOTHING), items: dict(NO_ROWS)}
        return {line: QUIET, view: page_of(run), items: rows_of(run)}

    def follow(event: gr.EventData) -> dict[Any, Any]:
        """The run that is shown, again; what was concluded only where that has changed."""
        try:
            run = chosen(event)
        except SfumatoError as error:
            return {line: refused(error), view: dict(NOTHING), items: dict(NO_ROWS)}
        value = page_of(run, known=str(data_of(event).get("concluded", "")))
        return {view: value} | ({} if value.get("same") else {items: rows_of(run)})

    def search(event: gr.EventData) -> dict[Any, Any]:
        text = data_of(event).get("text", "")
        try:
            return {items: rows_of(chosen(event), text if isinstance(text, str) else "")}
        except SfumatoError as error:
            return {line: refused(error)}

    gr.on([tab.select, page.load], listed, None, [shelf], show_progress="hidden")
    shelf.refresh(listed, None, [shelf], show_progress="hidden", trigger_mode="always_last")
    alone: dict[str, Any] = {"show_progress": "hidden", "concurrency_id": "runs", "concurrency_limit": 2}
    alone["trigger_mode"] = "always_last"
    shelf.open(open_one, None, [view, items, line], **alone)
    shelf.follow(follow, None, [view, items, line], **alone)
    items.search(search, None, [items, line], **alone)
