"""Which sheets an explanation of the process and its steps has, by the name that their files get."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PIL import Image

from sfumato.plots.interventions import ablation_sheet, sweep_sheet, switch_sheet
from sfumato.plots.process import layers_sheet, process_sheet
from sfumato.plots.reference import causal_sheet, points_sheet, reference_sheet
from sfumato.plots.saliency import relevance_sheet, saliency_sheet
from sfumato.plots.trust import randomisation_sheet, removal_sheet, trust_sheet
from sfumato.plots.volumes import volume_sheet
from sfumato.results.explanation import Explanation

Draw = Callable[[Explanation], Image.Image]

SHEETS: dict[str, tuple[str, Draw]] = {
    "profile": ("samples", process_sheet),
    "layers": ("activations", layers_sheet),
    "gradients": ("gradients", partial(layers_sheet, kind="gradients")),
    "gradient_volume": ("gradient_volume", volume_sheet),
    "gradient_maps": ("gradient_maps", partial(layers_sheet, kind="gradient_maps")),
    "ablation": ("ablation", ablation_sheet),
    "sweep": ("sweep", sweep_sheet),
    "switch": ("switch", switch_sheet),
    "saliency": ("saliency", saliency_sheet),
    "relevance": ("relevance", relevance_sheet),
    "i2am": ("i2am", reference_sheet),
    "i2am_points": ("i2am", points_sheet),
    "causal": ("causal", causal_sheet),
    "trust": ("trust", trust_sheet),
    "removal": ("removal", removal_sheet),
    "randomisation": ("randomisation", randomisation_sheet),
}
"""By file name: the node that must be there, and what draws it."""

_ASKED = {"i2am_points": ("specific", "reverse", "specific_mask")}
"""Sheets of what not every explanation was asked for: one of these arrays must be in the node."""


def process_sheets(explanation: Explanation) -> dict[str, Draw]:
    """The sheets that the nodes of an explanation of one image allow."""
    return {
        name: draw
        for name, (node, draw) in SHEETS.items()
        if node in explanation.tree.children
        and (name not in _ASKED or any(one in explanation.tree[node] for one in _ASKED[name]))
    }
