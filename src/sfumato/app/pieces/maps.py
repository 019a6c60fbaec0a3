"""Maps of layers: one channel of each at one step, with a slider over the channels and the maximum channel marked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from sfumato.app.asking.profiles import Part, strongest
from sfumato.app.pieces.piece import piece
from sfumato.bounds import checked_int
from sfumato.errors import RequestError
from sfumato.plots.process import short_name
from sfumato.report.markup import heat_picture, picture_uri
from sfumato.results.explanation import Explanation
from sfumato.results.upscale import resized

NOTHING: dict[str, Any] = {"layers": []}
TITLES = {
    "activations": (
        "What the layers hold",
        "Each field is one place of the layer's grid, bright where this channel's output is high. The strongest "
        "channel is the one with the largest sum. The view follows it until you move a slider.",
    ),
    "gradient_maps": (
        "Gradient maps of the layers",
        "Bright where a rise of this channel's output would raise the chosen part of the next sample; dark where it "
        "would lower it.",
    ),
}


def maps_view(elem_id: str) -> gr.HTML:
    """The component, empty.

    Its event ``maps`` {step, channels} asks for other maps; ``ablate`` {layer, channel} for the image without one.
    """
    return piece("maps", dict(NOTHING), elem_id=elem_id)


def shown_maps(
    explanation: Explanation,
    kind: str,
    *,
    key: str,
    step: int,
    channels: Mapping[str, Any] | None = None,
    part: Part | None = None,
) -> dict[str, Any]:
    """The value that shows one channel of every layer at one step.

    Args:
        explanation: With layers under ``kind``.
        kind: The node: "activations" or "gradient_maps".
        key: Of the profile whose film leads; another key begins another view.
        step: A place among the kept steps.
        channels: By layer; None, and what is left out, is the strongest channel (of the part, where there is one).
        part: Where strongest channels are also looked for.

    Raises:
        RequestError: There is no such step or channel.
    """
    if kind not in explanation.tree.children:
        return dict(NOTHING)
    nodes = {name: node.to_dataset() for name, node in explanation.tree[kind].children.items()}
    count = next(iter(nodes.values())).sizes["step"]
    step = checked_int("step", step, 0, count - 1, RequestError)
    times = next(iter(nodes.values()))["timestep"].values
    title, note = TITLES[kind]
    cards = [
        _card(name, data["map"].values, data["max_channel"].values, step, (channels or {}).get(name), part)
        for name, data in nodes.items()
    ]
    return {
        "key": f"{key}/{kind}",
        "follows": key if kind == "activations" else "",
        "ablate": True,
        "title": f"{title} at t = {times[step]:.0f}",
        "note": note,
        "steps": count,
        "step": step,
        "layers": cards,
    }


def _card(
    name: str, maps: NDArray[Any], most: NDArray[Any], step: int, wanted: Any, part: Part | None
) -> dict[str, Any]:
    """One layer; maps are (step, channel, y, x), `most` the maximum channel at every step."""
    count = maps.shape[1]
    inside = None if part is None else strongest(maps[step : step + 1], part)[0]
    if wanted is None:
        channel = int(most[step]) if inside is None else inside
    else:
        channel = checked_int(f"the channel of {name}", wanted, 0, count - 1, RequestError)
    one = maps[step, channel]
    return {
        "name": name,
        "short": short_name(name, 34),
        "channels": count,
        "grid": f"{maps.shape[2]} × {maps.shape[3]}",
        "channel": channel,
        "follows": wanted is None,
        "strongest": int(most[step]),
        "inside": inside,
        "part": None if part is None else part.name,
        "src": picture_uri(heat_picture(one)),
        "share": None if part is None else _share(one, part),
        "low": float(np.min(one)),
        "high": float(np.max(one)),
        "aspect": f"{maps.shape[3]}/{maps.shape[2]}",
    }


def _share(one: NDArray[Any], part: Part) -> float:
    """How much of a map's rise above its lowest value lies inside the part."""
    risen = one.astype(np.float64) - one.min()
    total = float(risen.sum())
    return float((risen * resized(part.inside, (one.shape[0], one.shape[1]))).sum()) / total if total else 0.0
