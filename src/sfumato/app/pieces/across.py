"""A generated image and its reference beside each other: a point of one, and where it is on the other."""

from __future__ import annotations

import base64
import io
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from sfumato.app.asking.correspondence import Answer, Pairs, Question, of_all
from sfumato.app.pieces.piece import piece
from sfumato.plots.overlays import DIM, colours
from sfumato.report.markup import packed, picture_uri

EMPTY = {
    "empty": "Give a reference and a scene, draw where the object is to go, and paint it. Then click any point of the "
    "painted part to see which place of the reference it came from, and back.",
}


def across(elem_id: str) -> gr.HTML:
    """The component, empty. Its event ``ask`` carries side, x, y, group, head and layer."""
    return piece("across", dict(EMPTY), elem_id=elem_id)


def answered(pairs: Pairs, question: Question, *, key: str) -> dict[str, Any]:
    """The value that shows a question and its answer.

    Args:
        pairs: Of the image.
        question: About a point, or about all that was painted.
        key: Another key begins another view.

    Raises:
        RequestError: The question cannot be answered.
    """
    explanation = pairs.explanation
    reference = explanation.request.reference
    assert reference is not None
    answer = pairs.answer(question)
    patch = None
    if question.side == "reference" and question.x is not None and question.y is not None:
        patch = list(pairs.patch_of(question.x, question.y))
    return {
        "key": key,
        "image": _picture(explanation.image, "The painted image"),
        "reference": _picture(reference.image, "The reference"),
        "outline": "" if pairs.inside is None else _outline(pairs.inside),
        "patches": pairs.patches,
        "causal": pairs.causal,
        "tokens": list(pairs.tokens),
        "asked": vars(question),
        "patch": patch,
        "answer": _heat(answer) | {"box": list(answer.strongest), "peak": answer.peak, "times": answer.times},
        "strips": {
            axis: [_heat(one) | {"box": list(one.strongest)} for one in of_all(pairs, question, axis)]
            for axis in ("group", "head")
        },
        "layers": pairs.layers,
        "colours": base64.b64encode(colours().tobytes()).decode(),
        "dim": list(DIM),
    }


def _picture(image: Image.Image, alt: str) -> dict[str, Any]:
    return {"src": picture_uri(image), "width": image.width, "height": image.height, "alt": alt}


def _heat(answer: Answer) -> dict[str, Any]:
    return packed(answer.heat.astype(np.float32))


def _outline(inside: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> str:
    """The edge of what was painted, white on nothing, as a picture."""
    padded = np.pad(inside, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    edge = inside & ~inner
    pixels = np.zeros((*inside.shape, 4), np.uint8)
    pixels[edge] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
