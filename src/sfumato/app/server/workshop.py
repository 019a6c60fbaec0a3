"""What the tabs work with: the models with their workers, the visitors, and one way to run what takes long."""

from __future__ import annotations

import itertools
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sfumato.app.server.visitors import COOKIE, Visitor, Visitors
from sfumato.app.server.workers import Job, Worker
from sfumato.errors import SfumatoError
from sfumato.models.loading import load
from sfumato.models.model import Model

T = TypeVar("T")
TICK = 0.25
"""Seconds between two signs of life of a job."""
QUIET = {"state": "quiet"}


@dataclass(frozen=True)
class Seat:
    """Where somebody sits: the visitor, and the tab of the browser (VISITOR/TAB), which jobs belong to."""

    visitor: Visitor
    tab: str


class Workshop:
    """The models of a page and those who use it.

    Args:
        models: By the name that the page shows, how to load each.
        library: A folder of saved explanations and runs that every visitor may look at; None for none.
        longest: Seconds that one piece of work may take.
    """

    def __init__(
        self, models: Mapping[str, Callable[[], Model]], *, library: Path | None = None, longest: float = 1800.0
    ) -> None:
        turns = threading.Lock()
        self.workers = {name: Worker(name, load, turns, longest=longest) for name, load in models.items()}
        self.library = library
        self.visitors = Visitors()

    @classmethod
    def of(cls, names: list[str], *, device: str | None = None, **settings: Any) -> Workshop:
        """A workshop of models by name, folder or hub id, each called by the last part of where it is from.

        Several that end alike are numbered, as in "faces" and "faces (2)"; one that is given twice is there once.
        """
        found: dict[str, Callable[[], Model]] = {}
        for name in dict.fromkeys(names):
            shown = shown_name(name)
            numbered = (f"{shown} ({number})" for number in itertools.count(2))
            found[shown if shown not in found else next(one for one in numbered if one not in found)] = partial(
                load, name, device=device
            )
        return cls(found, **settings)

    @property
    def names(self) -> list[str]:
        """The models in the order given."""
        return list(self.workers)

    def seat(self, request: Any) -> Seat:
        """Who sends a request of the page (a `gradio.Request`)."""
        key = request.cookies.get(COOKIE, "") if request is not None else ""
        return Seat(self.visitors.of(key), f"{key}/{getattr(request, 'session_hash', None) or ''}")

    def worker(self, name: str) -> Worker:
        """The worker of a model.

        Raises:
            SfumatoError: There is no such model here.
        """
        if name not in self.workers:
            raise SfumatoError(f"there is no model {name!r} on this page; its models are: {', '.join(self.names)}")
        return self.workers[name]

    def model(self, name: str) -> Model:
        """A model, to ask it what costs nothing: features, layers, sizes. What runs it goes through ``driven``.

        Raises:
            SfumatoError: There is none, or it is still being loaded.
        """
        found = self.worker(name).model
        if found is None:
            raise SfumatoError(f"{name} is still being loaded; try again in a moment")
        return found

    def stop(self, tab: str, why: str = "stopped") -> None:
        """Call off all that a tab asked for."""
        for worker in self.workers.values():
            worker.stop(tab, why)

    def close(self) -> None:
        """Call off all that waits or runs, and end all workers as soon as their work lets them."""
        for worker in self.workers.values():
            worker.close()

    def ended(self, within: float) -> bool:
        """Wait for the end of all workers, at most so many seconds; whether they have ended.

        One that loads a model, or is between two signs of progress, cannot be stopped.
        """
        end = time.monotonic() + within
        return all([worker.ended(max(0.0, end - time.monotonic())) for worker in self.workers.values()])

    def driven(
        self,
        seat: Seat,
        model: str,
        work: Callable[[Model, Job[Any]], T],
        shown: Callable[[T], dict[Any, Any]],
        line: Any,
    ) -> Iterator[dict[Any, Any]]:
        """Run something on a model and show what comes out; the body of every listener that takes long.

        Args:
            seat: Who asks.
            model: Its name on the page.
            work: Runs in the thread that owns the model.
            shown: The components and their values for the result.
            line: The component that tells how it goes (see ``pieces.jobline``).

        Yields:
            Values of components; the last ones are those of the result, or the line that says what went wrong.
        """
        try:
            worker = self.worker(model)
            job = worker.submit(seat.tab, work)
        except SfumatoError as error:
            yield {line: refused(error)}
            return
        try:
            while not job.wait(TICK):
                yield {line: state_of(job, worker)}
            if job.state != "done":
                yield {line: {"state": job.state, "text": job.error}}
                return
            yield {line: QUIET} | shown(job.value)
        except SfumatoError as error:
            yield {line: refused(error)}
        except Exception as error:
            traceback.print_exc()
            yield {line: {"state": "failed", "text": f"{type(error).__name__}: {error} (a bug in Sfumato)"}}
        finally:
            job.stop("the page was closed")  # nothing, where it has ended


def refused(error: SfumatoError) -> dict[str, str]:
    """What the line shows for an error."""
    return {"state": "failed", "text": " ".join(str(error).split())}


def state_of(job: Job[Any], worker: Worker) -> dict[str, Any]:
    """What the line shows of a job under way."""
    if job.state == "waiting":
        if worker.model is None:
            return {"state": "waiting", "text": f"{worker.name} is being loaded"}
        ahead = worker.ahead(job)
        return {
            "state": "waiting",
            "text": f"waiting for {ahead} other{'s' if ahead != 1 else ''}" if ahead else "next",
        }
    what, done, total = job.step
    return {
        "state": "running",
        "text": what or "starting",
        "done": done,
        "total": total,
        "left": job.left,
        "cost": job.cost,
    }


def shown_name(name: str) -> str:
    """The name of a model on the page: no path of this machine."""
    path = Path(name)
    return path.name if path.is_absolute() or name.startswith((".", "~")) else name
