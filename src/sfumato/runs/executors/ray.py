"""Several workers on a cluster of Ray: one actor for each device, which gets shards as it asks for them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from sfumato.bounds import checked_int, checked_number
from sfumato.errors import OptionError, RunError, StoreError
from sfumato.reading import path_of
from sfumato.request import with_pictures
from sfumato.runs.executors.executor import ATTEMPTS, batch_after
from sfumato.runs.executors.ray_cluster import check_installed, connected, one_line
from sfumato.runs.executors.ray_worker import MeasuredShard, RayWorker, Ready, Refused
from sfumato.runs.own import TOKEN
from sfumato.runs.worker import Done, Job, ModelSource, Work, lost
from sfumato.writing.files import replacing_file, write_text

MOST_WORKERS = 10_000
_LOOK = 10.0
"""Seconds after which the nodes are looked at again while no worker reports."""


@dataclass(frozen=True)
class Ray:
    """Measures on a cluster of Ray, or in processes of this machine that Ray starts.

    Attributes:
        workers: How many, at most one for each device; those for which no node has room begin when one has.
        address: HOST:PORT of a cluster that this machine is a node of, or "auto"; without, the cluster that the program
            is connected to, that of RAY_ADDRESS, or one of this machine alone for the time of the run.
        gpus_per_worker: GPUs that a worker is given; by default one where the cluster has any.
        cpus_per_worker: Processors that a worker is counted for; half of one leaves room for Ray's own tasks on small
            machines.

    Example:
        >>> import sfumato
        >>> from sfumato.runs.executors.ray import Ray
        >>> sfumato.run("explain", prompts=100, out="runs/first", executor=Ray(2))  # doctest: +SKIP
    """

    workers: int
    address: str | None = None
    gpus_per_worker: float | None = None
    cpus_per_worker: float = 0.5

    def __post_init__(self) -> None:
        """Check the numbers, and that Ray is there, before a model is loaded."""
        checked_int("workers", self.workers, 1, MOST_WORKERS, OptionError)
        if self.gpus_per_worker is not None:
            checked_number("gpus_per_worker", self.gpus_per_worker, OptionError, least=0)
        checked_number("cpus_per_worker", self.cpus_per_worker, OptionError, above=0)
        check_installed()

    def __call__(self, job: Job, works: Iterator[Work]) -> Iterator[Done]:
        """Give every free worker the next shard, and a lost one's shard to another."""
        first = next(works, None)
        if first is None:  # so a run that is complete needs no cluster
            return
        with connected(self.address, self.workers * self.cpus_per_worker) as (ray, own), _token(job) as token:
            pool = _Pool(ray, self, replace(job, source=_absolute(job.source)), token, own)
            try:
                yield from pool.measured(chain([first], works))
            finally:
                pool.close()


@dataclass
class _Try:
    """A shard that is given to a worker.

    Attributes:
        work: Its items.
        batch: Items that are measured together.
        losses: Workers that were lost with it.
    """

    work: Work
    batch: int
    losses: int = 0


@dataclass
class _Seat:
    """One worker, and those that take its place when it is lost.

    Attributes:
        actor: Of Ray.
        ready: What it reported after it had loaded the model.
        given: The shard that it measures.
        losses: Workers that were lost in a row before they had loaded the model.
    """

    actor: Any
    ready: Ready | None = None
    given: _Try | None = None
    losses: int = 0


