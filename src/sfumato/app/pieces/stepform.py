"""How the steps of a run are spread, which of them to look at, and what to ask of them: the form of the tab Steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from sfumato.app.asking.step_requests import ASKABLE, LAST, MOST_AT, START
from sfumato.app.pieces.piece import piece

KINDS = {
    "uniform": ("Uniform", "even steps, as the model does it"),
    "early": ("Early", "dense where the layout is settled"),
    "late": ("Late", "dense where the details come"),
    "window": ("Window", "dense between two timesteps"),
}
QUESTIONS = {
    "df_rise": ("Which places does the step depend on?", "DF-RISE: random masks"),
    "df_cam": ("Where were the features active?", "DF-CAM: activations weighed by gradients"),
    "relevance": ("Which words led?", "relevance through all attention"),
    "gradient": ("Baseline: gradient", "of the step's output"),
    "integrated_gradients": ("Baseline: integrated gradients", "along the way from nothing"),
    "attention": ("Baseline: attention", "on the prompt's words"),
    "lime": ("Baseline: LIME", "superpixels, 120 coalitions"),
}


def stepform(elem_id: str) -> gr.HTML:
    """The component. Its value holds what is chosen under "chosen"; ``change`` tells that it was changed."""
    return piece("stepform", {"chosen": START, "most": MOST_AT, "last": LAST}, elem_id=elem_id)


def formed(times: Mapping[str, Sequence[float]], count: int, offered: Sequence[str] = ASKABLE) -> dict[str, Any]:
    """The value that shows the schedules; what is chosen stays as it is in the browser.

    Args:
        times: The timesteps of each schedule, falling.
        count: Of steps.
        offered: What the model can be asked.
    """
    return {
        "count": count,
        "kinds": [
            {"name": name, "label": label, "note": note, "times": [round(one, 1) for one in times.get(name, ())]}
            for name, (label, note) in KINDS.items()
        ],
        "questions": [
            {"name": name, "label": QUESTIONS[name][0], "note": QUESTIONS[name][1]}
            for name in ASKABLE
            if name in offered
        ],
        "most": MOST_AT,
        "last": LAST,
    }
