"""Every number of an explanation under a stable name: what its nodes hold, and what readers compute from them.

A number is called by the path of its node and the name of its array or attribute, such as
``ablation/normalised_ssim``. Where an array has dimensions, each of its values carries the labels of its position:
``{"layer": "mid.0", "value": 0.93}``. Of an array over positions in an image (a map) the numbers are ``NAME.lowest``,
``NAME.mean`` and ``NAME.highest`` of each map, and of a mask ``NAME.share``, the share of the positions that it marks.
Pictures have no numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from sfumato.results.importance import importances

Numbers = dict[str, dict[str, Any]]
Rows = Sequence[Mapping[str, Any]]

MOST_VALUES = 4096
"""Values of one array that are listed; a larger array has the numbers of a single map."""
MOST_MAPS = 256
"""Maps of one array that are listed; an array of more maps has the numbers of a single map."""
MOST_READ = 2**26
"""Values of an array above which it is not read."""
STATISTICS = ("lowest", "mean", "highest")
SHARE = "share"

_POSITION = re.compile(r"(?:.+_)?[yx]|r[yx]|row|column")
_COLOUR = ("channel", "rgb")


def numbers_of(tree: xr.DataTree, words: Rows, importance: Mapping[str, Rows]) -> Numbers:
    """All numbers by node and name.

    Args:
        tree: Of an explanation by any method.
        words: The rows of the words of all images, as the summary has them.
        importance: The rows of the players of all images by method, as the summary has them.

    Returns:
        By path of the node, and by name: a number, or for an array a list of records with the labels of each value
        and ``value``. The label ``image`` is there only where there are several images.
    """
    found: Numbers = {}
    for node in tree.subtree:
        path = node.path.strip("/")
        if path in {"", "image"}:
            continue
        dataset = node.to_dataset(inherit=False)
        named = {str(name): value for name, value in dataset.attrs.items() if _is_number(value)}
        for name, array in dataset.data_vars.items():
            named |= _of_array(str(name), array)
        if named:
            found[path] = named
    stored = {(path, name) for path, named in found.items() for name in named}
    for name, at, value in _derived(tree, words, importance):
        path, _, last = name.rpartition("/")
        if (path, last) not in stored:
            found.setdefault(path, {}).setdefault(last, []).append(at | {"value": _plain(value)})
    return found


def number_rows(numbers: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each number: its ``name``, where it is ``at`` (the labels) and its ``value``; as CSV a table."""
    rows: list[dict[str, Any]] = []
    for path, named in numbers.items():
        for name, value in named.items():
            entries = value if isinstance(value, list) else [value]
            for place, entry in enumerate(entries):
                labels: dict[str, Any] = {"position": place} if isinstance(value, list) else {}
                one = entry
                if isinstance(entry, Mapping):
                    labels = {label: part for label, part in entry.items() if label != "value"}
                    one = entry["value"]
                rows.append({"name": f"{path}/{name}", "at": labels, "value": one})
    return rows


def relevance_totals(relevance: xr.Dataset) -> list[float]:
    """The relevance of every word, summed over the steps (word,)."""
    totals: list[float] = relevance["score"].sum("step").values.tolist()
    return totals


