"""Arrays that grow step by step while a generation runs: in memory, or in a folder that a killed run leaves readable.

A zarr array that is appended to can be left unreadable by a kill. So every array is laid out whole at the start, one
chunk for each step, and a small file says how many steps are complete; it is replaced by renaming, after the chunks
of the step are on disk.
"""

from __future__ import annotations

import json
import os
import re
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sfumato.errors import StoreError, Unreadable
from sfumato.reading import read_json
from sfumato.writing.files import write_text
from sfumato.writing.folders import remove_folder, replacing_folder, resolved, sync_file, sync_folder
from sfumato.writing.locks import is_of, own, seize
from sfumato.writing.reasons import cannot_write
from sfumato.writing.records import entries, irregular, refuse_foreign
from sfumato.writing.stages import numbered, sweep

COMMITTED = "committed.json"
ARRAYS = "arrays.zarr"
FORMAT = "sfumato-stream"
LOCK = ".lock"
_METADATA = re.compile(r"(zarr(\.json|\.[0-9a-f]{32}\.partial))?")
_CHUNK = re.compile(r"c/([0-9]+/)*([0-9]+(\.[0-9a-f]{32}\.partial)?)?")


@dataclass(frozen=True)
class Array:
    """An array of one value per step.

    Attributes:
        dims: Names of the dimensions, the first one the step's.
        shape: Sizes, with the number of steps first.
        dtype: Such as "float32".
        attrs: Its attributes.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    attrs: Mapping[str, Any] = field(default_factory=dict)

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
        place: A new or empty folder, or one that an earlier stream left (which is replaced). While another run writes
            there, the first name with a number is taken, such as ``out/face-2.partial``.
        nodes: What will be written.
        about: Request and provenance, so that what is left of a killed run says where it came from.

    Attributes:
        place: The folder that was taken.

    Raises:
        StoreError: The place holds something else, or cannot be written.
    """

    def __init__(self, place: str | PathLike[str], nodes: Mapping[str, Node], about: Mapping[str, Any]) -> None:
        import zarr

        self._nodes = dict(nodes)
        self._done = dict.fromkeys(nodes, 0)
        self._about = dict(about)
        self._arrays: dict[tuple[str, str], Any] = {}
        self.place, lock = self._taken(resolved(place), str(place))
        self._free = weakref.finalize(self, os.close, lock)
        root = zarr.open_group(str(self.place / ARRAYS), mode="r+", zarr_format=3)
        for path, node in nodes.items():
            for name in node.arrays:
                held: Any = root[f"{path}/{name}"]
                self._arrays[path, name] = held.with_config({"write_empty_chunks": True})

    def write(self, node: str, array: str, step: int, values: NDArray[Any]) -> None:
        """See `Sink.write`."""
        with self._written():
            self._arrays[node, array][step] = values

    def commit(self, node: str, steps: int) -> None:
        """See `Sink.commit`; durable when this returns."""
        before = self._done[node]
        with self._written():
            for name in self._nodes[node].arrays:
                chunks = self.place / ARRAYS / node / name / "c"
                for chunk in [chunks / str(number) for number in range(before, steps)]:
                    for file in [chunk, *chunk.rglob("*")] if chunk.exists() else ():
                        (sync_folder if file.is_dir() else sync_file)(file)
                sync_folder(chunks)
            self._put(self.place, self._done | {node: steps})
        self._done[node] = steps

    def tree(self) -> dict[str, xr.Dataset]:
        """See `Sink.tree`; arrays are read when this is called."""
        return {
            path: _dataset(node, {name: self._arrays[path, name][:] for name in node.arrays}, self._done[path])
            for path, node in self._nodes.items()
        }

    def remove(self) -> None:
        """Remove the folder: what it held is stored elsewhere. It stays if files of other origin are in it."""
        with suppress(StoreError):
            remove_folder(self.place, _check_known)
        self._free()

    def close(self) -> None:
        """Leave the folder to whoever wants to read or replace it; without a committed step it is removed."""
        if any(self._done.values()):
            self._free()
        else:
            self.remove()

    def _taken(self, wanted: Path, named: str) -> tuple[Path, int]:
        """Make the folder under the first name that no other run writes to; returns it and its lock."""
        number = 1
        while True:
            place = numbered(wanted, number)
            seized: list[int] = []
            try:
                with replacing_folder(place, partial(_check_left, seized), named, keep=False) as stage:
                    self._lay_out(stage)
                    lock = own(stage / LOCK)
                if lock is not None:
                    return place, lock
            except _Running:
                number += 1
            finally:
                for descriptor in seized:
                    os.close(descriptor)

    def _lay_out(self, stage: Path) -> None:
        import zarr

        with one_cause():
            root = zarr.open_group(str(stage / ARRAYS), mode="w", zarr_format=3)
            for path, node in self._nodes.items():
                for name, array in node.arrays.items():
                    root.create_array(
                        f"{path}/{name}",
                        shape=array.shape,
                        dtype=array.dtype,
                        chunks=(1, *array.shape[1:]),
                        config={"write_empty_chunks": True},  # so that a chunk that is missing is known to be lost
                    )
        self._put(stage, self._done)

    def _put(self, place: Path, done: Mapping[str, int]) -> None:
        nodes = {
            path: {
                "committed": done[path],
                "dims": {name: array.dims for name, array in node.arrays.items()},
                "coords": {name: [dim, list(values)] for name, (dim, values) in node.coords.items()},
                "attrs": dict(node.attrs),
                "attrs_of_arrays": {name: dict(array.attrs) for name, array in node.arrays.items()},
            }
            for path, node in self._nodes.items()
        }
        text = json.dumps({"format": FORMAT, "version": 1, "nodes": nodes} | self._about, default=_plain)
        write_text(place / COMMITTED, text)

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Make what goes wrong with the disk one line that says where the steps before are."""
        try:
            with one_cause():
                yield
        except OSError as error:
            reason = error if isinstance(error, StoreError) else cannot_write(str(self.place), error)
            if any(self._done.values()):
                reason = StoreError(f"{reason}; the steps before are kept: sfumato open {self.place}")
            raise reason from error


class _Running(StoreError):
    """Another run writes there."""


@contextmanager
def sink_of(place: str | None, nodes: Mapping[str, Node], about: Mapping[str, Any]) -> Iterator[Memory | Folder]:
    """A sink in memory, or in a folder that goes when the block ends well and stays readable when it does not."""
    if place is None:
        yield Memory(nodes)
        return
    folder = Folder(place, nodes, about)
    try:
        yield folder
        folder.remove()
    finally:
        folder.close()


def _check_left(seized: list[int], place: Path, named: str) -> None:
    """Raise unless a folder is empty, or what a stream left that is over; its lock is held from here on.

    Raises:
        _Running: It belongs to a run that goes on.
        StoreError: It holds something else.
    """
    if (place / LOCK).exists() and not any(is_of(descriptor, place / LOCK) for descriptor in seized):
        descriptor = seize(place / LOCK)
        if descriptor is None:
            raise _Running(f"{named} is being written by another run")
        seized.append(descriptor)
    _check_known(place, named)


def _check_known(place: Path, named: str) -> None:
    """Raise unless a folder is empty, or holds nothing but what `Folder` writes."""
    sweep(place)
    found = entries(place)
    if not found:
        return
    arrays = _arrays_below(place) if is_stream(place) else None
    if arrays is None:
        raise StoreError(f"{named} is not empty and no stream of Sfumato; name another folder")
    groups = {parent.as_posix() for array in arrays for parent in Path(array).parents} | {ARRAYS}
    refuse_foreign(named, [name for name in found if not _is_ours(name, arrays, groups)])


def _arrays_below(place: Path) -> set[str] | None:
    """The folders of a stream's arrays, by their paths; None if it does not say."""
    try:
        nodes = read_json(place / COMMITTED)["nodes"]
        return {f"{ARRAYS}/{path}/{name}" for path, node in nodes.items() for name in node["dims"]}
    except (Unreadable, KeyError, TypeError, AttributeError):
        return None


def _is_ours(name: str, arrays: set[str], groups: set[str]) -> bool:
    """Whether a path below a stream is one that zarr or `Folder` makes there, or had begun to make."""
    folder, _, file = name.rpartition("/")
    if not folder:
        return file in {LOCK, COMMITTED}
    if folder in arrays or folder in groups:
        return _METADATA.fullmatch(file) is not None
    return any(
        name.startswith(f"{array}/") and _CHUNK.fullmatch(name.removeprefix(f"{array}/")) is not None
        for array in arrays
    )


@contextmanager
def one_cause() -> Iterator[None]:
    """Let the first error of a group stand for all: zarr writes chunks at the same time."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from group


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
        if (link := irregular(place)) is not None:
            raise StoreError(f"{place} is damaged: {link} is no regular file; make it again")
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
                attrs = node.get("attrs_of_arrays", {})  # streams of older versions do not have it
                arrays = {name: Array(tuple(dims), (), "", attrs.get(name, {})) for name, dims in node["dims"].items()}
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
    data = {name: (array.dims, held[name][:steps], dict(array.attrs)) for name, array in node.arrays.items()}
    return xr.Dataset(data, coords=coords, attrs=dict(node.attrs))


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)
