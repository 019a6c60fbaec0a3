"""Shards: the records of consecutive items in one file, written once and read one item at a time.

A shard is an uncompressed ``.npz`` archive that NumPy opens without pickle: ``index`` holds the JSON of every item (its
key, how it ended, its values and rows), ``NUMBER/arrays/NAME`` and ``NUMBER/maps/NAME`` the arrays of item NUMBER, and
``NUMBER/picture`` the bytes of its PNG. Equal records give equal bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.errors import StoreError
from sfumato.runs.own import SHARDS
from sfumato.runs.task import Record
from sfumato.writing.files import replacing_file

State = Literal["ok", "failed"]
INDEX = "index"
_ARRAYS, _MAPS, _PICTURE = "arrays", "maps", "picture"


class DamagedShard(StoreError):
    """A shard is missing, or is not as it was written."""


@dataclass(frozen=True)
class Outcome:
    """How one item ended.

    Attributes:
        number: Of the item in the plan.
        key: Of the item.
        state: "ok" or "failed".
        reason: Why it failed, in one line.
        record: What was measured; nothing of a failed item.
    """

    number: int
    key: str
    state: State
    reason: str = ""
    record: Record = field(default_factory=Record)


def shard_name(number: int, attempt: int = 0) -> str:
    """The file of a shard below the folder of its run; later attempts hold the items that had failed before."""
    return f"{SHARDS}/{number:05d}{f'-{attempt}' if attempt else ''}.npz"


def shard_number(file: str) -> int:
    """The number of a shard by its file."""
    return int(Path(file).stem.partition("-")[0])


def write_shard(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write a shard whole, synced to the disk, in one rename.

    Raises:
        StoreError: It cannot be written.
    """
    index: list[dict[str, Any]] = []
    arrays: dict[str, NDArray[Any]] = {}
    for one in outcomes:
        record = one.record
        about = {"number": one.number, "key": one.key, "state": one.state, "reason": one.reason}
        index.append(about | {"values": record.values, "rows": list(record.rows)})
        for kind, named in ((_ARRAYS, record.arrays), (_MAPS, record.maps)):
            arrays |= {f"{one.number}/{kind}/{name}": value for name, value in named.items()}
        if record.picture is not None:
            arrays[f"{one.number}/{_PICTURE}"] = _png(record.picture)
    text = json.dumps(index, separators=(",", ":"), allow_nan=False)
    with replacing_file(path) as opened:
        np.savez(opened, **{INDEX: np.frombuffer(text.encode(), np.uint8)}, **arrays)  # type: ignore[arg-type]


def read_shard(path: Path, sha256: str | None = None) -> list[Outcome]:
    """All outcomes of a shard.

    Args:
        path: The file.
        sha256: The digest that it must have.

    Raises:
        DamagedShard: It is missing or damaged.
    """
    try:
        content = path.read_bytes()
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("it is not as it was written")
        with np.load(io.BytesIO(content), allow_pickle=False) as found:
            index = json.loads(found[INDEX].tobytes())
            arrays: dict[int, dict[str, NDArray[Any]]] = {}
            for name in found.files:
                number, slash, own = name.partition("/")
                if slash:
                    arrays.setdefault(int(number), {})[own] = found[name]
        return [_outcome(entry, arrays.get(entry["number"], {})) for entry in index]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DamagedShard(f"the shard {path.name} cannot be read: {reason}") from error


def records_of(path: Path, sha256: str | None, wanted: Mapping[int, str]) -> Iterator[tuple[int, Record]]:
    """The records of a shard that are wanted, by the numbers of their items.

    Args:
        path: The file.
        sha256: The digest that it must have.
        wanted: The keys of the items by their numbers.

    Raises:
        DamagedShard: The file cannot be read, or does not hold one of the items.
    """
    found = {(one.number, one.key): one.record for one in read_shard(path, sha256) if one.state == "ok"}
    for one in wanted.items():
        if one not in found:
            raise DamagedShard(f"the shard {path.name} does not hold item {one[0]}")
        yield one[0], found[one]


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _outcome(entry: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Outcome:
    named: dict[str, dict[str, NDArray[Any]]] = {_ARRAYS: {}, _MAPS: {}}
    picture = None
    for path, value in arrays.items():
        kind, _, name = path.partition("/")
        if kind == _PICTURE:
            picture = np.asarray(Image.open(io.BytesIO(value.tobytes())))
        else:
            named[kind][name] = value
    record = Record(entry["values"], named[_ARRAYS], entry["rows"], named[_MAPS], picture)
    state: State = "ok" if entry["state"] == "ok" else "failed"
    return Outcome(int(entry["number"]), str(entry["key"]), state, str(entry["reason"]), record)


def _png(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return np.frombuffer(buffer.getvalue(), np.uint8)
