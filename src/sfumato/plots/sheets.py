"""Which sheets an explanation has beside those of its words, by the name that their files get."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PIL import Image

from sfumato.plots.interventions import ablation_sheet, sweep_sheet, switch_sheet
from sfumato.plots.process import layers_sheet, process_sheet
from sfumato.plots.reference import causal_sheet, points_sheet, reference_sheet
from sfumato.plots.roles import sheet_of
from sfumato.plots.saliency import relevance_sheet, saliency_sheet
from sfumato.plots.segments import segment_sheet
from sfumato.plots.trust import randomisation_sheet, removal_sheet, trust_sheet
from sfumato.plots.volumes import volume_sheet
from sfumato.results.explanation import Explanation
from sfumato.results.meaning import declared

Draw = Callable[[Explanation], Image.Image]

SHEETS: dict[str, tuple[tuple[str, ...], Draw]] = {
    "profile": (("samples", "trajectory", "attention_map"), process_sheet),
    "layers": (("activations",), layers_sheet),
    "gradients": (("gradients",), partial(layers_sheet, kind="gradients")),
    "gradient_volume": (("gradient_volume",), volume_sheet),
    "gradient_maps": (("gradient_maps",), partial(layers_sheet, kind="gradient_maps")),
    "ablation": (("ablation",), ablation_sheet),
    "sweep": (("sweep",), sweep_sheet),
    "switch": (("switch",), switch_sheet),
    "saliency": (("saliency",), saliency_sheet),
    "relevance": (("relevance",), relevance_sheet),
    "i2am": (("i2am",), reference_sheet),
    "i2am_points": (("i2am",), points_sheet),
    "causal": (("causal",), causal_sheet),
    "segments": (("segments",), segment_sheet),
    "trust": (("trust",), trust_sheet),
    "removal": (("removal",), removal_sheet),
    "randomisation": (("randomisation",), randomisation_sheet),
}
"""Drawings made for some nodes, by file name: the nodes that are on it, of which the first must be there."""

_ASKED = {"i2am_points": ("specific", "reverse", "specific_mask")}
"""Sheets of what not every explanation was asked for: one of these arrays must be in the node."""


def process_sheets(explanation: Explanation) -> dict[str, Draw]:
    """The sheets of an explanation of one image: those made for its nodes, then one for each other map and curve.

    Its word maps and importances have sheets of their own, `word_sheet` and `importance_sheet`.
    """
    tree = explanation.tree
    found = {
        name: draw
        for name, ((node, *_), draw) in SHEETS.items()
        if node in tree.children and (name not in _ASKED or any(one in tree[node] for one in _ASKED[name]))
    }
    drawn = {"words"}.union(*(SHEETS[name][0] for name in found))
    for one in (*declared(tree, "map"), *declared(tree, "curve")):
        if one.path.partition("/")[0] not in drawn and one.array.size:
            name = f"{one.path}/{one.name}".replace("/", "-")
            found[name + "-" * (name in found)] = partial(sheet_of, one=one)
    return found
