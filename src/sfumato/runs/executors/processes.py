"""Several workers on this machine, each a process with a model of its own; one that dies costs a shard at most."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from sfumato.errors import RunError, SfumatoError, StoreError
from sfumato.runs.executors.executor import ATTEMPTS
from sfumato.runs.worker import Done, Job, Work, Worker, lost

_CONTEXT = multiprocessing.get_context("spawn")


@dataclass
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
    _tries: dict[tuple[int, int], int] = field(default_factory=dict)

    def __call__(self, job: Job, works: Iterator[Work]) -> Iterator[Done]:
        """Give every free process the next shard, and a lost one's shard to another."""
        again: list[Work] = []
        children = [_child(job) for _ in range(self.workers)]
        started = 0
        try:
            while True:
                for child in children:
                    if child.ready and child.work is None:
                        child.work = again.pop(0) if again else next(works, None)
                        if child.work is not None:
                            tried = self._tries.get((child.work.shard, child.work.attempt), 0)
                            with suppress(OSError):  # it has just died, which is noticed below
                                child.pipe.send((child.work, max(1, job.batch >> tried)))
                if not any(child.work or not child.ready for child in children):
                    return
                pipes = {child.pipe: child for child in children}
                for pipe in wait(list(pipes)):
                    child = pipes[pipe]  # type: ignore[index]
                    try:
                        what, told = child.pipe.recv()
                    except (EOFError, OSError):
                        if not child.ready and started == 0:
                            ending = _ending(child)
                            raise RunError(f"a worker ended before it had loaded the model ({ending})") from None
                        children.remove(child)
                        if child.work is not None and (done := self._again(child, again)) is not None:
                            yield done
                        children.append(_child(job))
                        continue
                    if what == "ready":
                        child.ready, started = True, started + 1
                    elif what == "done":
                        child.work = None
                        yield told
                    else:
                        raise (StoreError if what == "cannot write" else RunError)(told)
        finally:
            for child in children:
                child.pipe.close()
                child.process.join(0 if child.work else 5)
                if child.process.is_alive():
                    child.process.kill()
                    child.process.join()

    def _again(self, child: _Child, again: list[Work]) -> Done | None:
        """Give a lost worker's shard to another one, at most so many times."""
        work = child.work
        assert work is not None
        tries = self._tries.get((work.shard, work.attempt), 0) + 1
        self._tries[work.shard, work.attempt] = tries
        if tries < ATTEMPTS:
            again.append(work)
            return None
        return lost(work, f"{tries} workers were lost while they measured its shard ({_ending(child)})")


def _child(job: Job) -> _Child:
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_work, args=(job, theirs), daemon=True)
    process.start()
    theirs.close()
    return _Child(process, ours)


def _ending(child: _Child) -> str:
    child.process.join(5)
    code = child.process.exitcode
    if code is None:
        return "it does not answer"
    with suppress(ValueError):
        return f"ended by {signal.Signals(-code).name}"
    return f"exit status {code}"


def _work(job: Job, pipe: Any) -> None:
    """What a process does until its pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that drives the run
    try:
        worker = Worker(job)
        pipe.send(("ready", None))
        while True:
            work, batch = pipe.recv()
            pipe.send(("done", worker(work, batch=batch)))
    except (EOFError, BrokenPipeError):  # the run has ended
        return
    except SfumatoError as error:
        pipe.send(("cannot write" if isinstance(error, StoreError) else "cannot run", str(error)))
