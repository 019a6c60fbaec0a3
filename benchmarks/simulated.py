"""A task whose measurement only takes time, for benchmarks of the engine: its records have the size of real ones."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfumato.models.model import Model
from sfumato.progress import Progress
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, Cost, Item, ModelFacts, Record, Records, task

NAME = "simulated"
WORDS, SIDE = 6, 16
ABOUT = "sfumato_simulated-1.dist-info"


@dataclass(frozen=True)
class SimulatedOptions:
    """Options of the task."""

    seconds: float = 0.5


@task(
    NAME,
    question="How long does the engine take beside the measurement?",
    options=SimulatedOptions,
    cost=Cost("so many seconds for each item"),
    prompts=Captions(lambda count: [f"item {number}" for number in range(count)]),
)
class Simulated:
    """Sleeps for so many seconds an item, then gives a map of each of six words."""

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: SimulatedOptions) -> Iterator[Item]:
        return (Item(row.request, {}, row) for row in rows if row.request is not None)

    def measure(
        self, model: Model, items: Sequence[Item], options: SimulatedOptions, progress: Progress
    ) -> Sequence[Record]:
        if options.seconds:  # no time at all still lets other threads pass
            time.sleep(options.seconds * len(items))
        rows = [{"word": f"word {number}", "index": number, "simulated.mean": 0.5} for number in range(WORDS)]
        return [Record({}, {}, rows, {NAME: np.zeros((WORDS, SIDE, SIDE), np.uint8)}) for _ in items]

    def conclude(self, records: Records, options: SimulatedOptions, about: Mapping[str, Any]) -> Finding:
        return Finding(NAME, "", None, f"{len(records):,} items.", [dict(about)], None, about)


def offer(folder: Path) -> None:
    """Lay into a folder what a package that brings this task would have installed there."""
    about = folder / ABOUT
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: sfumato-simulated\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[sfumato.tasks]\n{NAME} = simulated\n")
