"""Many methods scored on the same items with every registered metric of maps, next to uninformative baselines."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sfumato.errors import OptionError
from sfumato.metrics.controls import CONTROLS, control_map
from sfumato.metrics.intervals import bootstrap
from sfumato.metrics.localisation import fitted
from sfumato.metrics.registry import checked_metrics, find_metric
from sfumato.results.interval import Interval
from sfumato.writing.json_text import json_text, json_value


@dataclass(frozen=True)
class Cell:
    """One method's score in one metric."""

    method: str
    metric: str
    mean: float
    low: float
    high: float
    n: int
    control: bool


@dataclass(frozen=True)
class LocalisationTable:
    """Scores of methods and controls on the same items.

    Args:
        rows: Method by method, in the order they were given; controls last.
        items: How many items were scored.
        dropped: How many were left out for all methods: an empty mask, or a map with a NaN from any method.
        settings: What the numbers depend on: level, resamples, seed, and whether items are grouped.
    """

    rows: tuple[Cell, ...]
    items: int
    dropped: int
    settings: Mapping[str, Any]

    @property
    def methods(self) -> list[str]:
        """Methods and controls, in order."""
        return list(dict.fromkeys(row.method for row in self.rows))

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, in order."""
        return list(dict.fromkeys(row.metric for row in self.rows))

    def score(self, method: str, metric: str) -> Interval:
        """One cell, such as ``score("daam", "mIoU@0.4")``."""
        for row in self.rows:
            if (row.method, row.metric) == (method, metric):
                return Interval(row.mean, row.low, row.high, row.n)
        raise OptionError(
            f"there is no score of {method!r} in {metric!r}; methods are {', '.join(self.methods)}, "
            f"metrics are {', '.join(self.metrics)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything in the types that JSON has; a number that is not defined is None."""
        rows = json_value([asdict(row) for row in self.rows])
        return {"items": self.items, "dropped": self.dropped, "settings": dict(self.settings), "rows": rows}

    def to_json(self) -> str:
        """``to_dict`` as text."""
        return json_text(self.to_dict())

    def __str__(self) -> str:
        width = max(len(name) for name in ["method", *self.methods])
        lines = ["  ".join([f"{'method':<{width}}", *(f"{metric:>20}" for metric in self.metrics)])]
        for method in self.methods:
            cells = [f"{self.score(method, metric):.3f}" for metric in self.metrics]
            lines.append("  ".join([f"{method:<{width}}", *(f"{cell:>20}" for cell in cells)]))
        return "\n".join(lines)


def localisation_table(
    maps: Mapping[str, Sequence[ArrayLike]],
    masks: Sequence[ArrayLike],
    *,
    metrics: Sequence[str] = (),
    groups: Sequence[Hashable] | None = None,
    controls: Sequence[str] = tuple(CONTROLS),
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> LocalisationTable:
    """Score methods on the same items with registered metrics of maps.

    Args:
        maps: Per method one map (y, x) for each item, on any grid.
        masks: Per item the true mask (y, x); maps are upscaled to it.
        metrics: Their names, such as "AP"; by default all that compare a map with a mask.
        groups: What each item belongs to, such as its prompt; intervals then come from drawing whole groups.
        controls: Which of ``CONTROLS`` to score beside the methods.
        level: Of the intervals.
        resamples: Of the bootstrap.
        seed: Of the random controls and the bootstrap.

    Returns:
        Rows by method and metric. An item that cannot be judged for one method (an empty mask, a map with a NaN) is
        left out for all, so that the rows of a metric are about the same items.

    Raises:
        OptionError: Methods, masks and groups do not fit each other, or a control is unknown.
        UnknownMetric: There is no such metric.
    """
    _check(maps, masks, controls)
    metrics = checked_metrics(metrics, "map")
    truths = [np.asarray(mask).astype(bool) for mask in masks]
    given = {name: [np.asarray(heat, dtype=np.float64) for heat in heats] for name, heats in maps.items()}
    kept = [
        i
        for i, truth in enumerate(truths)
        if truth.any() and not any(np.isnan(heats[i]).any() for heats in given.values())
    ]
    scores: dict[tuple[str, str], list[float]] = {}
    for name in [*given, *controls]:
        for i in kept:
            heat = given[name][i] if name in given else control_map(name, _size(truths[i]), seed, i)
            for metric, score in localisation_scores(heat, truths[i], metrics).items():
                scores.setdefault((name, metric), []).append(score)
    chosen = None if groups is None else [groups[i] for i in kept]
    rows = []
    for name in [*given, *controls]:
        for metric in metrics:
            values = scores.get((name, metric), [])
            interval = bootstrap(values, groups=chosen, level=level, resamples=resamples, seed=seed)
            rows.append(Cell(name, metric, *interval, control=name not in given))
    settings = {"level": level, "resamples": resamples, "seed": seed, "grouped": groups is not None}
    return LocalisationTable(tuple(rows), len(kept), len(truths) - len(kept), settings)


def localisation_scores(heat: ArrayLike, mask: ArrayLike, metrics: Sequence[str] = ()) -> dict[str, float]:
    """The metrics of one map of one item, by name.

    Args:
        heat: The map (y, x), on any grid.
        mask: The true mask (y, x); the map is upscaled to it.
        metrics: Names of registered metrics; by default all that compare a map with a mask.
    """
    fine, truth = fitted(heat, mask)
    return {name: find_metric(name).function(fine, truth) for name in checked_metrics(metrics, "map")}


def _check(maps: Mapping[str, Sequence[ArrayLike]], masks: Sequence[ArrayLike], controls: Sequence[str]) -> None:
    for name, heats in maps.items():
        if name in controls:
            raise OptionError(f"a method is called {name!r} like a control; give it another name")
        if len(heats) != len(masks):
            raise OptionError(f"{name!r} has {len(heats)} maps for {len(masks)} masks; every method needs one per item")
    if unknown := [name for name in controls if name not in CONTROLS]:
        raise OptionError(f"there is no control {unknown[0]!r}; the controls are: {', '.join(CONTROLS)}")


def _size(truth: NDArray[np.bool_]) -> tuple[int, int]:
    height, width = truth.shape
    return height, width
