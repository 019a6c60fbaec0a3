"""The chosen steps beside each other: what each recovers, and every method's map on it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from sfumato.app.asking.step_results import MEASURES
from sfumato.app.pieces.piece import piece
from sfumato.plots.overlays import DIM, colours
from sfumato.report.markup import packed, picture_uri, visible

SMALL, LARGEST = 256, 512
"""Pixels up to which a picture goes out as it is, and most that are sent."""
EMPTY = {
    "empty": "Write a prompt above. You will see what single steps of the run recover, from noise to image, and which "
    "places and words each of them goes by. For example:",
    "examples": ["a red circle left of a blue square", "a yellow star above a purple heart"],
}
SHOWN = {
    "df_rise": ("DF-RISE", "places on which what the step recovers depends; brighter is more"),
    "df_cam": ("DF-CAM", "places where features that drove the step were active; brighter is more"),
    "relevance": ("Relevance", "places through which words led the step; brighter is more"),
    "gradient": ("Gradient", "places where a small change of the latent changes the output most"),
    "integrated_gradients": ("Integrated gradients", "what each place of the latent adds to the output"),
    "attention": ("Attention", "places that looked at the prompt's words"),
    "lime": ("LIME", "superpixels without which the step recovers something else"),
}


def stepmaps(elem_id: str) -> gr.HTML:
    """The component, empty. Its events: ``example`` {text}; ``check`` {pane, map, step, measure}."""
    return piece("stepmaps", dict(EMPTY), elem_id=elem_id)


def label_of(name: str) -> str:
    """How a map is called on the page."""
    return SHOWN.get(name, (name.replace("_", " "), ""))[0]


def laid_out(
    panes: Sequence[Mapping[str, Any]], titles: Sequence[str], images: Sequence[Image.Image], *, key: str, cost: str
) -> dict[str, Any]:
    """The value that shows them.

    Args:
        panes: From ``step_results.panes_of``.
        titles: Of each.
        images: What each run made in the end.
        key: Another key begins another view.
        cost: Of a check, in words.
    """
    return {
        "key": key,
        "panes": [
            {
                "title": visible(title),
                "image": _uri(image),
                "width": image.width,
                "height": image.height,
                "steps": [
                    {
                        "step": one["step"],
                        "timestep": round(one["timestep"], 1),
                        "picture": _uri(Image.fromarray(one["picture"])),
                    }
                    for one in pane["steps"]
                ],
                "rows": [_row(row) for row in pane["rows"]],
                "notes": [visible(note) for note in pane["notes"]],
            }
            for pane, title, image in zip(panes, titles, images, strict=True)
        ],
        "measures": [[name, label] for name, label in MEASURES.items()],
        "cost": cost,
        "colours": base64.b64encode(colours().tobytes()).decode(),
        "dim": list(DIM),
    }


def _uri(image: Image.Image) -> str:
    """A picture no larger than it is shown."""
    if max(image.size) <= SMALL:
        return picture_uri(image)
    small = image.copy()
    small.thumbnail((LARGEST, LARGEST))
    return picture_uri(small, 88)


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    label, aid = SHOWN.get(row["name"], (row["name"], ""))
    return {
        "name": row["name"],
        "label": label,
        "aid": aid,
        "choices": [
            {"word": visible(word), "maps": [_packed(one) for one in maps]} for word, maps in row["choices"].items()
        ],
        "facts": _facts(row),
    }


def _packed(heat: Any) -> dict[str, Any] | None:
    values = np.asarray(heat, np.float32)
    return packed(values) if np.isfinite(values).all() else None


def _facts(row: Mapping[str, Any]) -> list[str]:
    """What is known of the map of each step, in words."""
    data = row["data"]
    facts = ["" for _ in range(data.sizes["step"])]
    if "masks" in data and "relative_error" in data:
        for place in range(len(facts)):
            facts[place] = (
                f"{int(data['masks'].values[place])} masks; the standard error is "
                f"{float(data['relative_error'].values[place]):.0%} of the map's range."
            )
    return facts