def _derived(
    tree: xr.DataTree, words: Rows, importance: Mapping[str, Rows]
) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Numbers that readers show and no array holds: name, labels and value."""
    of_image = ("image",) if tree["image"].sizes["image"] > 1 else ()
    for row in words:
        at = {name: row[name] for name in (*of_image, "word", "occurrence", "index")}
        yield "words/coverage", at, row["coverage"]
        yield "words/share", at, row["share"]
        for axis in "xy":
            yield f"words/peak_{axis}", at, None if row["peak"] is None else row["peak"][axis]
    for method, one in importances(tree).items():
        for row in importance[method]:
            at = {name: row[name] for name in of_image} | {one.player: row["player"]}
            yield f"{one.path}/low", at, row["low"]
            yield f"{one.path}/high", at, row["high"]
    if "relevance" in tree.children:
        relevance = tree["relevance"].to_dataset()
        labels = zip(relevance["word"].values.tolist(), relevance["occurrence"].values.tolist(), strict=True)
        for (word, occurrence), total in zip(labels, relevance_totals(relevance), strict=True):
            yield "relevance/total", {"word": word, "occurrence": occurrence}, total
    if "causal" in tree.children:
        for place, value in np.ndenumerate(tree["causal"]["agreement"].values):
            yield "causal/agreement_of_patch", dict(zip(("patch_row", "patch_column"), place, strict=True)), value


def _of_array(name: str, array: xr.DataArray) -> dict[str, Any]:
    dims = [str(dim) for dim in array.dims]
    if array.dtype.kind not in "fiub" or not array.size or _is_picture(array):
        return {}
    over = [dim for dim in dims if _POSITION.fullmatch(dim)]
    kept = [dim for dim in dims if dim not in over]
    count = math.prod(array.sizes[dim] for dim in kept)
    if not over and count <= MOST_VALUES:
        return {name: _records(array, kept, array.values)}
    if array.size > MOST_READ:
        return {}
    if count > MOST_MAPS:
        kept = [dim for dim in kept if dim == "image"]
    values = array.transpose(*kept, ...).values
    values = values.reshape(*(array.sizes[dim] for dim in kept), -1)
    if values.dtype.kind == "b":
        return {f"{name}.{SHARE}": _records(array, kept, values.mean(-1))}
    lowest, mean, highest = _statistics(values)
    return {
        f"{name}.{statistic}": _records(array, kept, one)
        for statistic, one in zip(STATISTICS, (lowest, mean, highest), strict=True)
    }


def _statistics(values: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], ...]:
    """The lowest, the mean and the highest along the last axis, of what is finite; NaN where nothing is."""
    wide = values.astype(np.float64)
    finite = np.isfinite(wide)
    some = finite.any(-1)
    total = np.where(finite, wide, 0).sum(-1)
    mean = np.divide(total, finite.sum(-1), out=np.full(some.shape, np.nan), where=some)
    lowest = np.where(some, np.where(finite, wide, np.inf).min(-1), np.nan)
    highest = np.where(some, np.where(finite, wide, -np.inf).max(-1), np.nan)
    return lowest, mean, highest


def _records(array: xr.DataArray, dims: Sequence[str], values: np.ndarray[Any, Any]) -> Any:
    """One number, or a record with labels for each value (dims)."""
    if not dims:
        return _plain(values)
    labels: list[tuple[str, tuple[int, ...], np.ndarray[Any, Any]]] = [
        (dim, (place,), np.arange(array.sizes[dim])) for place, dim in enumerate(dims) if dim not in array.coords
    ]
    for coordinate, known in array.coords.items():
        own = [str(dim) for dim in known.dims]
        if own and set(own) <= set(dims):
            ordered = sorted(own, key=dims.index)
            labels.append((str(coordinate), tuple(map(dims.index, ordered)), known.transpose(*ordered).values))
    records = []
    for place in np.ndindex(*(array.sizes[dim] for dim in dims)):
        at = {label: _plain(known[tuple(place[axis] for axis in axes)]) for label, axes, known in labels}
        records.append(at | {"value": _plain(values[place])})
    return records


def _is_picture(array: xr.DataArray) -> bool:
    return array.dtype == np.uint8 and array.ndim > 2 and array.dims[-1] in _COLOUR


def _plain(value: Any) -> Any:
    """A value as JSON has it; None for a number that is not finite."""
    one = value.item() if isinstance(value, np.generic | np.ndarray) else value
    return None if isinstance(one, float) and not math.isfinite(one) else one


def _is_number(value: Any) -> bool:
    """A number, or a list of numbers such as a box."""
    if isinstance(value, list):
        return bool(value) and all(_is_number(one) for one in value)
    return isinstance(value, int | float)
