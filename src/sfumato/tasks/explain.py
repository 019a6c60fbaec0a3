"""Explain every image of many prompts with one or more methods: a row and a map for each word of each image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import ModelError
from sfumato.explain import explain
from sfumato.metrics.running import RunningMean
from sfumato.models.model import Model
from sfumato.options import parse_each
from sfumato.plots.contact import contact_sheet
from sfumato.progress import Progress
from sfumato.registry import Method, find, usual_method
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.results.importance import importances
from sfumato.results.meaning import GRID, Declared, declared
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, CompletedItem, Cost, Item, ModelFacts, Record, Records, task
from sfumato.studio.scenes import held_out_captions

LEVELS = 255
"""Of a map that is kept small: value = offset + scale * level."""
OF_STORAGE = (".offset", ".scale")
"""Ends of the names of numbers that say how a map is stored; the table of means leaves them out."""
SHOWN = 12
"""Images on the figure."""
OF_WORDS = frozenset({"word", "occurrence", "index", "pos", "seen"})


@dataclass(frozen=True)
class MethodOptions:
    """Which methods, for tasks that take any."""

    method: tuple[str, ...] = field(
        default=(),
        metadata={"help": "Which method; may be repeated. By default daam, or profile or i2am without words."},
    )
    option: tuple[str, ...] = field(
        default=(),
        metadata={"help": "NAME=VALUE: an option of the methods (METHOD.NAME=VALUE: of one); may be repeated."},
    )


@dataclass(frozen=True)
class ExplainOptions(MethodOptions):
    """Options of the task."""

    keep: Literal["small", "full"] = field(
        default="small", metadata={"help": "Maps in 8 bits with a scale of their own, or in full in float32."}
    )
    pictures: bool = field(default=True, metadata={"help": "Keep the images as files."})


def costs_of(
    model: Model, request: CompletedRequest, methods: Iterable[tuple[Method, Mapping[str, Any]]], each: str
) -> list[str]:
    """What methods cost, a line for each, and how often.

    Args:
        model: The model.
        request: Of one of them.
        methods: Each with the options that it is given.
        each: What all of it is for, such as "each of 30 images".
    """
    lines = [f"{one.name}: {one.cost(model, request, one.configure(given))}" for one, given in methods]
    return [*lines, f"all of it for {each}, less where it was measured before"]


def costs_of_methods(model: Model, request: CompletedRequest, items: int, options: MethodOptions) -> list[str]:
    """What the methods of `MethodOptions` cost, or the usual one of the request."""
    methods = [find(name) for name in dict.fromkeys(options.method or (usual_method(request),))]
    given = zip(methods, parse_each(methods, options.option), strict=True)
    return costs_of(model, request, given, f"each of {items:,} images")


@task(
    "explain",
    question="Where in each image did each word act, how important was it, and what else do the methods find?",
    options=ExplainOptions,
    cost=Cost("an explanation by each method for each image (daam: one generation)", costs_of_methods),
    prompts=Captions(held_out_captions),
    version=2,
)
class ExplainPrompts:
    """Explanations of many prompts."""

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: ExplainOptions) -> Iterator[Item]:
        """An item for each image of each row."""
        check_methods(options, facts)
        return of_each_image(rows)

    def measure(
        self, model: Model, items: Sequence[CompletedItem], options: ExplainOptions, progress: Progress
    ) -> Sequence[Record]:
        """Explain a batch with every method."""
        return [_record(one, options) for one in explanations_of(model, items, options, progress)]

    def conclude(self, records: Records, options: ExplainOptions, about: Mapping[str, Any]) -> Finding:
        """The number of words and the mean of every number over all of them."""
        means: dict[str, RunningMean] = {}
        pictures: list[tuple[str, NDArray[np.uint8]]] = []
        words = 0
        for item, record in records:
            words += sum(row.get("word") is not None for row in record.rows)
            for row in record.rows:
                for name, value in row.items():
                    if _is_measured(name, value):
                        means.setdefault(name, RunningMean()).add(value)
            if record.picture is not None and len(pictures) < SHOWN:
                pictures.append((item.request.subject, record.picture))
        rows = [{"number": name, "mean": one.mean, "sd": one.deviation, "n": one.count} for name, one in means.items()]
        lost = about["failed"] + about["invalid"]
        sentence = f"{len(records):,} images explained, {words:,} words; {lost:,} rows without a result."
        return Finding("explain", "", None, sentence, rows, contact_sheet(pictures), about)


def _is_measured(name: str, value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and "." in name and not name.endswith(OF_STORAGE)


def of_each_image(rows: Iterable[Row]) -> Iterator[Item]:
    """An item for each image that rows ask for, each with a seed of its own."""
    for row in rows:
        if row.request is not None:
            for number in range(row.request.images):
                yield Item(row.request.of_image(number), {}, row)


def explanations_of(
    model: Model, items: Sequence[Item], options: MethodOptions, progress: Progress
) -> list[tuple[Explanation, ...]]:
    """The explanations of each item of a batch by all methods; without any, by the usual one of its request."""
    requests = [one.request for one in items]
    if not options.method and len({usual_method(one) for one in requests}) > 1:
        return [found for one in items for found in explanations_of(model, [one], options, progress)]
    methods = [find(name) for name in dict.fromkeys(options.method or (usual_method(requests[0]),))]
    found = [
        explain(model, requests, one.name, batch=len(requests), progress=progress, **given)
        for one, given in zip(methods, parse_each(methods, options.option), strict=True)
    ]
    return list(zip(*found, strict=True))


def check_method(method: Method, facts: ModelFacts) -> None:
    """Refuse a method that needs what the model does not have.

    Raises:
        ModelError: The message names what is missing.
    """
    if missing := method.missing(facts):
        raise ModelError(
            f"{method.name} needs {', '.join(missing)}, which {facts.name} ({facts.family}) does not have; "
            "see: sfumato methods"
        )


def check_methods(options: MethodOptions, facts: ModelFacts) -> None:
    """Refuse methods and options that cannot be used before any image is made.

    Raises:
        ModelError: A method needs what the model does not have.
        OptionError: An option cannot be used.
    """
    methods = [find(name) for name in dict.fromkeys(options.method)]
    for one in methods:
        check_method(one, facts)
    for one, given in zip(methods, parse_each(methods, options.option) if methods else (), strict=True):
        one.configure(given)


def _record(explanations: Sequence[Explanation], options: ExplainOptions) -> Record:
    """The rows of an image's words with the numbers of all methods, and the maps of these words."""
    explanations = [one.select(0) for one in explanations]
    first = explanations[0]
    words = next((one.words for one in explanations if "words" in one.tree.children), None)
    rows: list[dict[str, Any]] = [{}]
    if words is not None:
        order = np.argsort(words["index"].values)
        texts = {name: words[name].values[order].tolist() for name in ("word", "occurrence", "index", "pos", "seen")}
        rows = [dict(zip(texts, row, strict=True)) for row in zip(*texts.values(), strict=True)]
    maps: dict[str, NDArray[Any]] = {}
    for one in explanations:
        name = str(one.provenance["method"])
        players = {found.path: found.player for found in importances(one.tree).values()}
        for path, numbers in one.summary()["numbers"].items():
            short = "" if [path] == list(players) else _short(path, name)
            for number, value in numbers.items():
                _put(rows, f"{name}.{short}{number}", value, players.get(path, "player"))
        for found in (each for each in declared(one.tree, "map") if each.array.size):
            _add_map(rows, maps, name, found, options.keep)
    notes = list(dict.fromkeys(note for one in explanations for note in one.notes))
    picture = np.asarray(first.image.convert("RGB")) if options.pictures else None
    return Record({"notes": notes}, {}, rows, maps, picture)


