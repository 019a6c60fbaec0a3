"""I2AM: which parts of a reference image drove which parts of the generated one, in both directions.

Source: Park and Jang 2024, "I2AM: Interpreting image-to-image latent diffusion models via attribution maps". Forward
maps lie on the generated image, backward maps on the reference; how they are summed is defined in
`sfumato.generation.recorders.reference`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sfumato.bounds import shown
from sfumato.errors import ModelError, OptionError, RequestError
from sfumato.generation.generate import generate
from sfumato.generation.recorders.reference import PAIR_AXES, LayerMaps, PairAxis, ReferenceSums
from sfumato.generation.trace import Trace
from sfumato.inputs.image import Mask
from sfumato.inputs.schedule import MAX_STEPS
from sfumato.metrics import average_precision, box, box_iou, coverage, hard, imacs, iou, rank_correlation
from sfumato.models.model import Model, ReferenceTokens
from sfumato.option_values import INNER_SHARE, MEGABYTES, PIXELS
from sfumato.progress import Progress
from sfumato.registry import method
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.results.images import centres
from sfumato.results.pairs import NODE as PAIRS
from sfumato.results.pairs import in_shares, looking_at, seen_from, seen_from_part
from sfumato.results.upscale import bicubic
from sfumato.saliency.reference_occlusion import occluded

NODE, UNGUIDED = "i2am", "i2am_unguided"
UNITS = {"share": "multiples of an even share", "probability": "mean attention probability"}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class I2amOptions:
    """Options of ``i2am``."""

    at: tuple[int, ...] = field(
        default=(),
        metadata=PIXELS | {"help": "points x,y of the generated image (or x1,y1,x2,y2): what did they look at?"},
    )
    patches: tuple[int, ...] = field(
        default=(),
        metadata=PIXELS
        | {"help": "points x,y of the reference, at the size the model reads it: who looked at their patches?"},
    )
    groups: int = field(
        default=5,
        metadata={"least": 1, "most": MAX_STEPS, "help": "in how many groups of steps the maps over time are"},
    )
    adapter: int = field(
        default=1, metadata={"least": 1, "most": 100, "help": "of several IP-Adapters, which one; 1 is the first"}
    )
    keep: tuple[PairAxis, ...] = field(
        default=(), metadata={"help": "axes of the pairs of place and patch that are kept: group, head"}
    )
    unit: Literal["share", "probability"] = field(
        default="share",
        metadata={
            "help": "of forward maps: multiples of an even share, in which all layers have equal weight, or the "
            "probabilities, as published, in which coarse layers dominate"
        },
    )
    unguided: bool = field(default=False, metadata={"help": "also explain the run with guidance switched off"})
    causal: bool = field(
        default=False, metadata={"help": "also occlude every patch of the reference and see what changes"}
    )
    occlude: Literal["mean", "grey"] = field(default="mean", metadata={"help": "what lies on an occluded patch"})
    reference_mask: str | None = field(
        default=None,
        metadata={"disk": "mask", "help": "where the object is on the reference (a black and white PNG), for IMACS"},
    )
    threshold: float = field(
        default=0.4, metadata=INNER_SHARE | {"help": "share of the maximum above which a place is found"}
    )
    budget: float = field(
        default=256.0, metadata=MEGABYTES | {"help": "most memory for kept pairs of place and patch, in MB"}
    )

    def __post_init__(self) -> None:
        """Check what the options mean together."""
        for name in ("at", "patches"):
            numbers = getattr(self, name)
            if len(numbers) % 2:
                raise OptionError(f"{name} is {shown(numbers)}; expected points x,y in pixels, such as 40,64")


def _cost(model: Model, request: CompletedRequest, options: I2amOptions) -> str:
    runs = 1 + options.unguided
    also = ""
    if options.causal:
        height, width = model.reference_tokens().grid
        also = f", then up to {height * width} more, one for each patch"
    return f"{runs} generation{'s' if runs > 1 else ''} ({model.steps(request)} denoiser calls each){also}"


@method(
    "i2am",
    summary="Which parts of a reference image drove which parts of the generated one? Both ways",
    options=I2amOptions,
    needs=("reference", "cross-attention"),
    cost=_cost,
    paper="Park and Jang 2024, I2AM: interpreting image-to-image latent diffusion models via attribution maps",
)
def i2am(
    model: Model, requests: Sequence[CompletedRequest], options: I2amOptions, progress: Progress
) -> list[Explanation]:
    """Map every request's reference onto its image and back."""
    return [_explained(model, request, options, progress) for request in requests]


