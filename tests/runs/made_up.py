"""A task that needs no image: its records follow from prompts and seeds, and some prompts make it fail.

What is to be measured stands in the request; what only a test wants (to see what was measured, to wait, to let workers
die) is in the environment, so that keys and records do not depend on it.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sfumato.errors import NonFinite
from sfumato.models.model import Model
from sfumato.option_values import COUNT
from sfumato.progress import Progress
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, Cost, Item, ModelFacts, Record, Records, task

LOG, WAIT, CURED, DEATHS = "MADE_UP_LOG", "MADE_UP_WAIT", "MADE_UP_CURED", "MADE_UP_DEATHS"
"""A file that every measured prompt is appended to, seconds for each, whether nothing fails any more, and a folder with
a file for each death that has still to be died."""
SIDE = 4


@dataclass(frozen=True)
class MadeUpOptions:
    """What can be chosen."""

    factor: int = field(default=1, metadata=COUNT | {"help": "of all numbers"})
    names: tuple[str, ...] = field(default=(), metadata={"help": "kept with every item"})


@task(
    "made-up",
    question="How long is each word?",
    options=MadeUpOptions,
    cost=Cost("nothing"),
    prompts=Captions(lambda n: ["a cat"] * n),
)
class MadeUp:
    """Lengths of words."""

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: MadeUpOptions) -> Iterator[Item]:
        for row in rows:
            if row.request is not None:
                for seed in row.request.seeds:
                    yield Item(row.request.with_(seed=seed, images=1), {"names": list(options.names)}, row)

    def measure(
        self, model: Model, items: Sequence[Item], options: MadeUpOptions, progress: Progress
    ) -> Sequence[Record]:
        if path := os.environ.get(LOG):
            with open(path, "a", encoding="utf-8") as opened:
                opened.writelines(f"{one.request.prompt}|{one.request.seed}\n" for one in items)
        time.sleep(float(os.environ.get(WAIT, "0")) * len(items))
        for one in items:
            if CURED not in os.environ:
                _fail(one.request.prompt, len(items))
        return [_record(one, options) for one in items]

    def conclude(self, records: Records, options: MadeUpOptions, about: Mapping[str, Any]) -> Finding:
        total = sum(float(record.arrays["noise"].sum()) for _, record in records)
        rows = [{"number": "noise", "total": total, "n": len(records)}]
        return Finding("made-up", "", None, f"{len(records)} items", rows, None, about)


def _fail(prompt: str, batch: int) -> None:
    what, _, value = prompt.partition(" ")
    match what:
        case "raise":
            raise ValueError(f"no {value}\nat all")
        case "nan":
            raise NonFinite("the image of this request is not finite")
        case "memory":
            raise MemoryError
        case "most" if batch > int(value):
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        case "die":
            _die(value)


def _die(how: str) -> None:
    for one in Path(os.environ[DEATHS]).iterdir():
        one.unlink()
        if how == "exit":
            os._exit(7)
        faulthandler.disable()
        os.kill(os.getpid(), signal.Signals[how])


def _record(item: Item, options: MadeUpOptions) -> Record:
    words = item.request.prompt.split()
    noise = np.random.default_rng([item.request.seed, len(item.request.prompt)])
    match words[:1]:
        case ["unstorable"]:
            return Record({"model": object()})
        case ["complex"]:
            return Record(arrays={"values": np.array([1j])})
        case ["grey"]:
            return Record(picture=np.zeros((8, 8), np.uint8))
        case ["misfit"]:
            return Record(rows=[{"word": "a"}], maps={"made": np.zeros((2, SIDE, SIDE), np.float32)})
    side = SIDE * (2 if "large" in words else 1)
    return Record(
        {"length": len(item.request.prompt) * options.factor, "limit": float("nan")},
        {"noise": noise.normal(size=5) * options.factor},
        [{"word": word, "made.length": len(word) * options.factor} for word in words],
        {"made": noise.normal(size=(len(words), side, side)).astype(np.float32)},
        noise.integers(0, 256, (8, 8, 3), np.uint8) if "picture" in words else None,
    )
