"""Several workers on this machine, each a process with a model of its own; one that dies costs a shard at most."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any

from sfumato.errors import RunError, SfumatoError, StoreError
from sfumato.runs.executors.executor import ATTEMPTS, batch_after
from sfumato.runs.worker import Done, Job, Work, Worker, lost

_CONTEXT = multiprocessing.get_context("spawn")


@dataclass(eq=False)
class _Child:
    process: BaseProcess
    pipe: Connection
    ready: bool = False
    work: Work | None = None


@dataclass
class Processes:
    """Measures in processes of this machine.

    Attributes:
        workers: How many.
    """

    workers: int

    def __call__(self, job: Job, works: Iterator[Work]) -> Iterator[Done]:
        """Give every free process the next shard, and a lost one's shard to another."""
        return _Driving(self.workers, job, works).results()


class _Driving:
    """The processes of one run while it lasts."""

    def __init__(self, workers: int, job: Job, works: Iterator[Work]) -> None:
        self._workers, self._job, self._works = workers, job, works
        self._next: list[Work] = []
        self._tried: dict[tuple[int, int], int] = {}
        self._children: list[_Child] = []
        self._in_vain = 0

    def results(self) -> Iterator[Done]:
        """How every shard ended."""
        try:
            while True:
                self._give()
                if not any(one.work for one in self._children) and not self._is_left:
                    return
                told_by = {one.pipe: one for one in self._children}
                for pipe in wait(list(told_by)):
                    child = told_by[pipe]  # type: ignore[index]
                    try:
                        what, told = child.pipe.recv()
                    except (EOFError, OSError):
                        yield from self._lose(child)
                        continue
                    if what == "ready":
                        child.ready, self._in_vain = True, 0
                    elif what == "done":
                        child.work = None
                        yield told
                    else:
                        raise (StoreError if what == "cannot write" else RunError)(told)
        finally:
            for child in self._children:
                with suppress(OSError):
                    child.pipe.send(None)
            for child in self._children:
                child.process.join(5 if child.ready and child.work is None else 0)
                if child.process.is_alive():
                    child.process.kill()
                    child.process.join()
                child.pipe.close()
                child.process.close()

    @property
    def _is_left(self) -> bool:
        """Whether a shard waits for a worker; as many are drawn as there may be workers."""
        self._next += islice(self._works, max(0, self._workers - len(self._next)))
        return bool(self._next)

    def _give(self) -> None:
        """Give shards to free workers, and begin workers for the others, up to the number wanted."""
        for child in self._children:
            if child.ready and child.work is None and self._is_left:
                child.work = self._next.pop(0)
                losses = self._tried.get((child.work.shard, child.work.attempt), 0)
                with suppress(OSError):  # it has just died, which is noticed when it is heard next
                    child.pipe.send((child.work, batch_after(losses, self._job.batch)))
        busy = sum(child.work is not None for child in self._children)
        while self._is_left and len(self._children) < min(self._workers, busy + len(self._next)):
            self._children.append(_child(self._job))

    def _lose(self, child: _Child) -> Iterator[Done]:
        """Put a lost worker's shard first, or record that it failed where it was tried often enough."""
        self._children.remove(child)
        child.pipe.close()
        how = _ending(child)
        if not child.ready:
            self._in_vain += 1
            if self._in_vain == (ATTEMPTS if any(one.ready for one in self._children) else 1):
                raise RunError(
                    f"a worker ended before it had loaded the model ({how}); try fewer workers, and in a script call "
                    'this below: if __name__ == "__main__"'
                )
        if (work := child.work) is not None:
            tries = self._tried[work.shard, work.attempt] = self._tried.get((work.shard, work.attempt), 0) + 1
            if tries < ATTEMPTS:
                self._next.insert(0, work)
            else:
                yield lost(work, f"{tries} workers were lost while they measured its shard ({how})")


def _child(job: Job) -> _Child:
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_work, args=(job, theirs), daemon=True)
    with _interrupts_blocked():  # from its first instruction
        process.start()
    theirs.close()
    return _Child(process, ours)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Ctrl-C is for the process that drives the run; what is started in here is not told of it."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ending(child: _Child) -> str:
    child.process.join(5)
    code = child.process.exitcode
    if code is None:
        child.process.kill()
        return "it did not answer"
    with suppress(ValueError):
        return f"ended by {signal.Signals(-code).name}"
    return f"exit status {code}"


def _work(job: Job, pipe: Any) -> None:
    """What a process does until it is told of no more work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_the_driver, daemon=True).start()
    try:
        worker = Worker(job)
        pipe.send(("ready", None))
        while (given := pipe.recv()) is not None:
            work, batch = given
            pipe.send(("done", worker(work, batch=batch)))
    except (EOFError, BrokenPipeError):  # the run has ended
        return
    except SfumatoError as error:
        pipe.send(("cannot write" if isinstance(error, StoreError) else "cannot run", str(error)))


def _end_with_the_driver() -> None:
    """A driver that is killed takes its workers with it, so none writes into a run that another one drives by then."""
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)