def _explained(model: Model, request: CompletedRequest, options: I2amOptions, progress: Progress) -> Explanation:
    if request.images != 1:
        raise OptionError("i2am looks at one image; explain each seed by itself")
    tokens = model.reference_tokens(options.adapter)
    _refuse_what_cannot_be(model, request, tokens, options)
    inside = _reference_mask(request, options)
    trace, nodes = _mapped(model, request, tokens, options, inside, progress, NODE)
    if options.unguided:
        plain = model.complete(request.with_(guidance=1.0))
        other, more = _mapped(model, plain, tokens, options, inside, progress, UNGUIDED)
        pixels = np.asarray(other.images[0].convert("RGB"))
        nodes[UNGUIDED] = more[UNGUIDED].assign(pixels=(("image_y", "image_x", "channel"), pixels))
    if options.causal:
        changed = occluded(trace, tokens, options.occlude, progress)
        nodes["causal"] = _causal(changed, nodes, tokens)
    reference = request.references[options.adapter - 1 if request.more_references else 0]
    nodes["reference"] = xr.Dataset(
        {"pixels": (("y", "x", "channel"), reference.array.copy())},
        coords={"channel": ("channel", ["R", "G", "B"])},
    )
    return trace.explanation(0, nodes)


def _refuse_what_cannot_be(
    model: Model, request: CompletedRequest, tokens: ReferenceTokens, options: I2amOptions
) -> None:
    assert request.reference is not None
    for name, (rows, columns) in (
        ("at", (request.height, request.width)),
        ("patches", (request.reference.height, request.reference.width)),
    ):
        for x, y in _points(getattr(options, name)):
            if not (0 <= x < columns and 0 <= y < rows):
                what = "generated image" if name == "at" else "reference as the model reads it"
                raise OptionError(
                    f"{name} has the point {x},{y}; on the {what}, x goes from 0 to {columns - 1} and y to {rows - 1}"
                )
    if request.mask is not None:
        inside = request.mask.inside
        for x, y in _points(options.at):
            if not inside[y, x]:
                raise OptionError(
                    f"at has the point {x},{y}, which lies outside the mask: nothing was painted there; take a point "
                    "inside"
                )
    if tokens.grid == (1, 1) and (options.at or options.patches or options.causal or options.reference_mask):
        raise ModelError(
            f"{model.source.name} reads the reference as one token: its attention is 1 everywhere and has no say in "
            "the image, so there is nothing to look back at; leave out at, patches and causal, or take a model that "
            "reads patches"
        )
    for name in ("patches", "causal", "reference_mask"):
        if getattr(options, name) and not tokens.patches:
            raise ModelError(f"the tokens of {model.source.name} are no patches of the reference; leave out {name}")


def _mapped(
    model: Model,
    request: CompletedRequest,
    tokens: ReferenceTokens,
    options: I2amOptions,
    inside: NDArray[np.bool_] | None,
    progress: Progress,
    name: str,
) -> tuple[Trace, dict[str, xr.Dataset]]:
    """One generation and its maps: the node of this name, and the pairs."""
    groups = min(options.groups, model.steps(request))
    sums = ReferenceSums(tokens, "conditional", groups, options.keep, options.budget * 1e6)
    trace = generate(model, request, attachments=[sums], progress=progress)
    layers = sums.layers()
    pairs = {f"{PAIRS}/{height}x{width}": node for (height, width), node in _pairs(layers, options.keep).items()}
    return trace, {name: _maps(layers, request, model, tokens, options, inside, list(pairs.values()))} | pairs


