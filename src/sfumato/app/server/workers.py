"""Who does the work: one thread owns each model, and everything that touches the model waits in its queue.

So two visitors, or two buttons of one page, never race on a pipeline. All workers of a machine also take turns, since
two computations at once are slower than one after the other.
"""

from __future__ import annotations

import itertools
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from sfumato.errors import SfumatoError
from sfumato.models.model import Model

T = TypeVar("T")
State = Literal["waiting", "running", "done", "failed", "stopped"]
MOST_WAITING = 32
LONGEST = 1800.0
MOST_OF_ONE = 6
"""Pieces of work of one visitor, waiting or under way, at one model."""


class Busy(SfumatoError):
    """A queue is full."""


class Stopped(Exception):
    """Work was called off, by its visitor or because it took too long; it passes through methods as any error does."""


@dataclass
class Job(Generic[T]):
    """Something that a model is asked to do.

    Attributes:
        owner: Whose it is, VISITOR/TAB; all jobs of an owner can be called off at once.
        work: Given the model and a progress; it runs in the thread that owns the model.
        state: How far it is.
        step: What it is at, how many units of that are done, of how many.
        cost: What it said of its cost.
        error: What went wrong, in one line.
    """

    owner: str
    work: Callable[[Model, Job[Any]], T]
    number: int = field(default_factory=itertools.count().__next__)
    state: State = "waiting"
    step: tuple[str, int, int] = ("", 0, 0)
    cost: str = ""
    error: str = ""
    drop: Callable[[Job[Any]], None] | None = None
    _value: list[T] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _called_off: str = ""
    _step_began: float = 0.0

    def progress(self, what: str, done: int, total: int) -> None:
        """Tell how far the work is; the place where it is stopped.

        Raises:
            Stopped: It was called off.
        """
        if self._called_off:
            raise Stopped(self._called_off)
        if what != self.step[0] or done < self.step[1]:
            self._step_began = time.monotonic()
        self.step = (what, done, total)

    @property
    def left(self) -> float | None:
        """Seconds that what it is at will take, at the speed so far; None where nothing can be said yet."""
        _, done, total = self.step
        if self.state != "running" or not 0 < done < total:
            return None
        return (time.monotonic() - self._step_began) / done * (total - done)

    def stop(self, why: str = "stopped") -> None:
        """Call it off: at once where it is waiting, else at its next sign of progress."""
        self._called_off = self._called_off or why
        if self.state == "waiting" and self.drop is not None:
            self.drop(self)

    def wait(self, seconds: float) -> bool:
        """Wait until it ended, at most so long; whether it has."""
        return self._ended.wait(seconds)

    @property
    def value(self) -> T:
        """What came out of it, once it is done."""
        return self._value[0]

    def run(self, model: Model) -> None:
        """Do the work; nothing is raised."""
        self.state = "running"
        try:
            self.progress("", 0, 0)
            self._value.append(self.work(model, self))
            self.state = "done"
        except Stopped as error:
            self._end("stopped", str(error))
        except SfumatoError as error:
            self._end("failed", str(error))
        except MemoryError:
            self._end("failed", "there is not enough memory for this; ask for a smaller image or for fewer of them")
        except Exception as error:
            traceback.print_exc()
            self._end("failed", f"{type(error).__name__}: {error} (a bug in Sfumato; the server's log has the rest)")
        finally:
            self._ended.set()

    def _end(self, state: State, why: str) -> None:
        self.state, self.error = state, " ".join(why.split())

    def fail(self, why: str) -> None:
        """End it without having run it."""
        self._end("failed", why)
        self._ended.set()


class Worker:
    """The thread that owns a model.

    Args:
        name: Of the model.
        load: Makes the model; called in the thread, at once, so that it is there when it is first asked.
        turns: Held while a job runs; shared by the workers of a machine.
        most: Jobs that may wait.
        longest: Seconds after which a job is called off.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], Model],
        turns: threading.Lock,
        *,
        most: int = MOST_WAITING,
        longest: float = LONGEST,
    ) -> None:
        self.name, self._load, self._turns, self._most, self._longest = name, load, turns, most, longest
        self.model: Model | None = None
        self._waiting: deque[Job[Any]] = deque()
        self._running: Job[Any] | None = None
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._live, name=f"model {name}", daemon=True)
        self._thread.start()

    def submit(self, owner: str, work: Callable[[Model, Job[Any]], T]) -> Job[T]:
        """Ask for something.

        Args:
            owner: Who asks, as VISITOR/TAB.
            work: Given the model and the job itself.

        Raises:
            Busy: Too many wait already, or too many of this visitor's.
        """
        job: Job[T] = Job(owner, work, drop=self._drop)
        visitor = owner.partition("/")[0]
        with self._news:
            if sum(one.owner.partition("/")[0] == visitor for one in self._all()) >= MOST_OF_ONE:
                raise Busy(
                    f"{MOST_OF_ONE} pieces of your work wait for {self.name} already; wait for one, or cancel it"
                )
            if len(self._waiting) >= self._most:
                raise Busy(
                    f"{len(self._waiting)} others are waiting for {self.name}, which is as many as can; try again soon"
                )
            self._waiting.append(job)
            self._news.notify()
        return job

    def ahead(self, job: Job[Any]) -> int:
        """How many jobs are done before it."""
        with self._news:
            before = sum(1 for one in self._waiting if one.number < job.number)
            return before + (self._running is not None and self._running is not job)

    def jobs(self) -> Sequence[Job[Any]]:
        """All that wait or run."""
        with self._news:
            return self._all()

    def _all(self) -> list[Job[Any]]:
        return [*self._waiting, *([self._running] if self._running else [])]

    def stop(self, owner: str, why: str = "stopped") -> None:
        """Call off all jobs of an owner."""
        for job in self.jobs():
            if job.owner == owner:
                job.stop(why)

    def close(self) -> None:
        """Call off all that waits or runs, and end the thread as soon as its work lets it."""
        with self._news:
            self._closed = True
            waiting = self._all()
            self._news.notify()
        for job in waiting:
            job.stop("the server is closing")

    def ended(self, seconds: float) -> bool:
        """Wait for the end of the thread, at most so long; whether it has ended."""
        self._thread.join(timeout=seconds)
        return not self._thread.is_alive()

    def _drop(self, job: Job[Any]) -> None:
        with self._news:
            if job not in self._waiting:
                return
            self._waiting.remove(job)
        job.state = "stopped"
        job.error = job._called_off
        job._ended.set()

    def _live(self) -> None:
        failure = ""
        try:
            with self._turns:
                self.model = self._load()
        except SfumatoError as error:
            failure = str(error)
        except Exception as error:
            traceback.print_exc()
            failure = f"{type(error).__name__}: {error}"
        while (job := self._next()) is not None:
            if self.model is None:
                job.fail(f"{self.name} could not be loaded: {failure}")
            else:
                with self._turns:
                    limit = threading.Timer(
                        self._longest,
                        job.stop,
                        [f"stopped after {self._longest:.0f} seconds, the longest allowed here"],
                    )
                    limit.daemon = True
                    limit.start()
                    job.run(self.model)
                    limit.cancel()
            with self._news:
                self._running = None

    def _next(self) -> Job[Any] | None:
        with self._news:
            while not self._waiting and not self._closed:
                self._news.wait()
            if self._closed and not self._waiting:
                return None
            self._running = self._waiting.popleft()
            return self._running
