"""Does a place of a painted garment look at the patch that it comes from? Pointing against the known correspondence.

For every cell inside the garment, the patch with the most attention is compared with the patch that truly lies there,
for all layers, heads and groups of steps together and each by itself, beside controls that see no attention: a random
patch, the patch at the same place of the picture, and the patch at the same place of the garment's bounding box.

The integrated maps are scored against the garment's true regions, on the image and on the reference, with the same
scores of uninformative maps: random ones, a centred blob, and the whole picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sfumato.errors import ModelError
from sfumato.explain import explain
from sfumato.metrics import CONTROLS as UNINFORMATIVE
from sfumato.metrics import average_precision, bootstrap, box, coverage, imacs, iou
from sfumato.metrics.controls import control_map
from sfumato.metrics.localisation import fitted
from sfumato.models.model import Model
from sfumato.option_values import COUNT, SEED
from sfumato.progress import Progress
from sfumato.registry import find
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.results.pairs import NODE as PAIRS
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Cost, Item, ModelFacts, Record, Records, task
from sfumato.studio.garments import SIZE, Pair, pair
from sfumato.studio.garments_scoring import request_of
from sfumato.tasks.explain import check_method, costs_of
from sfumato.tasks.shared.word_maps import or_nan

GROUPS = 5
KEPT = ("group", "head")
"""Axes of the attention that are kept apart."""
CONTROLS = ("random", "same place", "same place of the box")
MEASURES = ("right patch", "within one patch", "error in patches")
REGIONS = ("average precision", "IMACS", "IoU", "share found")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ReferencePointingOptions:
    """Options of the task."""

    pairs: int = field(default=60, metadata=COUNT | {"help": "How many references and scenes; none was trained on."})
    seed: int = field(default=0, metadata=SEED | {"help": "Of the first pair and its noise; pair i has --seed + i."})


def _costs(model: Model, request: CompletedRequest, items: int, options: ReferencePointingOptions) -> list[str]:
    return costs_of(model, request, [(find("i2am"), {"groups": GROUPS, "keep": KEPT})], f"each of {items:,} pairs")


@task(
    "reference_pointing",
    question="Does a place of a painted garment look at the patch of the reference that it comes from?",
    options=ReferencePointingOptions,
    cost=Cost("an explanation by i2am (one generation) for each pair", _costs),
    needs=("reference",),
    model="studio/insert",
    shard=1,
)
class ReferencePointing:
    """Where painted cells look, by layer, head and part of the steps, and how well integrated maps find the garment."""

    def check(self, model: Model, options: ReferencePointingOptions) -> None:
        """Refuse a model that reads a reference as a whole.

        Raises:
            ModelError: It reads no patches of one.
        """
        if not model.reference_tokens().patches:
            raise ModelError(f"{model.source.name} reads no patches of a reference; take studio/insert")

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: ReferencePointingOptions) -> Iterator[Item]:
        """An item for each pair, which is drawn."""
        check_method(find("i2am"), facts)
        for seed in range(options.seed, options.seed + options.pairs):
            yield Item(request_of(pair(seed), seed), {"pair": seed})

    def measure(
        self, model: Model, items: Sequence[Item], options: ReferencePointingOptions, progress: Progress
    ) -> Sequence[Record]:
        """Paint one pair after the other: a row for everything that points, and for each integrated map."""
        records = []
        for item in items:
            one = pair(item.about["pair"])
            found = explain(model, item.request, "i2am", groups=GROUPS, keep=KEPT, progress=progress)
            seed = item.request.seed
            pointed = patch_hits(found, one, model.reference_tokens().grid, seed=seed)
            rows = [
                {"what": name} | dict(zip(names, values, strict=True))
                for names, measured in ((MEASURES, pointed), (REGIONS, region_scores(found, one, seed=seed)))
                for name, values in measured.items()
            ]
            records.append(Record(rows=rows))
        return records

    def conclude(self, records: Records, options: ReferencePointingOptions, about: Mapping[str, Any]) -> Finding:
        """The mean of every measure over pairs: of everything that points, then of each integrated map and control.

        The intervals rest on every pair, so the measures of all of them stay in memory.
        """
        found: dict[str, dict[str, list[float]]] = {}
        for _, record in records:
            for row in record.rows:
                own = found.setdefault(row["what"], {})
                for measure in (name for name in (*MEASURES, *REGIONS) if name in row):
                    own.setdefault(measure, []).append(or_nan(row[measure]))
        rows: list[dict[str, Any]] = [
            {"what": name} | {measure: bootstrap(values) for measure, values in measures.items()}
            for name, measures in found.items()
        ]
        return Finding("reference_pointing", "", None, _sentence(rows, len(records)), rows, None, about)


def patch_hits(explanation: Explanation, one: Pair, grid: tuple[int, int], *, seed: int) -> dict[str, list[float]]:
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


def region_scores(explanation: Explanation, one: Pair, *, seed: int) -> dict[str, list[float]]:
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
    """Places of the reference (y, x, 2), as shares, independent of attention."""
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


def _sentence(rows: Sequence[Mapping[str, Any]], pairs: int) -> str:
    """The share of cells that look at the right patch, next to the best control."""
    found = {row["what"]: row[MEASURES[0]] for row in rows if MEASURES[0] in row}
    best = max((f"control: {name}" for name in CONTROLS), key=lambda name: float(found[name].mean))
    return (
        f"Of the painted cells of {pairs:,} pairs {found['all'].brief} look at the right patch; "
        f"{found[best].brief} would by the best control ({best.removeprefix('control: ')})."
    )
