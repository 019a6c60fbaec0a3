"""A worker: it holds a model, measures the items of one shard after another, and writes each shard as one file.

All executors run this same code, so their records are equal bit for bit where batch and device are.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sfumato.bounds import shown_path
from sfumato.errors import RunError, SfumatoError, StoreError
from sfumato.inputs.image import Picture
from sfumato.models.bars import other_bars_hidden
from sfumato.models.identity import identity_digest
from sfumato.progress import Progress, silent
from sfumato.request import Request, with_pictures
from sfumato.runs.manifest import Planned
from sfumato.runs.own import INPUTS
from sfumato.runs.settings import library_versions
from sfumato.runs.shards import Outcome, file_digest, read_shard, shard_name, write_shard
from sfumato.runs.task import CompletedItem, Record, find_task
from sfumato.writing.files import replacing_file
from sfumato.writing.json_text import json_value
from sfumato.writing.reasons import cannot_write

if TYPE_CHECKING:
    from sfumato.models.model import Model

LONGEST_REASON = 500


@dataclass(frozen=True)
class ModelSource:
    """How a worker loads the model of a run; see ``sfumato.load``.

    Attributes:
        name: An embedded model, a folder or a hub id.
        device: Where it runs; the best one there is.
        more: Further arguments by name.
    """

    name: str
    device: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> ModelSource:
        """How the model of a run is loaded, from the settings of the run."""
        return cls(settings["model"], settings["device"], settings["more"])

    def load(self) -> Model:
        """Load it, without the progress bars of other libraries."""
        from sfumato.models import loading

        with other_bars_hidden():
            return loading.load(self.name, device=self.device, **self.more)


@dataclass(frozen=True)
class Job:
    """What all shards of a run share; plain values, so that it can be sent to other processes and machines.

    Attributes:
        folder: Of the run.
        task: Its task.
        options: Of the task, completed.
        batch: Items that are measured together at most.
        identity: Digest of the model that the records are of.
        versions: Of the libraries that the records are of.
        source: How a worker loads the model.
    """

    folder: str
    task: str
    options: Mapping[str, Any]
    batch: int
    identity: str
    versions: Mapping[str, str]
    source: ModelSource


@dataclass(frozen=True)
class Work:
    """The items of one shard that are to be measured.

    Attributes:
        shard: Its number.
        attempt: 0, or how often these items have failed before.
        items: In the order of the plan.
    """

    shard: int
    attempt: int
    items: tuple[Planned, ...]


@dataclass(frozen=True)
class Done:
    """A shard that was measured.

    Attributes:
        work: What was asked for.
        file: Where its records lie, below the folder of the run; "" where there is none.
        sha256: Digest of the file.
        size: Its bytes.
        seconds: What it took.
        outcomes: How each item ended, without its record.
    """

    work: Work
    file: str
    sha256: str
    size: int
    seconds: float
    outcomes: tuple[Outcome, ...]


def lost(work: Work, reason: str) -> Done:
    """A shard whose workers ended without a result: all of its items have failed."""
    return Done(work, "", "", 0, 0.0, tuple(Outcome(one.number, one.key, "failed", reason) for one in work.items))


class Worker:
    """Measures shards.

    Args:
        job: The run.
        model: The model, where it is loaded already.

    Attributes:
        model: The model that it measures with.

    Raises:
        RunError: The model or the libraries are not those of the run.
    """

    def __init__(self, job: Job, model: Model | None = None) -> None:
        self._task = find_task(job.task)
        self._options = self._task.configure(job.options)
        self._folder, self._batch = Path(job.folder), job.batch
        if model is None:
            own = library_versions()
            if other := [name for name in job.versions if own.get(name) != job.versions[name]]:
                differences = ", ".join(f"{one} {own.get(one)} (the run has {job.versions[one]})" for one in other)
                raise RunError(f"a worker has other versions than the run: {differences}; install the same ones")
            model = job.source.load()
            if identity_digest(model) != job.identity:
                raise RunError(
                    f"the model that a worker loaded from {job.source.name} is not that of the run; give every worker "
                    "the same files and the same kind of device"
                )
        self.model = model

    def __call__(self, work: Work, *, batch: int | None = None, progress: Progress = silent) -> Done:
        """Measure the items of a shard and write them; a file that an earlier worker left whole is taken over.

        Args:
            work: The shard.
            batch: Items that are measured together, if not as many as usual.
            progress: Told about the work on every batch.

        Raises:
            StoreError: The shard cannot be written.
        """
        started, file = time.perf_counter(), shard_name(work.shard, work.attempt)
        path = self._folder / file
        outcomes = self._left(path, work)
        if outcomes is None:
            outcomes = []
            size = batch or self._batch
            for start in range(0, len(work.items), size):
                outcomes += self._measured(work.items[start : start + size], progress)
            try:
                write_shard(path, outcomes)
            except OSError as error:
                raise error if isinstance(error, StoreError) else cannot_write(shown_path(path), error) from error
        return Done(
            work,
            file,
            file_digest(path),
            path.stat().st_size,
            time.perf_counter() - started,
            tuple(Outcome(one.number, one.key, one.state, one.reason) for one in outcomes),
        )

    def _left(self, path: Path, work: Work) -> list[Outcome] | None:
        if not path.exists():
            return None
        try:
            found = read_shard(path)
        except StoreError:  # damaged by the system, not by a writer: it is measured again
            return None
        wanted = [(one.number, one.key, "ok") for one in work.items]  # what failed is tried anew
        return found if [(one.number, one.key, one.state) for one in found] == wanted else None

    def _measured(self, items: Sequence[Planned], progress: Progress) -> list[Outcome]:
        """Measure a batch; where that fails, its halves, down to the single items that fail by themselves."""
        try:
            given = [
                CompletedItem(self.model.complete(request_from(self._folder, one.request)), one.about) for one in items
            ]
            records = self._task.parts.measure(self.model, given, self._options, progress)
            if len(records) != len(items):
                raise RunError(f"{self._task.name} measured {len(records)} records of {len(items)} items")
            return [
                Outcome(one.number, one.key, "ok", record=_checked(record))
                for one, record in zip(items, records, strict=True)
            ]
        except Exception as error:  # whatever a request, a model or a library does, it is the item that fails
            _free_memory(error)
            reason = _reason(error)
        if len(items) == 1:
            return [Outcome(items[0].number, items[0].key, "failed", reason)]
        middle = len(items) // 2
        return [*self._measured(items[:middle], progress), *self._measured(items[middle:], progress)]


def request_to(folder: Path, request: Request) -> dict[str, Any]:
    """A request as the plan holds it, with its pictures as files in the folder of the run."""
    values = with_pictures(request.values(), partial(_stored, folder))
    given = {one.name: values[one.name] for one in fields(Request) if values[one.name] != one.default}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


def request_from(folder: Path, plain: Mapping[str, Any]) -> Request:
    """The request that `request_to` wrote."""
    return Request.from_dict(with_pictures(plain, partial(_read, folder)))


def _stored(folder: Path, picture: Picture) -> str:
    name = f"{INPUTS}/{picture.sha256[:2]}/{picture.sha256}.png"
    if not (folder / name).exists():
        with replacing_file(folder / name) as opened:
            picture.image.save(opened, "PNG")
    return name


def _read(folder: Path, name: str) -> Picture:
    found = Picture.of(folder / name)
    if found.sha256 != Path(name).stem:
        raise StoreError(f"the picture {name} of the run is not as it was written; begin the run anew with --restart")
    return found


def _checked(record: Record) -> Record:
    """A record whose arrays NumPy stores without pickle and whose maps fit its rows."""
    arrays = {name: np.ascontiguousarray(one) for name, one in record.arrays.items()}
    maps = {name: np.ascontiguousarray(one) for name, one in record.maps.items()}
    for name, value in {**arrays, **maps}.items():
        if value.dtype.kind not in "fiub":
            raise RunError(f"the array {name} of a record has the type {value.dtype}; expected numbers or booleans")
    for name, value in maps.items():
        if value.shape[:1] not in {(1,), (len(record.rows),)}:
            raise RunError(f"the maps {name} of a record have the shape {value.shape}, for {len(record.rows)} rows")
    if (picture := record.picture) is not None and (
        picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size
    ):
        raise RunError(f"the picture of a record is {picture.shape} of {picture.dtype}; expected (y, x, 3) of uint8")
    kept = json_value({"values": record.values, "rows": list(record.rows)})
    json.dumps(kept)  # what JSON cannot hold is an error of this item
    return Record(kept["values"], arrays, kept["rows"], maps, picture)


def _free_memory(error: Exception) -> None:
    """Let go of what a failed batch holds on a device, so that a smaller one fits."""
    error.__traceback__ = None
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        import gc

        import torch

        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if isinstance(error, SfumatoError) else f"{type(error).__name__}: {text}"
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 3] + "..."


def shards_of(items: Iterable[Planned], size: int) -> Iterator[Work]:
    """Items that wait, in order, by the shards and attempts that they belong to."""
    for shard, group in groupby(items, lambda one: one.number // size):
        attempts: dict[int, list[Planned]] = {}
        for one in group:
            attempts.setdefault(one.attempts, []).append(one)
        for attempt, waiting in attempts.items():
            yield Work(shard, attempt, tuple(waiting))
