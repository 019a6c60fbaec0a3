"""Carrying out a run: plan the items, measure those without a record, conclude from all records."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.bounds import checked_int, shown, shown_path
from sfumato.cache import digest
from sfumato.errors import ModelError, OptionError, RequestError, RunError, SfumatoError, StoreError
from sfumato.models.identity import identity_digest
from sfumato.option_values import BATCH
from sfumato.request import Request
from sfumato.runs.concluding import WRITTEN, conclude
from sfumato.runs.executors.executor import Executor
from sfumato.runs.executors.local import Local
from sfumato.runs.executors.processes import Processes
from sfumato.runs.executors.ray_worker import TOKEN
from sfumato.runs.manifest import (
    DATABASE,
    SETTINGS,
    Counts,
    Manifest,
    Planning,
    create,
    is_planned,
    library_versions,
    mark_unplanned,
    settings_of,
    write_settings,
)
from sfumato.runs.own import INPUTS, SHARDS, remove_own
from sfumato.runs.prompts import Row, ValidRows
from sfumato.runs.task import ModelFacts, Task, find_task, plain_options
from sfumato.runs.worker import Job, ModelSource, Work, request_to, shards_of
from sfumato.writing.folders import resolved
from sfumato.writing.locks import alone
from sfumato.writing.reasons import cannot_write, is_about, make_parents, remove_empty
from sfumato.writing.stages import free_name, sweep

if TYPE_CHECKING:
    from sfumato.models.model import Model

SHARD = 32
"""Items of a shard by default, but never fewer than a batch: what a kill can cost."""
LOCK = ".lock"


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


def unreported(status: Status) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Plan:
    """What a run was asked for.

    Attributes:
        task: Its task.
        options: Of the task, configured.
        rows: The prompts, for tasks that read them; drawn only where a plan is made.
        batch: Items that are measured together at most.
        shard_size: Items of a shard.
    """

    task: Task
    options: Any
    rows: Callable[[], Iterable[Row]]
    batch: int
    shard_size: int


def planned(
    name: str,
    options: Mapping[str, Any],
    rows: Callable[[], Iterable[Row]],
    *,
    batch: int = 8,
    shard_size: int | None = None,
) -> Plan:
    """Check what a run is asked for.

    Raises:
        UnknownTask: There is no such task.
        OptionError: An option, the batch or the size of a shard is unusable.
    """
    task = find_task(name)
    batch = checked_int("batch", batch, **BATCH, error=OptionError)
    size = max(SHARD, batch) if shard_size is None else checked_int("shard_size", shard_size, 1, 100_000, OptionError)
    return Plan(task, task.configure(options), rows, batch, size)


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
    """

    source: ModelSource | None = None
    executor: Executor | None = None
    workers: int = 1
    part: tuple[int, int] = (1, 1)
    retry: bool = False
    report: Report = unreported


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
    folder = resolved(out)
    asked = _Asked(plan, model, facts, _settings(plan, model, means.source))
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
    task = find_task(settings["task"])
    options = task.configure(settings["options"])
    now = settings | {
        "task_version": task.version,
        "identity": identity_digest(model),
        "versions": library_versions(),
    }
    with held(folder):
        if differences := _differences(settings, now):
            raise RunError(f"{shown_path(folder)} cannot be resumed: {'; '.join(differences)}")
        _carry_out(folder, task, options, model, means)
    return folder


def _carry_out(folder: Path, task: Task, options: Any, model: Model, means: Means) -> None:
    with Manifest(folder) as manifest:
        manifest.reopen_damaged()
        settings = manifest.settings
        source = means.source or ModelSource(settings["model"], settings["device"], settings["more"])
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
        measure(manifest, job, chosen, part=means.part, retry=means.retry, report=means.report)
        conclude(manifest, task, options)


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


def facts_of(model: Model) -> ModelFacts:
    """What plans may depend on."""
    from sfumato.models.notes import regions_of

    try:
        usual = model.complete(Request("a" if "words" in model.features else ""))
    except (RequestError, ModelError):  # it needs a picture, whose size the image has
        usual = Request()
    return ModelFacts(
        model.source.name,
        model.family,
        frozenset(model.features),
        int(usual.height or 0),
        int(usual.width or 0),
        tuple(regions_of(model.pipeline)),
    )


def _settings(plan: Plan, model: Model, source: ModelSource | None) -> dict[str, Any]:
    """What the records of a run depend on, and how they are made."""
    source = source or ModelSource(model.source.name)
    return {
        "task": plan.task.name,
        "task_version": plan.task.version,
        "options": plain_options(plan.options),
        "model": source.name,
        "device": source.device,
        "more": dict(source.more),
        "identity": identity_digest(model),
        "versions": library_versions(),
        "batch": plan.batch,
        "shard_size": plan.shard_size,
    }