def _short(path: str, method: str) -> str:
    """The path of a node in the name of a column, without what all columns of the method share."""
    return "".join(f"{part}/" for part in _own_parts(path, method))


def _own_parts(path: str, method: str) -> list[str]:
    return [part for part in path.split("/") if part not in (method, "words")]


def _put(rows: list[dict[str, Any]], column: str, value: Any, player: str) -> None:
    """Put a number into the rows that it belongs to: those of its words, or all of them where it has no labels.

    ``player`` is the label that names words as players.
    """
    if not isinstance(value, list):
        if isinstance(value, int | float):
            for row in rows:
                row[column] = value
        return
    if not value or not isinstance(value[0], Mapping):
        return
    labels = set(value[0]) - {"value"}
    if labels and labels <= OF_WORDS and "index" in labels:
        for one in value:
            if one["index"] < len(rows) and one.get("word") == rows[one["index"]].get("word"):  # not of another text
                rows[one["index"]][column] = one["value"]
    elif player in labels and labels <= {player, "first_word"}:
        known: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            known.setdefault(str(row.get("word", "")).casefold(), []).append(place)
        for one in value:
            places = known.get(str(one[player]).casefold(), [])
            if places:
                rows[places.pop(0)][column] = one["value"]


def _add_map(rows: list[dict[str, Any]], maps: dict[str, NDArray[Any]], method: str, one: Declared, keep: str) -> None:
    """The maps of a method: one for each row (row, ..., y, x) where they are of its words, else one for all rows."""
    heat = one.array.astype(np.float32)
    if "index" in heat.coords and heat["index"].dims == ("word",):
        heat = heat.sortby("index")
    of_rows = all(
        name in heat.coords and heat[name].values.tolist() == [row.get(name) for row in rows]
        for name in ("word", "index")
    )
    values = heat.transpose("word", ..., *GRID).values if of_rows else heat.transpose(..., *GRID).values[None]
    name = ".".join((method, *_own_parts(one.title, method)))
    if name in maps:
        name = ".".join((method, *one.path.split("/"), one.name))
    if keep == "full" or values.ndim > 3:  # one scale would not do for maps of several steps or labels
        maps[name] = values
        return
    levels = np.zeros(values.shape, np.uint8)
    for place, of_row in enumerate(values):
        low, high = (float(of_row.min()), float(of_row.max())) if np.isfinite(of_row).all() else (None, None)
        for row in rows[place : place + 1] if of_rows else rows:
            row[f"{name}.offset"] = low
            row[f"{name}.scale"] = None if low is None or high is None else (high - low) / LEVELS
        if low is not None and high is not None and high > low:
            levels[place] = np.rint((of_row - low) / (high - low) * LEVELS)
    maps[name] = levels
