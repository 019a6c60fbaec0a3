"""What a metric is: a number that compares a result with a truth, registered once with unit, direction and source."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from sfumato.errors import OptionError, UnknownMetric
from sfumato.registry import Registry

Compared = Literal["map", "shares"]
"""A map (y, x) with a true mask (y, x), or shares (part,) with true ones."""
Better = Literal["higher", "lower"]
MEASURE = "measure"
"""A column of a table whose cells name metrics, instead of a column for each."""
ARROWS = {"higher": "↑", "lower": "↓"}

F = TypeVar("F", bound=Callable[..., float])


@dataclass(frozen=True)
class Metric:
    """A registered metric.

    Attributes:
        name: What columns of tables are called.
        compares: A "map" with a mask, or "shares" with shares.
        better: Whether "higher" or "lower" values are better.
        bounds: Its lowest and highest value.
        unit: What one is one of, such as "pixels"; "" for a number without unit.
        source: Where it was published.
        summary: What it measures, in one line.
        function: From what was found and the truth to the number; NaN where it is not defined.
    """

    name: str
    compares: Compared
    better: Better
    bounds: tuple[float, float]
    unit: str
    source: str
    summary: str
    function: Callable[[Any, Any], float]

    @property
    def heading(self) -> str:
        """The name as a table shows it, with an arrow towards better values and the unit."""
        unit = f", {self.unit}" if self.unit else ""
        return f"{self.name}{unit} {ARROWS[self.better]}"


_metrics: Registry[Metric] = Registry("metric", "sfumato.metrics", "sfumato.metrics", UnknownMetric)


def metric(
    name: str,
    *,
    compares: Compared,
    better: Better,
    bounds: tuple[float, float],
    source: str,
    summary: str,
    unit: str = "",
) -> Callable[[F], F]:
    """Register a function; see `Metric` for the arguments.

    Raises:
        SfumatoError: The name is taken.
    """

    def register(function: F) -> F:
        _metrics.add(name, Metric(name, compares, better, bounds, unit, source, summary, function))
        return function

    return register


def metrics(compares: Compared | None = None) -> tuple[Metric, ...]:
    """All metrics by name, or those that compare the same things."""
    return tuple(one for one in _metrics.all() if compares in (None, one.compares))


def find_metric(name: str) -> Metric:
    """The metric of a name.

    Raises:
        UnknownMetric: There is none; the message lists all names.
    """
    return _metrics.find(name)


def with_headings(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], list[Mapping[str, Any]]]:
    """A table as people see it: where a metric is named, with its unit and an arrow towards better values.

    What follows a comma only says of which items a metric is, such as "AP, outline of nouns".

    Returns:
        Every column of the rows with its heading, and the rows with what their column of measures names.
    """
    known = {one.name: one.heading for one in metrics()}

    def heading(text: str) -> str:
        name, comma, of = text.partition(", ")
        return known.get(name, name) + comma + of

    columns = dict.fromkeys(column for row in rows for column in row)
    named: list[Mapping[str, Any]] = [
        row | {MEASURE: heading(row[MEASURE])} if isinstance(row.get(MEASURE), str) else row for row in map(dict, rows)
    ]
    return {column: heading(column) for column in columns}, named


def about_metrics(names: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """Direction, bounds, unit, source and summary of the metrics among some names, as JSON has them."""
    given = {name.partition(", ")[0] for name in names if isinstance(name, str)}
    return {
        one.name: {
            "better": one.better,
            "bounds": [bound if math.isfinite(bound) else None for bound in one.bounds],
            "unit": one.unit,
            "source": one.source,
            "summary": one.summary,
        }
        for one in metrics()
        if one.name in given
    }


def checked_metrics(names: Sequence[str], compares: Compared) -> tuple[str, ...]:
    """Names of metrics, or of all that compare the same things where none is given.

    Raises:
        UnknownMetric: There is no such metric.
        OptionError: A metric compares something else, or is named twice.
    """
    known = [one.name for one in metrics(compares)]
    for name in names:
        if name not in known:
            find_metric(name)
            raise OptionError(f"{name} compares no {compares} with a truth; choose from: {', '.join(known)}")
    if len(set(names)) < len(names):
        raise OptionError(f"metrics are {', '.join(names)}; name each once")
    return tuple(names) or tuple(known)