def _pairs(layers: Sequence[LayerMaps], keep: Sequence[PairAxis]) -> dict[tuple[int, int], xr.Dataset]:
    """Rows and columns of the layers of every grid, the axes that were not kept left out."""
    grids: dict[tuple[int, int], list[LayerMaps]] = {}
    for one in layers:
        grids.setdefault((one.forward.shape[-2], one.forward.shape[-1]), []).append(one)
    axes = ("layer", *PAIR_AXES, "y", "x", "token")
    lengths = ("group", layers[0].weights if "group" in keep else layers[0].weights.sum(keepdims=True))
    found = {}
    for (height, width), own in grids.items():
        arrays = {name: (axes, np.stack([getattr(one, name)[0] for one in own])) for name in ("rows", "columns")}
        coords = {
            "layer": ("layer", [one.layer for one in own]),
            "y": ("y", centres(height)),
            "x": ("x", centres(width)),
        }
        drop = {axis: 0 for axis in PAIR_AXES if axis not in keep}
        found[height, width] = xr.Dataset(arrays | {"calls": lengths}, coords=coords).isel(drop, drop=True)
    return found


def _maps(
    layers: Sequence[LayerMaps],
    request: CompletedRequest,
    model: Model,
    tokens: ReferenceTokens,
    options: I2amOptions,
    on_reference: NDArray[np.bool_] | None,
    pairs: Sequence[xr.Dataset],
) -> xr.Dataset:
    latent, grid = model.latent_grid(request), tokens.grid
    weights = layers[0].weights / layers[0].weights.sum()
    onto = {"forward": ("y", "x"), "backward": ("ry", "rx")}
    # of every layer (group, head, ...); layers may differ in their number of heads
    parts: dict[str, list[Floats]] = {"forward": [_forward(one, latent, options) for one in layers]}
    if grid != (1, 1):
        parts["backward"] = [
            one.backward[0].astype(np.float64).reshape(*one.backward.shape[1:3], *grid) for one in layers
        ]
    data: dict[str, Any] = {}
    for way, values in parts.items():
        over_heads = np.stack([one.mean(1) for one in values])  # (layer, group, ...)
        of_layers = np.einsum("lgyx,g->lyx", over_heads, weights)
        data[way] = (onto[way], of_layers.mean(0))
        data[f"{way}_time"] = (("group", *onto[way]), over_heads.mean(0))
        data[f"{way}_layer"] = (("layer", *onto[way]), of_layers)
        if len({one.shape[1] for one in values}) == 1:
            data[f"{way}_head"] = (
                ("head", *onto[way]),
                np.einsum("lghyx,g->hyx", np.stack(values), weights) / len(layers),
            )
    coords: dict[str, Any] = {
        "layer": ("layer", [one.layer for one in layers]),
        "y": ("y", centres(latent[0])),
        "x": ("x", centres(latent[1])),
        "ry": ("ry", centres(grid[0])),
        "rx": ("rx", centres(grid[1])),
    }
    if options.at:
        points = _points(options.at)
        rows = [seen_from(pairs, (y / request.height, x / request.width)).reshape(grid) for x, y in points]
        data["specific"] = (("point", "ry", "rx"), np.stack(rows))
        coords |= {"point_x": ("point", [x for x, _ in points]), "point_y": ("point", [y for _, y in points])}
    if options.patches:
        points = _points(options.patches)
        columns = [looking_at(pairs, _token(request, grid, x, y), latent) for x, y in points]
        data["reverse"] = (("patch", "y", "x"), np.stack(columns))
        coords |= {"patch_x": ("patch", [x for x, _ in points]), "patch_y": ("patch", [y for _, y in points])}
    attrs: dict[str, Any] = {
        "method": "i2am",
        "unit": UNITS[options.unit],
        "causal": grid != (1, 1),
        "patches": tokens.patches,
        "guidance": request.guidance,
    }
    whole = bicubic(data["forward"][1], (request.height, request.width))
    found = hard(whole, options.threshold)
    attrs |= {"box": box(found), "found_share": coverage(whole, options.threshold)}
    if found.all():
        attrs["note"] = (
            f"every pixel reaches {options.threshold:g} of the forward map's maximum, so found, box and iou are those "
            "of the whole image; raise threshold, or read average_precision, which needs none"
        )
    if request.mask is not None:
        attrs |= _scores(whole, request.mask.inside, options.threshold)
        if grid != (1, 1):
            data["specific_mask"] = (("ry", "rx"), seen_from_part(pairs, request.mask.inside).reshape(grid))
    if on_reference is not None:
        attrs["imacs_r"] = imacs(data["backward"][1], on_reference)
    arrays = {name: (dims, np.asarray(values, np.float32)) for name, (dims, values) in data.items()}
    node = xr.Dataset(arrays, coords=coords, attrs=attrs)
    return node.assign(found=(("image_y", "image_x"), found))


