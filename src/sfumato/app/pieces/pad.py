"""A picture to draw a mask on, or to choose from the visitor's disk."""

from __future__ import annotations

import secrets
from typing import Any, Literal

import gradio as gr
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.app.pieces.piece import piece
from sfumato.report.markup import picture_uri

Mode = Literal["mask", "still"]


def pad(elem_id: str, *, label: str = "", empty: str = "", upload: str = "") -> gr.HTML:
    """The component, empty.

    Its events carry data (see ``piece.data_of``). ``drawn`` {mask}: what was drawn, as a black and white PNG in a data
    URL of the picture's size, "" for nothing; read it with ``inputs.mask_from``. ``upload`` {data}: a data URL; read it
    with ``inputs.picture_from``.

    Args:
        elem_id: Its own.
        label: Above it.
        empty: What it says without a picture.
        upload: The button that chooses a picture; "" for none.
    """
    return piece("pad", {"label": label, "empty": empty, "upload": upload}, elem_id=elem_id)


def drawable(
    image: Image.Image,
    mode: Mode,
    *,
    label: str = "",
    alt: str = "",
    hint: str = "",
    upload: str = "",
    key: str = "",
    mask: str = "",
) -> dict[str, Any]:
    """The value that shows a picture.

    Args:
        image: The picture.
        mode: What can be done: draw a mask, or nothing.
        label: Above it.
        alt: What it shows, for screen readers.
        hint: Below it.
        upload: The button that chooses another picture; "" for none.
        key: The same one keeps what was drawn.
        mask: What is drawn already, as a data URL.
    """
    return {
        "image": picture_uri(image),
        "width": image.width,
        "height": image.height,
        "mode": mode,
        "label": label,
        "alt": alt,
        "hint": hint,
        "upload": upload,
        "key": key or secrets.token_hex(4),
        "mask": mask,
    }


def mask_uri(inside: NDArray[np.bool_]) -> str:
    """A mask (y, x) as a black and white PNG in a data URL, as the pad gives and draws it."""
    return picture_uri(Image.fromarray(np.where(inside, np.uint8(255), np.uint8(0))))
