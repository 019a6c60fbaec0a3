"""How runs scale: real generations on one and two workers, and what the engine itself takes for up to 64 of them.

    export OMP_NUM_THREADS=1                                      one thread for each worker
    .venv/bin/python benchmarks/scaling.py                        all three parts
    .venv/bin/python benchmarks/scaling.py --parts engine         one of them
    .venv/bin/python benchmarks/scaling.py --quick                every part once, with few items: a smoke test
    .venv/bin/python benchmarks/scaling.py --million runs/first   a million prompts, computed from a run

Parts: "generations" are images of studio/scenes by the task `generate`, in processes and on Ray; "engine" is a task
that sleeps instead of measuring, on 1 to 64 workers, which are threads here, since 64 models do not fit; "overhead" is
the same task without the sleep, so that all of its time is the engine's. A rate is taken between the first shard of
every worker and the last shard, so it holds neither the loading of models nor the conclusion. Efficiency is the rate as
a share of so many times that of one worker, or for the task that sleeps of what the sleep allows.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from simulated import NAME, offer

from sfumato.runs.execute import Status
from sfumato.runs.executors.executor import Executor
from sfumato.runs.executors.processes import Processes
from sfumato.runs.executors.ray import Ray
from sfumato.runs.manifest import Manifest
from sfumato.runs.running import run
from sfumato.runs.worker import Done, Job, Work, Worker

MILLION = 1_000_000
PARTS = ("generations", "engine", "overhead")


@dataclass(frozen=True)
class Threads:
    """Workers without a model in this process."""

    workers: int

    def __call__(self, job: Job, works: Iterator[Work]) -> Iterator[Done]:
        nothing: Any = object()
        free = [Worker(job, nothing) for _ in range(self.workers)]
        given: dict[Future[Done], Worker] = {}
        with ThreadPoolExecutor(self.workers) as pool:
            while True:
                while free and (work := next(works, None)) is not None:
                    worker = free.pop()
                    given[pool.submit(worker, work)] = worker
                if not given:
                    return
                for done in wait(given, return_when=FIRST_COMPLETED).done:
                    free.append(given.pop(done))
                    yield done.result()


@dataclass(frozen=True)
class Rate:
    """What a run achieved.

    Attributes:
        items: That were measured in the time that counts.
        seconds: This time.
        whole: Seconds of the whole run, with models that are loaded and the conclusion.
    """

    items: int
    seconds: float
    whole: float

    @property
    def rate(self) -> float:
        return self.items / self.seconds


def timed(task: str, executor: Executor | None, workers: int, items: int, shard: int, **given: Any) -> Rate:
    """Carry a run out in a folder that goes, and take its rate; `items` are those after the first shards."""
    noted: list[tuple[float, int]] = []

    def report(status: Status) -> None:
        noted.append((time.perf_counter(), status.counts.ok))

    with tempfile.TemporaryDirectory(prefix="sfumato-scaling-") as folder:
        started = time.perf_counter()
        found = run(
            task,
            prompts=items + workers * shard,
            out=Path(folder) / "run",
            shard_size=shard,
            executor=executor,
            report=report,
            **given,
        )
        whole = time.perf_counter() - started
        assert found.counts.ok == items + workers * shard
    (first, before), (last, after) = noted[workers], noted[-1]
    return Rate(after - before, last - first, whole)


def generations(quick: bool, rounds: int) -> list[dict[str, Any]]:
    """Images on one and two workers; each round has all four, so that they meet the same machine."""
    items = 4 if quick else 40
    kinds: dict[str, Callable[[int], Executor]] = {"processes": Processes, "ray": Ray}
    rows = []
    for number in range(rounds):
        for name, kind in kinds.items():
            rates = {}
            for workers in (1, 2):
                rates[workers] = timed(
                    "generate", kind(workers), workers, items, shard=2, batch=2, common={"steps": 1 if quick else 10}
                )
            rows += [
                {
                    "part": "generations",
                    "round": number + 1,
                    "executor": name,
                    "workers": workers,
                    "items / s": round(own.rate, 2),
                    "efficiency": round(own.rate / (workers * rates[1].rate), 3),
                    "whole run, s": round(own.whole, 1),
                }
                for workers, own in rates.items()
            ]
    return rows


def engine(quick: bool) -> list[dict[str, Any]]:
    """The task that sleeps on ever more workers; without the sleep, the most that one driver manages."""
    seconds, each, shard = (0.05, 8, 4) if quick else (0.5, 48, 16)
    rows = []
    for workers in (1, 4) if quick else (1, 4, 16, 64):
        for sleep in (seconds, 0.0):
            if sleep == 0 and workers not in (1, 64):
                continue
            items = each * workers if sleep else (64 if quick else 4096)
            found = timed(NAME, Threads(workers), workers, items, shard, batch=1, seconds=sleep)
            rows.append(
                {
                    "part": "engine",
                    "workers": workers,
                    "s of an item": sleep,
                    "items / s": round(found.rate, 1),
                    "efficiency": round(found.rate * sleep / workers, 3) if sleep else None,
                }
            )
    return rows


def overhead(quick: bool) -> list[dict[str, Any]]:
    """Milliseconds that the engine takes for an item, by executor and size of a shard."""
    items = 64 if quick else 256
    rows = []
    for name, executor in (("local", None), ("ray", Ray(1))):
        for shard in (32,) if quick else (1, 8, 32):
            found = timed(NAME, executor, 1, items, shard=shard, batch=min(8, shard), seconds=0.0)
            rows.append(
                {
                    "part": "overhead",
                    "executor": name,
                    "items of a shard": shard,
                    "ms / item": round(1e3 / found.rate, 2),
                }
            )
    return rows


def million(folder: Path) -> list[dict[str, Any]]:
    """What a million items of a run take, by what one of its own takes."""
    with Manifest(folder) as manifest:
        items, settings = manifest.measured_items, manifest.settings
        shards = manifest.shards()
    if not items:
        raise SystemExit(f"{folder} has measured no item")
    kept = {
        "shards": sum(size for _, size, _ in shards),
        "items.parquet": _bytes(folder / "items.parquet"),
        "arrays.zarr": _bytes(folder / "arrays.zarr"),
        "images": _bytes(folder / "images"),
        "items.sqlite": _bytes(folder / "items.sqlite"),
    }
    seconds = sum(took for _, _, took in shards) / items
    rows: list[dict[str, Any]] = [
        {
            "of a million": f"hours on one device, as {settings['model']} took {seconds:.3g} s an item",
            "amount": round(MILLION * seconds / 3600, 1),
        }
    ]
    rows += [
        {"of a million": f"{name}, GB", "amount": round(MILLION * size / items / 1e9, 2)} for name, size in kept.items()
    ]
    return [*rows, {"of a million": "together, GB", "amount": round(MILLION * sum(kept.values()) / items / 1e9, 2)}]


def _bytes(path: Path) -> int:
    files: Sequence[Path] = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
    return sum(one.stat().st_size for one in files if one.exists())


@contextmanager
def task_offered() -> Iterator[None]:
    """Let the processes that start meanwhile find the task that sleeps."""
    with tempfile.TemporaryDirectory(prefix="sfumato-simulated-") as folder:
        offer(Path(folder))
        usual = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (folder, str(Path(__file__).resolve().parent), usual)))
        try:
            yield
        finally:
            if usual is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = usual


def shown(rows: list[dict[str, Any]]) -> str:
    """As a table."""
    names = [name for name in rows[0] if name != "part"]
    lines = [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]
    lines += [f"| {' | '.join('-' if row[name] is None else str(row[name]) for name in names)} |" for row in rows]
    return "\n".join([*lines, ""])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=1, help="of the generations")
    parser.add_argument("--million", type=Path, metavar="RUN", help="a folder of a run; nothing is measured")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: list[dict[str, Any]] = []
    if given.million:
        found = million(given.million)
        if not given.json:
            print(shown(found))
    else:
        measures = {"generations": partial(generations, rounds=given.rounds), "engine": engine, "overhead": overhead}
        with task_offered():
            for part in given.parts:
                rows = measures[part](given.quick)
                found += rows
                if not given.json:
                    print(f"**{part}**\n\n{shown(rows)}", flush=True)
    if given.json:
        print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
