"""What all figures of the process share: size, colours, and the way to a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

INK, QUIET = "#1d1d1f", "#6e6e73"
LINES = ("#b5532b", "#3f6f94", "#6b8f3f", "#8a5a9e", "#c49a2c", "#3d8f86", "#a2465e", "#5b5b60")
_DPI = 130


def figure_of(width: float, height: float) -> Any:
    """An empty figure of so many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def picture_axis(axis: Any) -> Any:
    """An axis for a picture: no ticks, a thin frame."""
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_color("#d9d4cb")
    return axis


def finished(figure: Any) -> Image.Image:
    """The figure as an RGB picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
