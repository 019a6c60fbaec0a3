"""What an explanation's tree must look like: the names, dimensions and types of its nodes, checked.

Three nodes are known: ``image``, ``words`` and ``tokens``. A method may add nodes of any name; of those only named
dimensions and storable types are asked, and that arrays which say what they mean (``results.meaning``) have the
dimensions for it. Only ``image`` must be there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np
import xarray as xr

from sfumato.errors import SfumatoError
from sfumato.results.meaning import BESIDE, GRID, IMAGE, Declared, Meaning, declared

VERSION = 1
TEXT = np.dtypes.StringDType()

Dims = tuple[str, ...]


class SchemaError(SfumatoError, ValueError):
    """A tree is not an explanation: a node, a dimension, a type or a value is not what readers rely on."""


@dataclass(frozen=True)
class Field:
    """One array of a node: the dimensions it may have, its kind of values, and what it means where it does not say."""

    kind: str  # uint8, float32, float, int, bool or text
    dims: tuple[Dims, ...]
    meaning: Meaning | None = None


@dataclass(frozen=True)
class NodeSchema:
    """What a known node holds at least; it may hold more."""

    arrays: Mapping[str, Field]
    coords: Mapping[str, Field] = field(default_factory=dict)
    attrs: tuple[str, ...] = ()


def _grid(*labels: str) -> tuple[Dims, ...]:
    return ((*labels, "y", "x"), ("image", *labels, "y", "x"))


_CELLS = {"y": Field("float", (("y",),)), "x": Field("float", (("x",),))}

NODES: Mapping[str, NodeSchema] = {
    "image": NodeSchema(
        arrays={"pixels": Field("uint8", (("image", "y", "x", "channel"),))},
        coords={
            "image": Field("int", (("image",),)),
            "seed": Field("int", (("image",),)),
            "channel": Field("text", (("channel",),)),
        },
    ),
    "words": NodeSchema(
        arrays={"map": Field("float32", _grid("word"), Meaning("map"))},
        coords={
            "word": Field("text", (("word",),)),
            "occurrence": Field("int", (("word",),)),
            "index": Field("int", (("word",),)),
            "pos": Field("text", (("word",),)),
            "seen": Field("bool", (("word",),)),
            **_CELLS,
        },
        attrs=("method", "unit"),
    ),
    "tokens": NodeSchema(
        arrays={"map": Field("float32", _grid("token"))},
        coords={
            "token": Field("text", (("token",),)),
            "index": Field("int", (("token",),)),
            "word_index": Field("int", (("token",),)),
            **_CELLS,
        },
    ),
}


def normalise(tree: xr.DataTree) -> xr.DataTree:
    """A copy of the tree in the form that is stored: text as variable-length strings, attributes as plain JSON values.

    Halves of surrogate pairs, which no file format can hold, become U+FFFD.
    """
    datasets: dict[str, xr.Dataset] = {}
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False)
        texts = {name: _as_text(v) for name, v in dataset.variables.items() if _kind(v.dtype) == "text"}
        coords = {name: v for name, v in texts.items() if name in dataset.coords}
        arrays = {name: v for name, v in texts.items() if name not in dataset.coords}
        dataset = dataset.assign_coords(coords).assign(arrays)
        dataset.attrs = _plain_attrs(dataset.attrs, f"attributes of node {node.path!r}")
        for name, variable in dataset.variables.items():
            variable.attrs = _plain_attrs(variable.attrs, f"attributes of {node.path}/{name}")
        known = NODES.get(node.name or "") if node.level == 1 else None
        for name, wanted in known.arrays.items() if known else ():
            if wanted.meaning is not None and name in dataset:
                dataset[name].attrs = wanted.meaning.attrs | dataset[name].attrs
        datasets[node.path] = dataset
    return xr.DataTree.from_dict(datasets)


def validate(tree: xr.DataTree, *, values: bool = False) -> None:
    """Check that a tree is an explanation.

    Args:
        tree: As ``normalise`` returns it.
        values: Also read the maps: finite where a word was seen, NaN where it was not.

    Raises:
        SchemaError: The first thing that is wrong, with what was expected.
    """
    if "image" not in tree.children:
        present = ", ".join(tree.children) or "none"
        raise SchemaError(f"an explanation needs the node 'image' with the generated pixels; its nodes are: {present}")
    for node in tree.subtree:
        _check_dims(node)
        if node.level == 1 and node.name and node.name in NODES:
            _check_known(node, NODES[node.name])
    _check_meanings(tree)
    _check_image(tree["image"].to_dataset())
    images = tree["image"].sizes["image"]
    for name in ("words", "tokens"):
        if name in tree.children:
            _check_maps(tree[name].to_dataset(), name, images)
    if "words" in tree.children:
        _check_words(tree["words"].to_dataset())
        if values:
            _check_values(tree["words"].to_dataset())


def plain(value: object, what: str = "value") -> Any:
    """The same value in the types that JSON has: numbers that are not finite become None, paths and dtypes text.

    Raises:
        SchemaError: The value holds something that JSON cannot say.
    """
    match value:
        case None | bool() | str():
            return value
        case np.generic() | np.ndarray():
            return plain(value.tolist(), what)
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else None
        case Mapping():
            return {str(key): plain(item, f"{what}[{key!r}]") for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
            return [plain(item, f"{what}[{i}]") for i, item in enumerate(items)]
        case PurePath() | np.dtype():
            return str(value)
        case _:
            raise SchemaError(
                f"{what} is of type {type(value).__name__}, which JSON cannot hold; give text, numbers or lists"
            )


def _plain_attrs(attrs: Mapping[Any, Any], what: str) -> dict[Any, Any]:
    given: dict[Any, Any] = plain(attrs, what)
    return given


def _as_text(variable: xr.Variable) -> xr.Variable:
    texts = np.asarray(variable.values, dtype=object)
    clean = [re.sub("[\ud800-\udfff]", "\ufffd", str(text)) for text in texts.ravel().tolist()]
    return xr.Variable(variable.dims, np.array(clean, dtype=TEXT).reshape(texts.shape), variable.attrs)


def _kind(dtype: np.dtype[Any]) -> str:
    if dtype.kind in "UTO":
        return "text"
    if dtype in (np.uint8, np.float32):
        return str(dtype)
    return {"i": "int", "u": "int", "f": "float", "b": "bool", "M": "time", "m": "time"}.get(dtype.kind, "other")


def _fits(kind: str, wanted: str) -> bool:
    wider = {"int": {"int", "uint8"}, "float": {"float", "float32"}}
    return kind in wider.get(wanted, {wanted})


def _check_dims(node: xr.DataTree) -> None:
    for name, variable in node.to_dataset(inherit=False).variables.items():
        where = f"{node.path}/{name}"
        if unnamed := [str(dim) for dim in variable.dims if re.fullmatch(r"dim_\d+", str(dim))]:
            raise SchemaError(
                f"{where} has the unnamed dimension {unnamed[0]!r}; name every dimension by what it counts"
            )
        if _kind(variable.dtype) == "other":
            raise SchemaError(f"{where} has values of type {variable.dtype}; use numbers, booleans, text or times")


def _check_meanings(tree: xr.DataTree) -> None:
    for one in declared(tree, "map"):
        if missing := [dim for dim in GRID if dim not in one.array.dims]:
            raise _unfit(one, f"a map is over (y, x), which lacks {missing[0]!r}")
    for one in declared(tree, "curve"):
        if not set(one.array.dims) - {IMAGE}:
            raise _unfit(one, "a curve is over steps, or another dimension")
    worths = declared(tree, "importance")
    for one in worths:
        if len(set(one.array.dims) - {IMAGE}) != 1:
            raise _unfit(one, "an importance is over one dimension, such as (player)")
        if sum(other.path == one.path for other in worths) > 1:
            raise _unfit(one, "a node has one importance; put each into a node of its own")
        for role in BESIDE:
            array = one.beside(role)
            if array is not None and set(array.dims) != set(one.array.dims):
                raise _unfit(one, f"its {role} has other dimensions, {_shown(array.dims)}")


def _unfit(one: Declared, why: str) -> SchemaError:
    return SchemaError(f"{one.path}/{one.name} over {_shown(one.array.dims)} is no {one.array.attrs['role']}: {why}")


def _check_known(node: xr.DataTree, schema: NodeSchema) -> None:
    dataset = node.to_dataset()
    for what, fields, found in (
        ("array", schema.arrays, dataset.data_vars),
        ("coordinate", schema.coords, dataset.coords),
    ):
        for name, wanted in fields.items():
            if name not in found:
                listed = ", ".join(str(key) for key in found) or "none"
                raise SchemaError(f"node {node.name!r} lacks the {what} {name!r}; it has: {listed}")
            _check_field(f"{node.name}/{name}", found[name].variable, wanted)
    for name in schema.attrs:
        if name not in dataset.attrs:
            raise SchemaError(f"node {node.name!r} lacks the attribute {name!r}")


def _check_field(where: str, variable: xr.Variable, wanted: Field) -> None:
    if variable.dims not in wanted.dims:
        expected = " or ".join(_shown(dims) for dims in wanted.dims)
        raise SchemaError(f"{where} has the dimensions {_shown(variable.dims)}; expected {expected}")
    if not _fits(_kind(variable.dtype), wanted.kind):
        raise SchemaError(f"{where} has values of type {variable.dtype}; expected {wanted.kind}")


def _shown(dims: tuple[Hashable, ...]) -> str:
    return f"({', '.join(map(str, dims))})"


def _check_image(dataset: xr.Dataset) -> None:
    if dataset["channel"].values.tolist() != ["R", "G", "B"]:
        raise SchemaError(f"image/channel is {dataset['channel'].values.tolist()}; expected ['R', 'G', 'B']")
    if 0 in dataset["pixels"].shape:
        raise SchemaError(f"image/pixels has the shape {dataset['pixels'].shape}; no axis may be empty")
    count = dataset.sizes["image"]
    if dataset["image"].values.tolist() != list(range(count)):
        raise SchemaError(f"image/image is {dataset['image'].values.tolist()}; expected 0 to {count - 1}")


def _check_maps(dataset: xr.Dataset, name: str, images: int) -> None:
    dims = dataset["map"].dims
    if images > 1 and "image" not in dims:
        raise SchemaError(
            f"{name}/map lacks the dimension 'image', but there are {images} images; each has its own map"
        )
    if "image" in dims and dataset.sizes["image"] != images:
        raise SchemaError(f"{name}/map is over {dataset.sizes['image']} images, but there are {images}")
    for axis in ("y", "x"):
        cells = dataset[axis].values
        if cells.size == 0 or cells.min() <= 0 or cells.max() >= 1 or (np.diff(cells) <= 0).any():
            raise SchemaError(f"{name}/{axis} must hold cell centres as fractions of the image, rising between 0 and 1")


def _check_words(dataset: xr.Dataset) -> None:
    index = dataset["index"].values.tolist()
    if len(set(index)) != len(index):
        raise SchemaError(f"words/index is {index}; every word needs its own place in the prompt")
    named = list(zip(dataset["word"].values.tolist(), dataset["occurrence"].values.tolist(), strict=True))
    if len(set(named)) != len(named):
        word, occurrence = next(pair for pair in named if named.count(pair) > 1)
        raise SchemaError(
            f"words names occurrence {occurrence} of {word!r} twice; count the occurrences of a word from 1"
        )


def _check_values(dataset: xr.Dataset) -> None:
    seen = dataset["seen"].values
    maps = dataset["map"].transpose("word", ...).values
    broken = ~np.isfinite(maps).reshape(len(seen), -1).all(axis=1)
    if (seen & broken).any():
        word = dataset["word"].values.tolist()[int(np.argmax(seen & broken))]
        raise SchemaError(f"words/map of {word!r} holds NaN or infinite values though the model saw the word")
    if (~seen & ~np.isnan(maps).reshape(len(seen), -1).all(axis=1)).any():
        raise SchemaError(
            "words/map must be NaN for a word that the model did not see: a zero map would claim a finding"
        )
