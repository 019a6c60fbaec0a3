"""What a run is asked for: its task, its rows and its model, and the plan of items that follows from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.bounds import checked_int, shown
from sfumato.caching.cache import digest
from sfumato.errors import ModelError, OptionError, RequestError, SfumatoError
from sfumato.models.identity import identity_digest
from sfumato.option_values import BATCH
from sfumato.request import Request
from sfumato.runs.manifest import Manifest, Planning
from sfumato.runs.prompts import Row, ValidRows
from sfumato.runs.settings import library_versions, settings_of, write_settings
from sfumato.runs.task import ModelFacts, Task, find_task, plain_options
from sfumato.runs.worker import ModelSource, request_to

if TYPE_CHECKING:
    from sfumato.models.model import Model

SHARD = 32
"""Items of a shard where the task names no number, or a batch where that is more: what a kill can cost."""


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
    size = task.shard or max(SHARD, batch)
    if shard_size is not None:
        size = checked_int("shard_size", shard_size, 1, 100_000, OptionError)
    return Plan(task, task.configure(options), rows, min(batch, size), size)


def facts_of(model: Model) -> ModelFacts:
    """What plans may depend on."""
    from sfumato.models.notes import regions_of

    try:
        usual: Request = model.complete(Request("a" if "words" in model.features else ""))
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


def settings_for(plan: Plan, model: Model, source: ModelSource | None) -> dict[str, Any]:
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


def differences_of(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
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


class Summary:
    """The number of rows of a plan, the digest of their keys and that of all else in them, taken as they pass by."""

    def __init__(self) -> None:
        self.rows, self._keys, self._columns = 0, hashlib.sha256(), hashlib.sha256()

    def of(self, plan: Iterable[Planning]) -> Iterator[Planning]:
        """The same rows; they are counted as they are drawn."""
        for one in plan:
            self.rows += 1
            self._keys.update((one.key or "-").encode())
            self._columns.update(json.dumps([one.line, one.kept, one.reason]).encode())
            yield one

    @property
    def settings(self) -> dict[str, Any]:
        """What the settings of a run hold of its plan."""
        return {"rows": self.rows, "plan": self._keys.hexdigest(), "columns": self._columns.hexdigest()}


@dataclass(frozen=True)
class Asked:
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
        if differences := differences_of(found, self.settings):
            return differences
        summary = Summary()
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