def _forward(one: LayerMaps, latent: tuple[int, int], options: I2amOptions) -> Floats:
    """A layer's forward maps on the latent's grid, in the unit of the options (group, head, y, x)."""
    maps = one.forward[0].astype(np.float64)
    return in_shares(maps, latent) if options.unit == "share" else np.clip(bicubic(maps, latent), 0, None)


def _scores(whole: Floats, inside: NDArray[np.bool_], threshold: float) -> dict[str, float]:
    """How well the forward map fits the mask, and how well a map that is the same everywhere does."""

    def of(heat: Floats) -> dict[str, float]:
        return {
            "imacs_g": imacs(heat, inside),
            "iou": iou(heat, inside, threshold),
            "box_iou": box_iou(box(hard(heat, threshold)), box(inside)),
            "average_precision": average_precision(heat, inside),
        }

    return of(whole) | {f"{name}_whole_image": value for name, value in of(np.ones(inside.shape)).items()}


def _causal(changed: Floats, nodes: dict[str, xr.Dataset], tokens: ReferenceTokens) -> xr.Dataset:
    """Changes (token, y, x), NaN for patches without content, and how attention agrees with them."""
    latent = (changed.shape[1], changed.shape[2])
    pairs = [node for name, node in nodes.items() if name.startswith(PAIRS)]
    agreement = np.full(len(changed), np.nan)
    for token in np.flatnonzero(np.isfinite(changed).all((1, 2))):
        agreement[token] = rank_correlation(looking_at(pairs, int(token), latent), changed[token])
    attrs = {
        "method": "i2am",
        "unit": "mean absolute change of the image, as a share of the range",
        "agreement": float(np.nanmean(agreement)) if np.isfinite(agreement).any() else None,
    }
    data = {
        "change": (("ry", "rx", "y", "x"), changed.reshape(*tokens.grid, *latent).astype(np.float32)),
        "agreement": (("ry", "rx"), agreement.reshape(tokens.grid).astype(np.float32)),
    }
    return xr.Dataset(data, attrs=attrs)


def _points(numbers: Sequence[int]) -> list[tuple[int, int]]:
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _token(request: CompletedRequest, grid: tuple[int, int], x: int, y: int) -> int:
    assert request.reference is not None
    row, column = y * grid[0] // request.reference.height, x * grid[1] // request.reference.width
    return row * grid[1] + column


def _reference_mask(request: CompletedRequest, options: I2amOptions) -> NDArray[np.bool_] | None:
    """Where the object is on the reference, if that was given, at the size that the model reads."""
    if options.reference_mask is None:
        return None
    assert request.reference is not None
    height, width = request.reference.height, request.reference.width
    try:
        found = Mask.of(options.reference_mask)
    except RequestError as error:
        raise OptionError(f"reference_mask: {error}") from error
    if found.height * width != found.width * height:
        raise OptionError(
            f"reference_mask is {found.height} x {found.width} pixels (height x width), in other proportions than the "
            "reference; give a mask of the reference's size"
        )
    return found.resized(height, width).inside
