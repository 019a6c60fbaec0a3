"""The process as a film: samples, clean estimates and attention maps, step by step, under one slider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.app.pieces.piece import piece
from sfumato.app.pieces.stage import facts_of, notes_of
from sfumato.report.markup import heat_picture, picture_uri, visible
from sfumato.results.explanation import Explanation

LARGEST = 256
"""Pixels of the longer side of a picture as it is sent."""
ROWS = (
    ("samples", "Sample", "what the model has at this step, mostly noise at first"),
    ("clean", "Clean estimate", "the image that the model expects at this step"),
    (
        "attention_map",
        "Attention",
        "the outputs of all attention layers, summed; bright is high",
    ),
)


def film(elem_id: str, examples: Sequence[Mapping[str, str]]) -> gr.HTML:
    """The component, empty: it says what will be here, and shows examples to start from.

    Its event ``example`` carries one of them. It tells other pieces of its step by a document event "sf-step".

    Args:
        elem_id: Its own.
        examples: Each with ``text``, and whatever its listener needs.
    """
    empty = (
        "An image comes out of noise in many steps. Profile one, and see what the model had at each step, where its "
        "attention was, what its layers did, and what happens when you change something on the way. For example:"
    )
    return piece("film", {"empty": empty, "examples": [dict(one) for one in examples]}, elem_id=elem_id)


def frames(
    explanation: Explanation, *, key: str, title: str, link: str, links: Sequence[dict[str, str]]
) -> dict[str, Any]:
    """The value that shows a profile.

    Args:
        explanation: Of the method ``profile``.
        key: Of this profile; other pieces of it follow the slider by this key.
        title: Above it.
        link: The query string that makes it again.
        links: To take it away.
    """
    samples = explanation.tree["samples"].to_dataset()
    times = samples["timestep"].values.tolist()
    rows = []
    for node, name, help_text in ROWS:
        if node in explanation.tree.children:
            data = explanation.tree[node].to_dataset()
            shown = data["picture"].values if "picture" in data else data["map"].values
            pictures = [
                picture_uri(small(one)) if "picture" in data else picture_uri(heat_picture(one)) for one in shown
            ]
            rows.append({"name": name, "help": help_text, "cells": pictures, "coarse": "picture" not in data})
    request = explanation.request
    return {
        "key": key,
        "title": visible(title),
        "times": [f"t = {time:.0f}" for time in times[:-1]] + ["image"],
        "places": [f"step {step} of {request.steps}" for step in samples["step"].values.tolist()],
        "rows": rows,
        "aspect": f"{explanation.image.width}/{explanation.image.height}",
        "notes": notes_of(explanation),
        "facts": facts_of(explanation, f", {len(times) - 1} of them kept"),
        "link": link,
        "links": list(links),
    }


def strips(elem_id: str) -> gr.HTML:
    """Rows of pictures with captions, empty; its event ``cell`` carries {place} where cells can be chosen."""
    return piece("strips", {"rows": []}, elem_id=elem_id)


def small(picture: Image.Image | NDArray[Any]) -> Image.Image:
    """A picture at the size at which it is shown; small ones as they are."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(np.ascontiguousarray(picture))
    if max(image.size) > LARGEST:
        image = image.copy()
        image.thumbnail((LARGEST, LARGEST))
    return image


def cell(picture: Image.Image | NDArray[Any], caption: str, alt: str = "") -> dict[str, str]:
    """A picture of a row.

    Args:
        picture: An image, or (y, x, 3) of uint8.
        caption: Below it.
        alt: What it shows, for screen readers; the caption where nothing else is given.
    """
    return {"src": picture_uri(small(picture)), "caption": caption, "alt": alt or caption}