_COMPARED = ("task", "task_version", "options", "identity", "versions", "shard_size", "batch")


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What differs between a run in a folder and one that is wanted, in words."""
    differences = []
    for name in _COMPARED:
        old, new = found.get(name), wanted[name]
        if old == new:
            continue
        if isinstance(new, Mapping) and isinstance(old, Mapping):
            differences += [
                f"{one} is {shown(new.get(one))}, there {shown(old.get(one))}"
                for one in sorted({*old, *new})
                if old.get(one) != new.get(one)
            ]
        elif name != "identity":
            differences.append(f"{name.replace('_', ' ')} is {shown(new)}, there {shown(old)}")
        elif found["model"] == wanted["model"]:
            differences.append("the model's files, settings or device are others")
        else:
            differences.append(f"model is {shown(wanted['model'])}, there {shown(found['model'])}")
    return differences


def _begin(asked: _Asked, folder: Path) -> None:
    """Plan a run in a new or an empty folder, or in one where a plan was not finished."""
    sweep(folder)
    left = sorted(name for name in os.listdir(folder) if name != LOCK)
    if left and SETTINGS not in left:
        raise RunError(
            f"{shown_path(folder)} is not empty and holds no run ({', '.join(left[:3])}); name a new or empty folder"
        )
    summary = _Summary()
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


class _Summary:
    """The number of rows of a plan, the digest of their keys and that of all else in them, taken as they pass by."""

    def __init__(self) -> None:
        self.rows, self._keys, self._columns = 0, hashlib.sha256(), hashlib.sha256()

    def of(self, plan: Iterable[Planning]) -> Iterator[Planning]:
        for one in plan:
            self.rows += 1
            self._keys.update((one.key or "-").encode())
            self._columns.update(json.dumps([one.line, one.kept, one.reason]).encode())
            yield one

    @property
    def settings(self) -> dict[str, Any]:
        return {"rows": self.rows, "plan": self._keys.hexdigest(), "columns": self._columns.hexdigest()}


@dataclass(frozen=True)
class _Asked:
    """A run that is asked for.

    Attributes:
        plan: What to do.
        model: The model.
        facts: About it.
        settings: What its records depend on.
    """

    plan: Plan
    model: Model
    facts: ModelFacts
    settings: Mapping[str, Any]

    def planned(self, folder: Path | None = None) -> Iterator[Planning]:
        """Every row of the input, in order, with the key and the request of its item or why it is invalid.

        Args:
            folder: Where pictures are kept; without it, items have keys alone.
        """
        common = {name: self.settings[name] for name in ("task", "task_version", "options", "identity", "versions")}
        prefix = digest(common)
        complete = _Completing(self.model)
        rows = ValidRows(self.plan.rows)

        def refused() -> Iterator[Planning]:
            yield from (Planning(row.line, row.kept, reason=row.reason) for row in rows.invalid)
            rows.invalid.clear()

        for place, item in enumerate(self.plan.task.parts.plan(self.facts, rows, self.plan.options)):
            yield from refused()
            if isinstance(item, Row):
                yield Planning(item.line, item.kept, reason=item.reason)
                continue
            line, kept = (place, {}) if item.row is None else (item.row.line, item.row.kept)
            try:
                request = complete(item.request)
            except SfumatoError as error:
                yield Planning(line, kept, reason=str(error))
                continue
            key = digest({"run": prefix, "request": request.key, "about": item.about})
            yield Planning(line, kept, key, {} if folder is None else request_to(folder, request), item.about)
        yield from refused()

    def differences(self, folder: Path, *, take_columns: bool = False) -> list[str]:
        """What differs between this run and the one in a folder, in words.

        Args:
            folder: Of a planned run.
            take_columns: Take over what the user's columns hold now, where nothing differs that is measured.
        """
        found = settings_of(folder)
        if differences := _differences(found, self.settings):
            return differences
        summary = _Summary()
        for _ in summary.of(self.planned()):
            pass
        now = summary.settings
        if found["plan"] != now["plan"]:
            return [f"the prompts are others, {now['rows']:,} rows, there {found['rows']:,}"]
        if take_columns and found["columns"] != now["columns"]:
            with Manifest(folder) as manifest:
                manifest.take_columns(self.planned())
            write_settings(folder, found | now)
        return []


class _Completing:
    """Completes requests; those that differ in prompt and seed alone are completed once."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._known: dict[Request, Request] = {}

    def __call__(self, request: Request) -> Request:
        usual = request.with_(prompt="a" if request.prompt else "", seed=0)
        if usual not in self._known:
            if len(self._known) > 1000:
                self._known.clear()
            self._known[usual] = self._model.complete(usual)
        return self._known[usual].with_(prompt=request.prompt, seed=request.seed)


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
        for name in (*sorted(WRITTEN), SHARDS, INPUTS, TOKEN, *DATABASE):
            remove_own(folder, name)
