"""What runs in each process of a Ray cluster that measures shards: a worker, and how its shards get back."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sfumato.errors import SfumatoError, StoreError
from sfumato.runs.own import TOKEN
from sfumato.runs.worker import Done, Job, Work, Worker


@dataclass(frozen=True)
class Ready:
    """A worker has loaded the model.

    Attributes:
        shares_folder: Whether it writes shards where the driver reads them.
    """

    shares_folder: bool


@dataclass(frozen=True)
class Refused:
    """A worker cannot go on, and no other one could.

    Attributes:
        kind: What failed: the worker itself, or writing a shard.
        reason: One line.
    """

    kind: Literal["run", "store"]
    reason: str


@dataclass(frozen=True)
class MeasuredShard:
    """A shard was measured.

    Attributes:
        done: How its items ended.
        content: The bytes of its file, where the worker does not share the folder of the run.
    """

    done: Done
    content: bytes | None = None


class RayWorker:
    """The actor: one process, on one device, which loads the model once.

    Errors that Sfumato raises are returned: what Ray raises in the driver is always the loss of a worker or a fault.
    """

    def begin(self, job: Job, token: str) -> Ready | Refused:
        """Load the model.

        Args:
            job: The run.
            token: Content of the file `TOKEN` in its folder.
        """
        self._job, self._shares_folder = job, _shares(Path(job.folder), token)
        try:
            self._worker = Worker(job)
        except SfumatoError as error:
            return Refused("run", str(error))
        return Ready(self._shares_folder)

    def measure(self, work: Work, batch: int, inputs: Mapping[str, bytes]) -> MeasuredShard | Refused:
        """Measure a shard.

        Args:
            work: Its items.
            batch: Items that are measured together.
            inputs: Content of the pictures that its requests name, where the folder of the run is not shared.
        """
        try:
            if self._shares_folder:
                return MeasuredShard(self._worker(work, batch=batch))
            with tempfile.TemporaryDirectory(prefix="sfumato-run-") as folder:
                for name, content in inputs.items():
                    (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                    (Path(folder) / name).write_bytes(content)
                done = Worker(replace(self._job, folder=folder), self._worker.model)(work, batch=batch)
                return MeasuredShard(done, (Path(folder) / done.file).read_bytes())
        except StoreError as error:
            return Refused("store", str(error))
        except SfumatoError as error:
            return Refused("run", str(error))


def _shares(folder: Path, token: str) -> bool:
    with suppress(OSError):
        return (folder / TOKEN).read_text(encoding="ascii") == token
    return False
