"""Does a place of a painted garment look at the patch that it comes from? Pointing against the known correspondence.

For every cell inside the garment, the patch with the most attention is compared with the patch that truly lies there,
for all layers, heads and groups of steps together and each by itself, beside controls that see no attention: a random
patch, the patch at the same place of the picture, and the patch at the same place of the garment's bounding box.

The integrated maps are scored against the garment's true regions, on the image and on the reference, with the same
scores of uninformative maps: random ones, a centred blob, and the whole picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sfumato.bounds import checked_int
from sfumato.cache import Cache, default_folder
from sfumato.errors import ModelError, OptionError
from sfumato.explain import explain
from sfumato.findings import one_by_one, remembered
from sfumato.metrics import CONTROLS as UNINFORMATIVE
from sfumato.metrics import average_precision, bootstrap, box, coverage, imacs, iou
from sfumato.metrics.controls import control_map
from sfumato.metrics.localisation import fitted
from sfumato.models.model import Model
from sfumato.option_values import COUNT
from sfumato.progress import Progress, silent
from sfumato.registry import find
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.pairs import NODE as PAIRS
from sfumato.results.rows import plain_rows
from sfumato.studio.garments import SIZE, Pair, pair
from sfumato.studio.garments_scoring import request_of

GROUPS = 5
CONTROLS = ("random", "same place", "same place of the box")
MEASURES = ("right patch", "within one patch", "error in patches")
REGIONS = ("average precision", "IMACS", "IoU", "share found")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ReferenceBench:
    """What was found, for each pair.

    Attributes:
        model: Its name.
        pointing: (pair, measure) by what pointed: "all", "layer NAME", "head N", "steps, part N", "control: NAME".
        regions: (pair, region measure) by map: "image: forward", "image: control: NAME", "reference: backward", ...
    """

    model: str
    pointing: Mapping[str, Floats]
    regions: Mapping[str, Floats]

    @property
    def title(self) -> str:
        """One line for people."""
        return f"where painted cells look on the reference, {self.pairs} pairs of {self.model}"

    @property
    def pairs(self) -> int:
        """How many were painted."""
        return len(self.pointing["all"])

    def rows(self) -> list[dict[str, Any]]:
        """One row for everything that points, then one for each integrated map and control."""
        return [
            {"what": name} | {measure: bootstrap(values[:, place]) for place, measure in enumerate(measures)}
            for measures, found in ((MEASURES, self.pointing), (REGIONS, self.regions))
            for name, values in found.items()
        ]

    def to_json(self) -> str:
        """Everything as JSON text."""
        return json.dumps({"model": self.model, "pairs": self.pairs, "rows": plain_rows(self.rows())}, indent=2)


def bench_reference(model: Model, pairs: int = 60, *, seed: int = 0, progress: Progress = silent) -> ReferenceBench:
    """Paint pairs whose correspondence is known and see where each painted cell looks.

    Results of a pair are kept in the cache, so a run that was stopped goes on.

    Args:
        model: A reference model of studio garments.
        pairs: How many; none was trained on.
        seed: Of the first pair and its noise; pair i has ``seed + i``.
        progress: Told about every pair.

    Raises:
        OptionError: No pair is asked for.
        ModelError: The model reads no reference.
    """
    checked_int("pairs", pairs, **COUNT, error=OptionError)
    if "reference" not in model.features or not model.reference_tokens().patches:
        raise ModelError(f"{model.source.name} reads no patches of a reference; take studio/insert")
    drawn = [pair(seed + number) for number in range(pairs)]
    requests = [model.complete(request_of(one, seed + number)) for number, one in enumerate(drawn)]
    known = dict(zip([request.key for request in requests], drawn, strict=True))

    def work(request: Request) -> dict[str, NDArray[Any]]:
        one = known[request.key]
        found = explain(model, request, "i2am", groups=GROUPS, keep=("group", "head"), progress=progress)
        pointed = pointing(found, one, model.reference_tokens().grid, seed=request.seed)
        return _packed("pointing", pointed) | _packed("regions", regions(found, one, seed=request.seed))

    cache, told = Cache(default_folder()), partial(progress, "pairs")
    about: dict[str, Any] = {"methods": [find("i2am")], "groups": GROUPS, "regions": REGIONS}
    entries = remembered(model, "bench reference", requests, one_by_one(work), cache, told, **about)
    return ReferenceBench(model.source.name, _unpacked("pointing", entries), _unpacked("regions", entries))


def _packed(kind: str, found: Mapping[str, Sequence[float]]) -> dict[str, NDArray[Any]]:
    """Measures by name, as the arrays of a cache's entry."""
    names = np.frombuffer(json.dumps(list(found)).encode(), np.uint8)
    return {f"{kind}_names": names, kind: np.array(list(found.values()))}


def _unpacked(kind: str, entries: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, Floats]:
    """(pair, measure) by name."""
    names = json.loads(entries[0][f"{kind}_names"].tobytes())
    values = np.stack([entry[kind] for entry in entries])  # (pair, name, measure)
    return {name: values[:, place] for place, name in enumerate(names)}


