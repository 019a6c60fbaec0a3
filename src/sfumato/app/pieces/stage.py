"""Images with their words: the value of the component that draws word maps in the browser.

Maps go to the browser as they are, on the grid they were measured on, in 16 bits; hovering, thresholds, points and
regions are answered there, at once. Only another step, layer or head asks the server.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
import numpy as np

from sfumato.app.pieces.piece import piece
from sfumato.plots.overlays import DIM, colours
from sfumato.report.markup import packed, picture_uri, visible
from sfumato.report.sections import caveat, chip_note, maps_by_place, times, unit_of
from sfumato.results.explanation import Explanation

EMPTY = {
    "empty": "Write what the image shows, and see which words drew which part of it. For example:",
    "examples": [
        "a red circle left of a blue square",
        "two yellow stars on a purple background",
        "a large striped green triangle",
    ],
}


def stage(elem_id: str, empty: Mapping[str, Any] = EMPTY) -> gr.HTML:
    """The component, empty: it says what to do, and shows examples to start from."""
    return piece("stage", dict(empty), elem_id=elem_id)


def scene(
    explanations: Sequence[Explanation],
    titles: Sequence[str],
    *,
    key: str,
    link: str,
    view: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The value that shows one explanation, or two beside each other.

    Args:
        explanations: Of one image each.
        titles: Above each, where there are several.
        key: Another key begins another view; the same one keeps the chosen word and the sliders.
        link: The query string that makes it again.
        view: What a link asked for: word, opacity, threshold, together.
    """
    panes = [_pane(one, title) for one, title in zip(explanations, titles, strict=True)]
    return {
        "key": key,
        "panes": panes,
        "colours": base64.b64encode(colours().tobytes()).decode(),
        "dim": list(DIM),
        "axes": axes_of(explanations[0]),
        "first": _first(panes[0]["words"]),
        "link": link,
        "view": dict(view or {}),
    }


def axes_of(explanation: Explanation) -> dict[str, Any]:
    """What was kept of steps, layers and heads."""
    if "attention" not in explanation.tree.children:
        return {}
    grids = [node.to_dataset() for node in explanation.tree["attention"].children.values()]
    dims = set(grids[0]["map"].dims)
    layers = [name for grid in grids if "layer" in dims for name in grid["layer"].values.tolist()]
    return {
        "steps": grids[0].sizes["step"] if "step" in dims else 0,
        "layers": layers,
        "heads": max(grid.sizes["head"] for grid in grids) if "head" in dims else 0,
    }


def _pane(explanation: Explanation, title: str) -> dict[str, Any]:
    image, request = explanation.image, explanation.request
    rows = explanation.summary()["words"]
    maps = maps_by_place(explanation) if rows else []
    count = times(rows)
    most = max((row["share"] or 0.0 for row in rows), default=0.0) or 1.0
    words = [
        {
            "label": visible(row["word"]) + (f" #{row['occurrence']}" if count[row["word"]] > 1 else ""),
            "pos": row["pos"],
            "seen": row["seen"],
            "note": chip_note(row),
            "caveat": caveat(row),
            "share": row["share"],
            "size": (row["share"] or 0.0) / most,
            "map": packed(np.asarray(heat)) if row["seen"] and np.isfinite(heat).all() else None,
        }
        for row, heat in zip(rows, maps, strict=True)
    ]
    return {
        "title": visible(title),
        "alt": visible(f"Image generated for: {request.prompt or request.label or 'nothing'}"),
        "image": picture_uri(image),
        "width": image.width,
        "height": image.height,
        "words": words,
        "unit": unit_of(explanation),
        "notes": notes_of(explanation),
        "question": "Which pixels did each word drive?",
        "none": "This model reads no words; ask one of the methods below.",
        "hint": "Point at a word to see where it acted; click to keep it." if words else "",
        "facts": facts_of(explanation),
    }


def notes_of(explanation: Explanation) -> list[str]:
    """What a visitor must know first, as text for the page."""
    return [visible(note) for note in explanation.notes]


def facts_of(explanation: Explanation, more: str = "") -> str:
    """How an image was made, in one line; `more` is said of its steps."""
    image, request = explanation.image, explanation.request
    facts = [
        f"seed {request.seed}",
        f"{request.steps} steps{more}",
        f"guidance {request.guidance:g}" if request.guidance is not None else "",
        f"{image.width} x {image.height} pixels",
        f"{explanation.provenance['seconds']:.1f} s" if "seconds" in explanation.provenance else "",
    ]
    return " · ".join(fact for fact in facts if fact)


def _first(words: Sequence[Mapping[str, Any]]) -> str | None:
    """The word shown at first: the first noun that the model saw, or the first word of any kind."""
    seen = [word for word in words if word["map"]]
    return next((word["label"] for word in seen if word["pos"] == "noun"), seen[0]["label"] if seen else None)
