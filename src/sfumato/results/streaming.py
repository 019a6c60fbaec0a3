"""Arrays that grow step by step while a generation runs: in memory, or in a folder that a killed run leaves readable.

A zarr array that is appended to can be left unreadable by a kill. So every array is laid out whole at the start, one
chunk for each step, and a small file says how many steps are complete; it is replaced by renaming, after the chunks
of the step are on disk.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sfumato.errors import StoreError, Unreadable
from sfumato.reading import read_json

COMMITTED = "committed.json"
ARRAYS = "arrays.zarr"
FORMAT = "sfumato-stream"


@dataclass(frozen=True)
class Array:
    """An array of one value per step.

    Attributes:
        dims: Names of the dimensions, the first one the step's.
        shape: Sizes, with the number of steps first.
        dtype: Such as "float32".
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        """Size in memory."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Node:
    """A node to be filled: its arrays, its coordinates (all known before) and its attributes."""

    arrays: Mapping[str, Array]
    coords: Mapping[str, tuple[str, Sequence[Any]]] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)


class Sink(Protocol):
    """Takes values step by step."""

    def write(self, node: str, array: str, step: int, values: NDArray[Any]) -> None:
        """Fill place ``step`` (counted from 0 in the node's own steps) of an array."""
        ...

    def commit(self, node: str, steps: int) -> None:
        """Say that the first ``steps`` places of a node are filled."""
        ...

    def tree(self) -> dict[str, xr.Dataset]:
        """What was committed, by node."""
        ...


class Memory:
    """A sink in memory."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = dict(nodes)
        self._held = {
            (path, name): np.zeros(array.shape, array.dtype)
            for path, node in nodes.items()
            for name, array in node.arrays.items()
        }
        self._done = dict.fromkeys(nodes, 0)

    def write(self, node: str, array: str, step: int, values: NDArray[Any]) -> None:
        """See `Sink.write`."""
        self._held[node, array][step] = values

    def commit(self, node: str, steps: int) -> None:
        """See `Sink.commit`."""
        self._done[node] = steps

    def tree(self) -> dict[str, xr.Dataset]:
        """See `Sink.tree`."""
        return {
            path: _dataset(node, {name: self._held[path, name] for name in node.arrays}, self._done[path])
            for path, node in self._nodes.items()
        }


class Folder:
    """A sink in a folder of its own, such as ``out/face.partial``.

    Args:
        place: A new or empty folder, or one that an earlier stream left (which is replaced).
        nodes: What will be written.
        about: Request and provenance, so that what is left of a killed run says where it came from.

    Raises:
        StoreError: The place holds something else, or cannot be written.
    """

    def __init__(self, place: Path, nodes: Mapping[str, Node], about: Mapping[str, Any]) -> None:
        import zarr

        self.place = place
        self._nodes = dict(nodes)
        self._done = dict.fromkeys(nodes, 0)
        self._about = dict(about)
        self._arrays: dict[tuple[str, str], Any] = {}
        new, old = (place.with_name(f".{place.name}.{kind}") for kind in ("new", "old"))
        try:
            if place.exists() and any(place.iterdir()) and not is_stream(place):
                raise StoreError(f"{place} is not empty and no stream of Sfumato; name another folder")
            for leftover in (new, old):
                shutil.rmtree(leftover, ignore_errors=True)
            new.mkdir(parents=True)
            root = zarr.open_group(str(new / ARRAYS), mode="w", zarr_format=3)
            for path, node in nodes.items():
                for name, array in node.arrays.items():
                    root.create_array(
                        f"{path}/{name}",
                        shape=array.shape,
                        dtype=array.dtype,
                        chunks=(1, *array.shape[1:]),
                        config={"write_empty_chunks": True},  # so that a chunk that is missing is known to be lost
                    )
            self._put(new)
            if place.exists():
                place.rename(old)
            new.rename(place)
            shutil.rmtree(old, ignore_errors=True)
            root = zarr.open_group(str(place / ARRAYS), mode="r+", zarr_format=3)
            for path, node in nodes.items():
                for name in node.arrays:
                    held: Any = root[f"{path}/{name}"]
                    self._arrays[path, name] = held.with_config({"write_empty_chunks": True})
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(f"cannot write {place}: {error.strerror or error}") from error

    def write(self, node: str, array: str, step: int, values: NDArray[Any]) -> None:
        """See `Sink.write`."""
        self._arrays[node, array][step] = values

    def commit(self, node: str, steps: int) -> None:
        """See `Sink.commit`; durable when this returns."""
        before, self._done[node] = self._done[node], steps
        for name in self._nodes[node].arrays:
            chunks = self.place / ARRAYS / node / name / "c"
            for chunk in [chunks / str(number) for number in range(before, steps)]:
                for file in [chunk, *chunk.rglob("*")] if chunk.exists() else ():
                    _sync(file)
            _sync(chunks)
        self._put(self.place)

    def tree(self) -> dict[str, xr.Dataset]:
        """See `Sink.tree`; arrays are read when this is called."""
        return {
            path: _dataset(node, {name: self._arrays[path, name][:] for name in node.arrays}, self._done[path])
            for path, node in self._nodes.items()
        }

    def remove(self) -> None:
        """Remove the folder: what it held is stored elsewhere."""
        shutil.rmtree(self.place, ignore_errors=True)

    def _put(self, place: Path) -> None:
        nodes = {
            path: {
                "committed": self._done[path],
                "dims": {name: array.dims for name, array in node.arrays.items()},
                "coords": {name: [dim, list(values)] for name, (dim, values) in node.coords.items()},
                "attrs": dict(node.attrs),
            }
            for path, node in self._nodes.items()
        }
        text = json.dumps({"format": FORMAT, "version": 1, "nodes": nodes} | self._about, default=_plain)
        partial = place / (COMMITTED + ".part")
        partial.write_text(text, encoding="utf-8")
        _sync(partial)
        partial.replace(place / COMMITTED)
        _sync(place)


def is_stream(place: Path) -> bool:
    """Whether a folder is what `Folder` writes."""
    try:
        return bool(read_json(place / COMMITTED)["format"] == FORMAT)
    except (Unreadable, KeyError, TypeError):
        return False


def read(place: Path) -> tuple[dict[str, xr.Dataset], dict[str, Any]]:
    """What a stream holds: the committed steps of every node, and what it says about itself.

    Raises:
        StoreError: It cannot be read.
    """
    import zarr

    try:
        said = read_json(place / COMMITTED)
        root = zarr.open_group(str(place / ARRAYS), mode="r", zarr_format=3)
        found: dict[str, xr.Dataset] = {}
        for path, node in said["nodes"].items():
            if count := int(node["committed"]):
                for name in node["dims"]:
                    if missing := [
                        n for n in range(count) if not (place / ARRAYS / path / name / "c" / str(n)).exists()
                    ]:
                        raise StoreError(f"{place} is damaged: {path}/{name} lacks step {missing[0]}; make it again")
                coords = {name: (dim, values) for name, (dim, values) in node["coords"].items()}
                arrays = {name: Array(tuple(dims), (), "") for name, dims in node["dims"].items()}
                held = {name: np.asarray(root[f"{path}/{name}"][: node["committed"]]) for name in arrays}  # type: ignore[index]
                found[path] = _dataset(Node(arrays, coords, node["attrs"]), held, node["committed"])
    except StoreError:
        raise
    except Exception as error:  # whatever zarr or a codec make of bad bytes
        raise StoreError(f"{place} cannot be read: {error}; make it again") from error
    return found, {name: value for name, value in said.items() if name not in {"format", "version", "nodes"}}


def _dataset(node: Node, held: Mapping[str, NDArray[Any]], steps: int) -> xr.Dataset:
    """The committed steps; coordinates along the arrays' first dimension are cut to them."""
    along = {array.dims[0] for array in node.arrays.values()}
    coords = {
        name: (dim, list(values)[:steps] if dim in along else list(values))
        for name, (dim, values) in node.coords.items()
    }
    data = {name: (array.dims, held[name][:steps]) for name, array in node.arrays.items()}
    return xr.Dataset(data, coords=coords, attrs=dict(node.attrs))


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)


def _sync(path: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
