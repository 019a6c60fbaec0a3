"""The front door of runs in Python: `sfumato.run`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sfumato.bounds import checked_int
from sfumato.errors import OptionError, RequestError
from sfumato.models.loading import as_model
from sfumato.option_values import COUNT, SEED
from sfumato.reading import path_of
from sfumato.request import Request
from sfumato.runs.concluding import conclude
from sfumato.runs.execute import CostReport, Means, Report, execute, held, place_of, resume, unreported
from sfumato.runs.executors.executor import Executor
from sfumato.runs.manifest import Manifest
from sfumato.runs.opened import Run
from sfumato.runs.planning import planned
from sfumato.runs.prompts import Row, read_rows, rows_of
from sfumato.runs.settings import settings_of
from sfumato.runs.task import Task, find_task, task_of_records
from sfumato.runs.worker import ModelSource
from sfumato.writing.folders import resolved

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from sfumato.models.model import Model

Prompts = str | os.PathLike[str] | int | Iterable[str | Request | Mapping[str, Any]]
"""A file of prompts, how many held-out captions of the embedded scenes, or the prompts themselves."""


def run(
    task: str,
    model: str | Model | DiffusionPipeline | None = None,
    *,
    out: str | os.PathLike[str],
    prompts: Prompts | None = None,
    common: Mapping[str, Any] | None = None,
    batch: int = 8,
    shard_size: int | None = None,
    workers: int = 1,
    executor: Executor | None = None,
    part: tuple[int, int] = (1, 1),
    retry: bool = False,
    restart: bool = False,
    as_new: bool = False,
    device: str | None = None,
    report: Report = unreported,
    costs: CostReport | None = None,
    **options: Any,
) -> Run:
    """Ask a question of many requests; the folder is the record, and the same call goes on after a stop.

    Args:
        task: Its name; ``sfumato.tasks()`` lists all.
        model: A name, folder or hub id, by default the embedded model that the task names; or a model or pipeline that
            is loaded already (which other processes cannot load, so it takes ``workers=1``).
        out: The folder of the run.
        prompts: A file (text, CSV, TSV, JSON lines, Parquet), a number of held-out captions of the embedded scenes, or
            prompts, requests or rows; for tasks that read prompts.
        common: Fields of `Request` for all rows, such as ``{"steps": 20}``; a row's own values win.
        batch: Items that are measured together at most.
        shard_size: Items of a shard, which is what a kill can cost.
        workers: Processes of this machine, each with a model of its own.
        executor: Where to measure instead, such as ``sfumato.runs.executors.ray.Ray(workers=4)``.
        part: Which of how many parts of the shards to measure, counted from 1; see `sfumato.runs.merging.merge`.
        retry: Measure the items again that have failed.
        restart: Begin anew where the folder holds a run, whose records are lost.
        as_new: Leave a run of other settings in the folder as it is, and take the next free name.
        device: Where a model that is loaded by name runs.
        report: Told how far the run is, after every shard.
        costs: Told line by line what the run costs, before anything is measured.
        options: Of the task.

    Raises:
        UnknownTask: There is no such task.
        OptionError: An option is unusable.
        RequestError: The prompts cannot be read.
        RunError: The folder holds something else.
        ModelError: The model cannot be loaded, or lacks what the task needs.

    Example:
        >>> import sfumato
        >>> run = sfumato.run("explain", prompts=["a red circle"], out="runs/first")  # doctest: +SKIP
        >>> run.counts.ok  # doctest: +SKIP
        1
    """
    place_of(out)
    chosen = find_task(task)
    rows = _Rows(chosen, prompts, common or {})
    plan = planned(task, options, rows, batch=batch, shard_size=shard_size)
    model = chosen.model if model is None else model
    source = ModelSource(model, device) if isinstance(model, str) else None
    if source is None and (workers > 1 or executor is not None):
        raise OptionError("other processes cannot share a model that is loaded here; give its name or its folder")
    loaded = as_model(model) if source is None else source.load()
    means = Means(source, executor, workers, part, retry, report, costs)
    return Run(execute(plan, loaded, out, means, restart=restart, as_new=as_new))


def resume_run(
    folder: str | os.PathLike[str],
    *,
    workers: int = 1,
    executor: Executor | None = None,
    retry: bool = False,
    report: Report = unreported,
    costs: CostReport | None = None,
) -> Run:
    """Go on with the run of a folder, by what stands in it.

    Raises:
        RunError: It holds no run, another process drives it, or the model or a library has changed.
    """
    source = ModelSource.of(settings_of(path_of(folder)))
    means = Means(source, executor, workers, retry=retry, report=report, costs=costs)
    return Run(resume(folder, source.load(), means))


def conclude_run(folder: str | os.PathLike[str]) -> Run:
    """Make the table, the maps and the finding of a run anew from its records.

    Raises:
        RunError: It holds no run, or another process drives it.
    """
    target = resolved(folder)
    task, options = task_of_records(settings_of(target))
    with held(target), Manifest(target) as manifest:
        conclude(manifest, task, options)
    return Run(target)


class _Rows:
    """The prompts of a run, drawn anew each time that they are asked for."""

    def __init__(self, task: Task, prompts: Prompts | None, common: Mapping[str, Any]) -> None:
        self._common = dict(common)
        if task.prompts is None:
            if prompts is not None:
                raise OptionError(f"{task.name} plans its requests by itself; leave out the prompts")
            self._given: Any = ()
            return
        if prompts is None and not task.prompts.usual:
            raise RequestError(f"{task.name} needs prompts; give a file, such as prompts.csv, or a list of texts")
        given: Any = task.prompts.usual if prompts is None else prompts
        if isinstance(given, int):
            count = checked_int("prompts", given, **COUNT, error=OptionError)
            seed = checked_int("seed", self._common.get("seed", 0), **SEED, error=RequestError)
            given = task.prompts.of(count, seed) if task.prompts.seeded else task.prompts.of(count)
        self._given = given if isinstance(given, str | os.PathLike) else list(given)  # an iterator would be spent
        next(iter(self()), None)  # what cannot be read is said before a model is loaded

    def __call__(self) -> Iterable[Row]:
        if isinstance(self._given, str | os.PathLike):
            return read_rows(self._given, common=self._common)
        return rows_of(self._given, common=self._common)
