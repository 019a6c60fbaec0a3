"""DAAM: which pixels did each word drive? Word maps from cross-attention (Tang et al. 2022, arXiv 2210.04885).

With F_t[x, y, k] the attention of position (x, y) to token k in one layer and head at step t, the map of a token is
the mean over steps, layers and heads of the bicubic upscaling of F_t to the latent grid; the map of a word is the
mean over its tokens. Upscaling is linear, so maps of one grid are summed first and upscaled once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from sfumato.errors import ModelError, OptionError
from sfumato.generation.generate import generate
from sfumato.generation.recorders.reduce import AttentionSums, Axis, GridMaps
from sfumato.generation.trace import Trace
from sfumato.information.calibrating import load_calibration
from sfumato.methods.costs import runs
from sfumato.methods.word_maps import (
    check_layers,
    check_steps,
    mean,
    mean_maps,
    places,
    readable,
    text_sites,
    tokens_node,
    words_node,
)
from sfumato.models.model import Model
from sfumato.models.words import Tokens
from sfumato.option_values import MEGABYTES, SHARE, STEPS
from sfumato.progress import Progress
from sfumato.registry import method
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.results.hard_maps import hard
from sfumato.results.images import centres, single
from sfumato.results.upscale import bicubic

AXES = ("step", "layer", "head")
PARITIES = ("daam-0.2",)
NEGATIVE = "negative_"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DaamOptions:
    """Options of ``daam``."""

    layers: str | None = field(
        default=None,
        metadata={
            "pattern": "regex",
            "help": "regular expression over layer names, such as 'up_blocks'; all down and up layers",
        },
    )
    steps: tuple[int, ...] | None = field(
        default=None, metadata=STEPS | {"help": "count only these steps (from 0); all"}
    )
    keep: tuple[Axis, ...] = field(
        default=(), metadata={"help": "axes of the maps to keep for later selection: step, layer, head"}
    )
    budget_mb: float = field(
        default=256.0, metadata=MEGABYTES | {"help": "most memory that kept maps may take for each image, in MB"}
    )
    normalise: bool = field(default=False, metadata={"help": "at every position share 1 among the prompt's tokens"})
    threshold: float | None = field(
        default=None, metadata=SHARE | {"help": "also store hard maps: at least this share of the maximum"}
    )
    negative: bool = field(default=False, metadata={"help": "also map the words of the negative prompt"})
    parity: str | None = field(
        default=None,
        metadata={"choices": PARITIES, "help": "'daam-0.2' reproduces the numbers of the reference code"},
    )
    calibration: str | None = field(
        default=None,
        metadata={"disk": "file", "help": "a file of weights of layers, heads and steps, from sfumato run calibration"},
    )

    def __post_init__(self) -> None:
        """Check every option."""
        if self.parity is not None and self.keep:
            raise OptionError("parity and keep do not go together: parity keeps layers and heads for its own rounding")
        if self.calibration is not None and (self.parity is not None or self.keep):
            raise OptionError(
                "calibration weighs the maps while they are summed, so it goes with neither parity nor keep"
            )
        check_steps(self.steps)
        check_layers(self.layers)


@method(
    "daam",
    summary="Which pixels did each word drive? Cross-attention, summed over steps, layers and heads",
    options=DaamOptions,
    needs=("token-maps",),
    cost=lambda model, request, options: f"{runs(model, request)}, no extra call",
    paper="Tang et al. 2022, What the DAAM, arXiv 2210.04885",
)
def daam(
    model: Model, requests: Sequence[CompletedRequest], options: DaamOptions, progress: Progress
) -> list[Explanation]:
    """Map every word of every request while its images are made."""
    read = {"conditional": [readable(model, r.prompt) for r in requests]}
    if options.negative:
        if "unconditional" not in model.branches(requests[0]).names:
            raise ModelError(
                f"there is no guidance, so the negative prompt is not used and has no map; {model.how_to_guide}"
            )
        read["unconditional"] = [model.tokens(r.negative_prompt, negative=True) for r in requests]
    check_steps(options.steps, model.steps(requests[0]))
    keep: tuple[Axis, ...] = ("layer", "head") if options.parity else options.keep
    sites = text_sites(model, options.layers)
    weigh = None if options.calibration is None else load_calibration(options.calibration).of
    sums = {
        branch: AttentionSums(sites, branch, places(tokens), keep, options.steps, options.budget_mb * 1e6, weigh=weigh)
        for branch, tokens in read.items()
    }
    trace = generate(model, requests, attachments=list(sums.values()), progress=progress)
    grids = {branch: s.grids() for branch, s in sums.items()}
    return [trace.explanation(number, _nodes(trace, number, read, grids, options)) for number in range(len(requests))]


def select(
    explanation: Explanation,
    *,
    steps: Iterable[int] | None = None,
    layers: str | None = None,
    heads: Iterable[int] | None = None,
) -> Explanation:
    """Word maps of some steps, layers and heads of an explanation that kept them; no model is needed.

    Args:
        explanation: Made with ``keep`` naming the axes that are selected here.
        steps: Step numbers, or None for all.
        layers: A regular expression over layer names, or None for all.
        heads: Head numbers, or None for all.

    Raises:
        OptionError: An axis was not kept, or nothing is left.
    """
    if "attention" not in explanation.tree.children:
        raise OptionError(
            "this explanation kept no axis; explain again with keep=('step', 'layer', 'head') or some of them"
        )
    wanted: dict[str, Any] = {"step": steps, "head": heads, "layer": layers}
    tree = explanation.tree.copy()
    for prefix in ("", NEGATIVE):
        if f"{prefix}attention" not in tree.children:
            continue
        tokens = tree[f"{prefix}tokens"].to_dataset()
        maps = _selected(tree.children[f"{prefix}attention"], wanted, (tokens.sizes["y"], tokens.sizes["x"]))
        if tokens.attrs["normalised"]:
            maps = _normalised(maps, tokens["word_index"].values.tolist())
        tree[f"{prefix}tokens"] = xr.DataTree(tokens.assign(map=(tokens["map"].dims, maps.astype(np.float32))))
        if f"{prefix}words" in tree.children:
            words, owner = tree[f"{prefix}words"].to_dataset(), tokens["word_index"].values
            means = np.stack([mean(maps[..., owner == i, :, :]) for i in words["index"].values], axis=-3)
            arrays: dict[str, Any] = {"map": (words["map"].dims, means.astype(np.float32))}
            if "hard" in words:
                arrays["hard"] = (words["map"].dims, hard(arrays["map"][1], words.attrs["threshold"]))
            tree[f"{prefix}words"] = xr.DataTree(words.assign(arrays))
    return Explanation(
        tree,
        explanation.request,
        explanation.provenance | {"selected": {k: str(v) for k, v in wanted.items() if v is not None}},
    )


def _selected(attention: xr.DataTree, wanted: Mapping[str, Any], size: tuple[int, int]) -> Floats:
    """The mean over the chosen steps, layers and heads of all grids: (..., token, y, x)."""
    parts = [node.to_dataset() for node in attention.children.values()]
    for axis, values in wanted.items():
        if values is None:
            continue
        if axis not in parts[0]["map"].dims:
            raise OptionError(f"the axis {axis} was not kept; explain again with keep=({axis!r}, ...)")
        chosen = _chosen(list(dict.fromkeys(name for data in parts for name in data[axis].values.tolist())), values)
        parts = [data.isel({axis: np.isin(data[axis].values, chosen)}) for data in parts]
    weight = sum(float(data["weight"].sum()) for data in parts)
    if not weight:
        raise OptionError("no attention map is left; choose other steps, layers or heads")
    total = sum(_weighted(data, size) for data in parts)
    return np.clip(np.asarray(total) / weight, 0, None)


def _nodes(
    trace: Trace,
    number: int,
    read: Mapping[str, Sequence[Tokens]],
    grids: Mapping[str, Mapping[tuple[int, int], GridMaps]],
    options: DaamOptions,
) -> dict[str, xr.Dataset]:
    nodes: dict[str, xr.Dataset] = {}
    latent = trace.model.latent_grid(trace.requests[number])
    for branch, tokens in read.items():
        mapped = tokens[number]
        filled = [places(tokens).index(token.index) for token in mapped.context]
        own = {
            grid: GridMaps(g.maps[trace.of(number)][..., filled, :, :], g.weights, g.steps, g.layers)
            for grid, g in grids[branch].items()
        }
        maps = _token_maps(own, latent, options)  # (item, token, y, x)
        if options.normalise:
            maps = _normalised(maps, [token.word for token in mapped.context])
        prefix = "" if branch == "conditional" else NEGATIVE
        unit = "sum over steps of attention probability" if options.parity else "mean attention probability"
        unit = unit if options.calibration is None else "calibrated attention, weights summing to 1"
        if mapped.words:
            nodes[f"{prefix}words"] = words_node(mapped, maps, "daam", unit, options.threshold)
        nodes[f"{prefix}tokens"] = tokens_node(mapped, maps, "daam", unit, normalised=options.normalise)
        if options.keep:
            for grid, found in own.items():
                nodes[f"{prefix}attention/{grid[0]}x{grid[1]}"] = _kept(found, mapped, options.keep)
    return nodes


def _token_maps(grids: Mapping[tuple[int, int], GridMaps], latent: tuple[int, int], options: DaamOptions) -> Floats:
    """Upscale and average: (item, token, y, x). In parity every layer and head is clamped at 0 before the mean."""
    if options.parity:
        large = {grid: found for grid, found in grids.items() if latent[0] != 8 * grid[0]}  # the reference skips 1/8
        scaled = [
            np.clip(bicubic(found.maps[:, 0] * found.weights[0][None, :, :, None, None, None], latent), 0, None)
            for found in large.values()
        ]  # (item, layer, head, token, y, x)
        if not large:
            raise OptionError("the reference leaves out maps at 1/8 of the latent, and no other layer was chosen")
        pairs = sum(int((found.weights[0] > 0).sum()) for found in large.values())
        return np.asarray(sum(maps.sum((1, 2)) for maps in scaled) / pairs)
    return np.clip(mean_maps(grids, latent), 0, None)


def _weighted(data: xr.Dataset, shape: tuple[int, int]) -> Floats:
    kept = [axis for axis in AXES if axis in data["map"].dims]
    summed = (data["map"].astype(np.float64) * data["weight"]).sum(kept)
    order = [dim for dim in ("image", "token", "y", "x") if dim in summed.dims]
    return bicubic(summed.transpose(*order).values, shape)


def _kept(found: GridMaps, tokens: Tokens, keep: Sequence[Axis]) -> xr.Dataset:
    drop = {axis: 0 for axis in AXES if axis not in keep}
    names: dict[str, list[Any]] = {
        "step": list(found.steps),
        "layer": list(found.layers),
        "head": list(range(found.maps.shape[3])),
    }
    coords = {
        **{axis: (axis, names[axis]) for axis in AXES},
        "token": ("token", [t.text for t in tokens.context]),
        "y": ("y", centres(found.maps.shape[-2])),
        "x": ("x", centres(found.maps.shape[-1])),
    }
    data = {
        "map": (("image", *AXES, "token", "y", "x"), found.maps),
        "weight": (AXES, found.weights),
    }
    whole = xr.Dataset(data, coords=coords, attrs={"method": "daam", "unit": "mean attention probability"})
    return single(whole.isel(drop, drop=True))


def _normalised(maps: Floats, owners: Sequence[int]) -> Floats:
    """At every position the share among the prompt's own tokens; start and end token (no word's) are left out."""
    own = [place for place, word in enumerate(owners) if word >= 0] or list(range(len(owners)))
    return np.asarray(maps / (maps[..., own, :, :].sum(-3, keepdims=True) + 1e-6))


def _chosen(known: Sequence[Any], wanted: Any) -> list[Any]:
    """The wanted ones of the steps, layers or heads of all grids (layers of one grid may have more heads)."""
    if isinstance(wanted, str):
        return [name for name in known if re.search(wanted, name)]
    asked = set(wanted)
    if missing := asked - set(known):
        raise OptionError(f"{sorted(missing)[0]} was not kept; kept are: {', '.join(map(str, known))}")
    return sorted(asked)
