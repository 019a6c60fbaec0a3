"""Carrying out a run: plan the items, measure those without a record, conclude from all records."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.bounds import shown_path
from sfumato.errors import RunError, SfumatoError, StoreError
from sfumato.models.identity import identity_digest
from sfumato.runs.concluding import WRITTEN, conclude
from sfumato.runs.executors.executor import Executor
from sfumato.runs.executors.local import Local
from sfumato.runs.executors.processes import Processes
from sfumato.runs.finding import written_in
from sfumato.runs.manifest import DATABASE, Counts, Manifest, create
from sfumato.runs.own import INPUTS, LOCK, SHARDS, TOKEN, remove_own
from sfumato.runs.planning import Asked, Plan, Summary, differences_of, facts_of, settings_for
from sfumato.runs.settings import SETTINGS, is_planned, library_versions, mark_unplanned, settings_of, write_settings
from sfumato.runs.task import Task, task_of
from sfumato.runs.worker import Job, ModelSource, Work, request_from, shards_of
from sfumato.writing.folders import resolved
from sfumato.writing.locks import alone
from sfumato.writing.reasons import cannot_write, is_about, make_parents, remove_empty
from sfumato.writing.stages import free_name, sweep

if TYPE_CHECKING:
    from sfumato.models.model import Model


@dataclass(frozen=True)
class Status:
    """How far a run is.

    Attributes:
        counts: Rows of the input by state.
        rate: Items in a second, since the run was begun or resumed.
        remaining: Seconds that the rest takes at this rate; None before the first item.
    """

    counts: Counts
    rate: float = 0.0
    remaining: float | None = None


Report = Callable[[Status], None]
CostReport = Callable[[Sequence[str]], None]


def unreported(status: Status) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Means:
    """How a run is carried out, which its records do not depend on.

    Attributes:
        source: How other processes load the model; needed where there are any.
        executor: Where shards are measured; in this process, or in `workers` of this machine.
        workers: Processes of this machine.
        part: Which of how many parts of the shards are measured, counted from 1.
        retry: Measure the items again that have failed.
        report: Told how far the run is, after every shard.
        costs: Told line by line what the run costs, once, before anything is measured.
    """

    source: ModelSource | None = None
    executor: Executor | None = None
    workers: int = 1
    part: tuple[int, int] = (1, 1)
    retry: bool = False
    report: Report = unreported
    costs: CostReport | None = None


def execute(
    plan: Plan, model: Model, out: str | os.PathLike[str], means: Means, *, restart: bool = False, as_new: bool = False
) -> Path:
    """Begin a run, or go on with it where its folder says that it stopped.

    Args:
        plan: What to do; see `planned`.
        model: The model; its identity is part of every key.
        out: The folder of the run: a new or an empty one, or that of the same run.
        means: How to do it.
        restart: Begin anew where the folder holds a run, whatever it is of; its records are lost.
        as_new: Leave a run of other settings as it is, and take the next free name.

    Returns:
        The folder.

    Raises:
        RunError: The folder holds other things, a run of other settings, or one that another process drives.
        StoreError: Something cannot be written; what was measured before stays.
        ModelError: The model lacks what the task needs.
    """
    facts = facts_of(model)
    plan.task.check(facts, model, plan.options)
    folder = place_of(out)
    asked = Asked(plan, model, facts, settings_for(plan, model, means.source))
    if as_new and is_planned(folder) and asked.differences(folder):
        folder = free_name(folder)
    with held(folder):
        if restart:
            _remove(folder)
        if not is_planned(folder):
            _begin(asked, folder)
        elif differences := asked.differences(folder, take_columns=True):
            raise RunError(
                f"{shown_path(folder)} holds a run of other settings ({'; '.join(differences)}); take these back, or "
                "use --as-new for another folder, or --restart to begin anew there"
            )
        _carry_out(folder, plan.task, plan.options, model, means)
    return folder


def resume(out: str | os.PathLike[str], model: Model, means: Means) -> Path:
    """Go on with the run of a folder by what stands in it, without its prompts.

    Raises:
        RunError: The folder holds no run, another process drives it, or the model or a library has changed.
        StoreError: Something cannot be written.
    """
    folder = resolved(out)
    settings = settings_of(folder)
    task, options = task_of(settings)
    now = settings | {
        "task_version": task.version,
        "identity": identity_digest(model),
        "versions": library_versions(),
    }
    with held(folder):
        if differences := differences_of(settings, now):
            raise RunError(f"{shown_path(folder)} cannot be resumed: {'; '.join(differences)}")
        _carry_out(folder, task, options, model, means)
    return folder


def _carry_out(folder: Path, task: Task, options: Any, model: Model, means: Means) -> None:
    with Manifest(folder) as manifest:
        manifest.reopen_damaged()
        settings = manifest.settings
        source = means.source or ModelSource.of(settings)
        job = Job(
            str(folder),
            task.name,
            settings["options"],
            settings["batch"],
            settings["identity"],
            settings["versions"],
            source,
        )
        chosen = means.executor
        if chosen is None:
            chosen = Local(model) if means.workers == 1 else Processes(means.workers)
        if means.costs is not None and (lines := _costs(manifest, task, options, model, retry=means.retry)):
            means.costs(lines)
        measure(manifest, job, chosen, part=means.part, retry=means.retry, report=means.report)
        conclude(manifest, task, options)


def _costs(manifest: Manifest, task: Task, options: Any, model: Model, *, retry: bool) -> list[str]:
    """What a run costs, line by line; nothing where nothing is left to measure."""
    first = next(chain(manifest.waiting(), manifest.waiting(failed=True) if retry else ()), None)
    if first is None:
        return []
    counts = manifest.counts
    try:
        request = model.complete(request_from(manifest.folder, first.request))
        return task.costs(model, request, counts.total - counts.invalid, options)
    except SfumatoError as error:  # it is the item that fails, once it is measured
        return [f"not known: {error}"]
    except Exception as error:  # of a task or a method of another package; a cost is only said
        return [f"not known: {type(error).__name__}: {error}"]


def measure(
    manifest: Manifest,
    job: Job,
    executor: Executor,
    *,
    part: tuple[int, int] = (1, 1),
    retry: bool = False,
    report: Report = unreported,
) -> None:
    """Measure what has no record, and note how each item ended."""
    size = int(manifest.settings["shard_size"])
    clock, measured = time.monotonic(), 0

    def mine() -> Iterator[Work]:
        # those to retry come first: what is open now and fails is not tried again in the same run
        for failed in (True, False) if retry else (False,):
            for work in shards_of(manifest.waiting(failed=failed), size):
                if work.shard % part[1] == part[0] - 1:
                    yield work

    report(Status(manifest.counts))
    for done in executor(job, mine()):
        manifest.note(done.file, done.sha256, done.size, done.seconds, done.outcomes)
        measured += len(done.outcomes)
        rate = measured / max(time.monotonic() - clock, 1e-9)
        counts = manifest.counts
        report(Status(counts, rate, counts.open / rate))


def _begin(asked: Asked, folder: Path) -> None:
    """Plan a run in a new or an empty folder, or in one where a plan was not finished."""
    sweep(folder)
    left = sorted(name for name in os.listdir(folder) if name != LOCK)
    if left and SETTINGS not in left:
        raise RunError(
            f"{shown_path(folder)} is not empty and holds no run ({', '.join(left[:3])}); name a new or empty folder"
        )
    summary = Summary()
    try:
        mark_unplanned(folder)
        create(folder, summary.of(asked.planned(folder)))
        if summary.rows == 0:
            raise RunError(f"{asked.plan.task.name} has nothing to do: there is no prompt and no item")
    except Exception:
        for name in (INPUTS, *DATABASE, SETTINGS):
            remove_own(folder, name)
        raise
    write_settings(folder, dict(asked.settings) | summary.settings)


def place_of(out: str | os.PathLike[str]) -> Path:
    """The folder that a run is to have, as an absolute path.

    Raises:
        StoreError: It can be none.
    """
    folder = resolved(out)
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        return folder
    except (OSError, ValueError) as error:
        raise cannot_write(shown_path(out), error) from error
    if not stat.S_ISDIR(mode):
        raise StoreError(f"{shown_path(out)} is a file; give the name of a folder")
    return folder


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder of a run and keep other drivers out of it; a folder that stays empty goes."""
    made: list[Path] = []
    try:
        made = make_parents(folder)
        with alone(folder / LOCK) as held:
            if not held:
                raise RunError(
                    f"another process drives the run in {shown_path(folder)}; wait for it, or follow it with: "
                    "sfumato run status"
                )
            yield
    except OSError as error:
        if isinstance(error, StoreError) or not is_about(error, folder):
            raise
        raise cannot_write(shown_path(folder), error) from error
    finally:
        remove_empty(made)


def _remove(folder: Path) -> None:
    """Remove what a run wrote into a folder, and nothing else; the folder remains one of a run."""
    if is_planned(folder):
        sweep(folder)
        mark_unplanned(folder)
    if (folder / SETTINGS).exists():
        for name in (*written_in(folder), *WRITTEN, SHARDS, INPUTS, TOKEN, *DATABASE):
            remove_own(folder, name)
