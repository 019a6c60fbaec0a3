"""What a training says while it runs: a JSON-lines log, a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from sfumato.writing.files import refuse_irregular


class Progress(Protocol):
    """Told what a training does."""

    def step(self, stage: str, step: int, steps: int, values: Mapping[str, float]) -> None:
        """`step` of `steps` of a stage are done; `values` are numbers worth showing."""

    def event(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        """Something happened that belongs in the log: an evaluation, a checkpoint, a file."""


class Log:
    """Writes the JSON-lines log and shows a bar (terminal) or a line every half minute (elsewhere)."""

    def __init__(self, path: Path, bar: Any = None, every: int = 20) -> None:
        self._path = path
        self._bar = bar
        self._every = every
        self._tasks: dict[str, Any] = {}
        self._shown = 0.0
        refuse_irregular(path, str(path))
        path.parent.mkdir(parents=True, exist_ok=True)

    def _write(self, entry: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def step(self, stage: str, step: int, steps: int, values: Mapping[str, float]) -> None:
        """See `Progress.step`; the log gets every `every`-th step."""
        shown = {name: float(f"{value:.5g}") for name, value in values.items()}
        if values and (step % self._every == 0 or step == steps):
            self._write({"time": round(time.time(), 1), "stage": stage, "step": step, **shown})
        text = " ".join(f"{name} {value:.4g}" for name, value in shown.items())
        if self._bar is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bar.add_task(stage, total=steps, values="")
            self._bar.update(self._tasks[stage], completed=step, values=text)
        elif time.monotonic() - self._shown > 30 or step == steps:
            self._shown = time.monotonic()
            print(f"{stage} {step}/{steps} {text}", file=sys.stderr, flush=True)

    def event(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        """See `Progress.event`."""
        self._write({"time": round(time.time(), 1), "stage": stage, "step": step, **values})
        text = " ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
        )
        if self._bar is not None:
            self._bar.console.print(f"{stage} {step}: {text}")
        else:
            print(f"{stage} {step}: {text}", file=sys.stderr, flush=True)


@contextmanager
def logging_to(path: Path) -> Iterator[Log]:
    """Log to `path`, with a progress bar where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield Log(path)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[values]}"),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        yield Log(path, bar)