def pointing(explanation: Explanation, one: Pair, grid: tuple[int, int], *, seed: int) -> dict[str, list[float]]:
    """How well everything points: by name, the values of `MEASURES`.

    Args:
        explanation: With the pairs kept by group and head.
        one: What was painted.
        grid: Rows and columns of patches.
        seed: Of the random control.
    """
    finest = max(explanation.tree[PAIRS].children.values(), key=lambda node: int(node.sizes["y"]))
    truth = _truth(one, (int(finest.sizes["y"]), int(finest.sizes["x"])))
    inside = ~np.isnan(truth[..., 0])
    found: dict[str, list[float]] = {}
    layers: list[xr.DataArray] = []
    for node in explanation.tree[PAIRS].children.values():
        rows = node.to_dataset()["rows"]
        layers += [rows.sel(layer=name) for name in rows["layer"].values.tolist()]
    on_finest = [_on(rows.transpose("group", "head", "y", "x", "token").values, inside.shape) for rows in layers]
    whole = np.mean([values.mean((0, 1)) for values in on_finest], axis=0)
    found["all"] = _pointed(whole, truth, grid)
    for rows, values in zip(layers, on_finest, strict=True):
        found[f"layer {_short(str(rows['layer'].values))}"] = _pointed(values.mean((0, 1)), truth, grid)
    for head in range(on_finest[0].shape[1]):
        found[f"head {head}"] = _pointed(np.mean([values[:, head].mean(0) for values in on_finest], 0), truth, grid)
    for group in range(on_finest[0].shape[0]):
        by_group = np.mean([values[group].mean(0) for values in on_finest], axis=0)
        found[f"steps, part {group + 1} of {GROUPS}"] = _pointed(by_group, truth, grid)
    for name in CONTROLS:
        found[f"control: {name}"] = _measures(_control(name, one, inside.shape, seed), truth, grid)
    return found


def regions(explanation: Explanation, one: Pair, *, seed: int) -> dict[str, list[float]]:
    """The values of `REGIONS` of the integrated maps and of uninformative ones, against the garment's true places.

    Args:
        explanation: By shares; the map as published is made from its layers.
        one: What was painted.
        seed: Of the random controls.
    """
    data = explanation.tree["i2am"].to_dataset()
    grids = [node.to_dataset() for node in explanation.tree[PAIRS].children.values()]
    places = {name: grid.sizes["y"] * grid.sizes["x"] for grid in grids for name in grid["layer"].values.tolist()}
    each = np.array([places[name] for name in data["layer"].values.tolist()])
    published = (data["forward_layer"].values / each[:, None, None]).mean(0)
    sides: tuple[tuple[str, NDArray[np.bool_], dict[str, Floats]], ...] = (
        ("image", one.worn, {"forward": data["forward"].values, "forward, as published": published}),
        ("reference", one.reference_mask, {"backward": data["backward"].values}),
    )
    found: dict[str, list[float]] = {}
    for side, truth, maps in sides:
        size = (truth.shape[0], truth.shape[1])
        controls = {f"control: {name}": control_map(name, size, seed, 0) for name in UNINFORMATIVE}
        for name, grid in (maps | controls).items():
            heat, _ = fitted(grid, truth)
            scores = (average_precision(heat, truth), imacs(heat, truth), iou(heat, truth), coverage(heat))
            found[f"{side}: {name}"] = [float(score) for score in scores]
    return found


def _truth(one: Pair, grid: tuple[int, int]) -> Floats:
    """The place of the reference that every cell shows (y, x, 2), as shares; NaN where less than half is worn."""
    rows, columns = SIZE // grid[0], SIZE // grid[1]
    blocks = one.source.reshape(grid[0], rows, grid[1], columns, 2).swapaxes(1, 2).reshape(*grid, -1, 2)
    worn = ~np.isnan(blocks[..., 0])
    total = np.nansum(blocks.astype(np.float64), axis=2)
    count = worn.sum(-1)
    enough = count * 2 >= worn.shape[-1]
    return np.where(enough[..., None], total / np.maximum(count, 1)[..., None] / SIZE, np.nan)


def _on(values: NDArray[np.float32], grid: tuple[int, ...]) -> Floats:
    """Rows (group, head, y, x, token) of a coarser grid, repeated on a finer one."""
    down, right = grid[0] // values.shape[2], grid[1] // values.shape[3]
    return np.asarray(values.repeat(down, 2).repeat(right, 3), np.float64)


def _pointed(rows: Floats, truth: Floats, grid: tuple[int, int]) -> list[float]:
    """Measures of the patch that each cell (y, x, token) looks at most."""
    row, column = np.divmod(rows.argmax(-1), grid[1])
    places = np.stack(((row + 0.5) / grid[0], (column + 0.5) / grid[1]), axis=-1)
    return _measures(places, truth, grid)


def _measures(places: Floats, truth: Floats, grid: tuple[int, int]) -> list[float]:
    inside = ~np.isnan(truth[..., 0])
    scale = np.array(grid)
    own, true = (np.floor(part[inside] * scale) for part in (places, truth))
    beside = np.abs(own - true).max(-1)
    error = np.hypot(*((places[inside] - truth[inside]) * scale).T)
    return [float((beside == 0).mean()), float((beside <= 1).mean()), float(error.mean())]


def _control(name: str, one: Pair, grid: tuple[int, ...], seed: int) -> Floats:
    """Places of the reference (y, x, 2), as shares, that no attention was asked about."""
    y, x = np.meshgrid(*((np.arange(count) + 0.5) / count for count in grid), indexing="ij")
    own = np.stack((y, x), axis=-1)
    if name == "random":
        return np.random.default_rng([seed, 1]).random(own.shape)
    if name == "same place":
        return own
    (top, left, bottom, right), (up, start, down, end) = _box(one.mask), _box(one.reference_mask)
    shares = (own - (top, left)) / (bottom - top, right - left)
    return np.clip(shares * (down - up, end - start) + (up, start), 0, 1 - 1e-9)


def _box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Upper, left, lower, right as shares."""
    left, upper, right, lower = box(mask)
    height, width = mask.shape
    return upper / height, left / width, lower / height, right / width


def _short(layer: str) -> str:
    return layer.partition(".transformer_blocks")[0]
