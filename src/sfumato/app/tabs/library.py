"""Library: what this visitor has made, and what the folder given at the start holds; open, compare, take away."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr

from sfumato.app.pieces.jobline import jobline
from sfumato.app.pieces.piece import data_of, piece
from sfumato.app.pieces.sections import NOTHING, sections_view, shown_sections
from sfumato.app.pieces.stage import scene, stage
from sfumato.app.registry import tab
from sfumato.app.server.library import opened, saved, saved_in
from sfumato.app.server.results import downloads
from sfumato.app.server.visitors import Gone, Kept
from sfumato.app.server.workshop import QUIET, Seat, Workshop, refused
from sfumato.errors import SfumatoError
from sfumato.report.markup import picture_uri, visible

EMPTY = {"empty": "Open a result above, or mark two to see them beside each other.", "examples": []}
_THUMB = 150


@tab("Library", place=5)
def library_tab(workshop: Workshop, page: gr.Blocks, tab: gr.Tab) -> None:
    """Build the tab."""
    shelf = piece("shelf", {"groups": [], "empty": "Nothing has been made yet."}, elem_id="sf-shelf")
    line = jobline(workshop)
    view = stage("sf-stage-library", EMPTY)
    found = sections_view("sf-sections-library")

    def listed(request: gr.Request) -> dict[str, Any]:
        seat = workshop.seat(request)
        groups = [
            {
                "title": "Made here",
                "none": "Nothing yet: what you explain on the other tabs is kept here for some hours.",
                "items": [_book(one) for one in seat.visitor.results() if not one.source],
            }
        ]
        if workshop.library is not None:
            groups.append(
                {
                    "title": "Saved",
                    "none": "The folder holds no explanation.",
                    "items": [
                        {
                            "id": f"saved:{one.id}",
                            "title": visible(one.name),
                            "detail": time.strftime("%Y-%m-%d %H:%M", time.localtime(one.when)),
                        }
                        for one in saved_in(workshop.library)
                    ],
                }
            )
        return {"groups": groups}

    def take(seat: Seat, id: str) -> Kept:  # noqa: A002
        """A result by its id; of one of the folder the visitor gets one copy, so that it can be taken away."""
        if not id.startswith("saved:"):
            return seat.visitor.find(id)
        if workshop.library is None:
            raise Gone("this page was opened without a folder of saved results")
        one = saved(workshop.library, id.removeprefix("saved:"))
        source = f"{one.id} {one.when}"
        if (copy := seat.visitor.copy(source)) is not None:
            return copy
        explanation = opened(one)
        prompt = explanation.request.prompt or explanation.request.label or "no prompt"
        return seat.visitor.keep(explanation, f"{prompt} · seed {explanation.request.seed}", source=source)

    def open_one(request: gr.Request, event: gr.EventData) -> dict[Any, Any]:
        try:
            kept = take(workshop.seat(request), str(data_of(event).get("id", "")))
            single = kept.explanation.select(0)
            value = scene([single], [kept.title], key=kept.id, link="")
            shown = shown_sections(single, without=("words",))
        except SfumatoError as error:
            return {line: refused(error)}
        more = {"links": downloads(kept.id), "notes": []}  # the stage above has them
        return {view: value, found: shown | more, line: QUIET}

    def compare(request: gr.Request, event: gr.EventData) -> dict[Any, Any]:
        ids = data_of(event).get("ids", [])
        try:
            if not isinstance(ids, list) or len(ids) != 2:
                raise SfumatoError("two results can be compared; mark two")
            seat = workshop.seat(request)
            both = [take(seat, str(id)) for id in ids]  # noqa: A001
            singles = [one.explanation.select(0) for one in both]
            value = scene(singles, [one.title for one in both], key=both[0].id + both[1].id, link="")
        except SfumatoError as error:
            return {line: refused(error)}
        return {view: value | {"axes": {}}, found: NOTHING, line: QUIET}

    gr.on([tab.select, page.load], listed, None, [shelf], show_progress="hidden")
    shelf.refresh(listed, None, [shelf], show_progress="hidden")
    alone: dict[str, Any] = {"show_progress": "hidden", "concurrency_id": "library", "concurrency_limit": 1}
    shelf.open(open_one, None, [view, found, line], **alone)  # in the order in which they were asked for
    shelf.compare(compare, None, [view, found, line], **alone)


def _book(kept: Kept) -> dict[str, str]:
    image = kept.explanation.image
    image.thumbnail((_THUMB, _THUMB))
    method = str(kept.explanation.provenance.get("method", "image"))
    return {
        "id": kept.id,
        "title": visible(kept.title),
        "detail": f"{kept.number}. {method}, {kept.size / 1e6:.1f} MB",
        "image": picture_uri(image, 84),
    }