class _Pool:
    """The workers of one run; at any time Ray holds at most one result of each."""

    def __init__(self, ray: Any, settings: Ray, job: Job, token: str, own: bool) -> None:
        import torch

        self._ray, self._workers, self._job, self._token = ray, settings.workers, job, token
        gpus = settings.gpus_per_worker
        if gpus is None:
            gpus = float(any(node.get("GPU", 0) >= 1 for node in self._nodes()))
        self._needs = {"CPU": settings.cpus_per_worker, "GPU": gpus}
        # the last bits of a sum depend on the number of threads, which Ray would set to that of the processors
        environment = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
        if own:
            source = str(Path(__file__).parents[3])
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
        self._actor = ray.remote(RayWorker).options(
            num_cpus=self._needs["CPU"],
            num_gpus=self._needs["GPU"],
            max_restarts=0,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": environment},
        )
        self._seats: list[_Seat] = []
        self._pending: dict[Any, _Seat] = {}
        self._again: list[_Try] = []

    def measured(self, works: Iterator[Work]) -> Iterator[Done]:
        """Every shard once, in the order in which they are measured.

        Raises:
            RunError: No worker can begin.
            StoreError: A shard cannot be written.
        """
        self._check_room()
        for _ in range(self._workers):
            self._seats.append(self._begin(_Seat(None)))
        drawn = False
        while not drawn or self._again or any(seat.given for seat in self._seats):
            found, _ = self._ray.wait(list(self._pending), num_returns=1, timeout=_LOOK)
            if not found:
                self._check_room()
                continue
            seat = self._pending.pop(found[0])
            try:
                answer = self._ray.get(found[0])
            except self._ray.exceptions.RayError as error:
                done = self._lost(seat, error)
            else:
                done = self._answered(seat, answer)
            del found
            if done is not None:
                yield done
            for seat in self._seats:
                if seat.ready is not None and seat.given is None and not self._give(seat, works):
                    drawn = True

    def close(self) -> None:
        """End all workers."""
        for seat in self._seats:
            self._end(seat)

    def _begin(self, seat: _Seat) -> _Seat:
        seat.actor, seat.ready, seat.given = self._actor.remote(), None, None
        self._pending[seat.actor.begin.remote(self._job, self._token)] = seat
        return seat

    def _give(self, seat: _Seat, works: Iterator[Work]) -> bool:
        """Give a worker the next shard, where there is one."""
        if self._again:
            seat.given = self._again.pop(0)
        elif (work := next(works, None)) is not None:
            seat.given = _Try(work, self._job.batch)
        else:
            return False
        assert seat.ready is not None
        inputs = {} if seat.ready.shares_folder else _inputs(Path(self._job.folder), seat.given.work)
        self._pending[seat.actor.measure.remote(seat.given.work, seat.given.batch, inputs)] = seat
        return True

    def _answered(self, seat: _Seat, answer: Ready | Refused | MeasuredShard) -> Done | None:
        match answer:
            case Ready():
                seat.ready, seat.losses = answer, 0
                return None
            case Refused(kind, reason):
                raise (StoreError if kind == "store" else RunError)(reason)
            case MeasuredShard(done, content):
                seat.given = None
                if content is not None:
                    with replacing_file(Path(self._job.folder) / done.file) as opened:
                        opened.write(content)
                return done

    def _lost(self, seat: _Seat, error: Exception) -> Done | None:
        """Replace a lost worker and give its shard to another one, at most so many times.

        Raises:
            RunError: It was not lost but cannot work, or no worker is left.
        """
        self._check_fault(error)
        self._end(seat)
        given, reason = seat.given, one_line(error)
        if seat.ready is None:
            seat.losses += 1
        if seat.losses < ATTEMPTS:
            self._begin(seat)
        else:
            self._seats.remove(seat)
            if not self._seats:
                raise RunError(f"{seat.losses} workers in a row ended before they had loaded the model ({reason})")
        if given is None:
            return None
        given.losses += 1
        if given.losses == ATTEMPTS:
            return lost(given.work, f"{given.losses} workers were lost while they measured its shard ({reason})")
        given.batch = batch_after(given.losses, self._job.batch)
        if isinstance(error, self._ray.exceptions.OutOfMemoryError):
            given.batch = max(1, given.batch // 2)
        self._again.append(given)
        return None

    def _check_fault(self, error: Exception) -> None:
        """Raise a `RunError` for what another worker would meet too."""
        kinds = self._ray.exceptions
        if "failed to import on the worker" in str(error):
            last = str(error).strip().splitlines()[-1]
            raise RunError(
                f"a worker of the cluster cannot import Sfumato ({last}); install the same version on every node"
            ) from error
        if isinstance(error, kinds.RayTaskError):
            cause = error.cause
            raise RunError(f"a worker of the cluster failed: {type(cause).__name__}: {one_line(cause)}") from error
        if isinstance(error, kinds.RuntimeEnvSetupError | kinds.ActorUnschedulableError):
            raise RunError(f"no worker can begin on the cluster: {one_line(error)}") from error

    def _check_room(self) -> None:
        """Raise a `RunError` where no node could ever hold a worker; a busy one is waited for."""
        nodes = self._nodes()
        if not any(all(node.get(name, 0) >= amount for name, amount in self._needs.items()) for node in nodes):
            raise RunError(
                f"none of the {len(nodes)} nodes of the Ray cluster offers {self._needs['CPU']:g} processors and "
                f"{self._needs['GPU']:g} GPUs, which a worker needs; see cpus_per_worker and gpus_per_worker"
            )

    def _nodes(self) -> list[dict[str, float]]:
        """The resources of every node that lives."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _end(self, seat: _Seat) -> None:
        with suppress(self._ray.exceptions.RayError):  # it has gone by itself
            self._ray.kill(seat.actor)


@contextmanager
def _token(job: Job) -> Iterator[str]:
    """Lay a token into the folder of the run, by which workers see whether they share it."""
    path, token = Path(job.folder) / TOKEN, secrets.token_hex(16)
    write_text(path, token)
    try:
        yield token
    finally:
        with suppress(OSError):
            path.unlink()


def _absolute(source: ModelSource) -> ModelSource:
    """A folder by its whole path, since workers need not start where the driver did."""
    from sfumato.models.loading import studio_models

    if source.name in studio_models() or not path_of(source.name).is_dir():
        return source
    return replace(source, name=str(path_of(source.name).resolve()))


def _inputs(folder: Path, work: Work) -> dict[str, bytes]:
    """Content of the pictures that the requests of a shard name."""
    names: set[str] = set()
    for one in work.items:
        with_pictures(one.request, names.add)
    return {name: (folder / name).read_bytes() for name in sorted(names)}
