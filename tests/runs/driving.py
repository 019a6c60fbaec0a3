"""Driving runs of the made-up task, and looking at what they leave."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sfumato.models.model import Model
from sfumato.runs.execute import Means, execute
from sfumato.runs.manifest import Counts, Manifest
from sfumato.runs.planning import planned
from sfumato.runs.prompts import rows_of

PROMPTS = [f"a cat number {number}" for number in range(10)]


def drive(
    model: Model,
    out: Path,
    prompts: Sequence[Any] = PROMPTS,
    *,
    means: Means | None = None,
    batch: int = 2,
    shard_size: int = 4,
    restart: bool = False,
    as_new: bool = False,
    task: str = "made-up",
    **options: Any,
) -> Path:
    """Carry out a run."""
    plan = planned(task, options, lambda: rows_of(prompts), batch=batch, shard_size=shard_size)
    return execute(plan, model, out, means or Means(), restart=restart, as_new=as_new)


def counts(out: Path) -> Counts:
    with Manifest(out) as manifest:
        return manifest.counts


def reasons(out: Path) -> dict[int, str]:
    """Why rows have no record, by their places."""
    with Manifest(out) as manifest:
        return {row.place: row.reason for row in manifest.unmeasured()}


def table(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(out / "items.parquet").to_pylist()
    return rows


def finding(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "finding.json").read_text())
    return found


def contents(out: Path) -> Mapping[str, bytes]:
    """Every file of a run but its database, which holds times."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and not path.name.startswith("items.sqlite")
    }


def measured(log: Path) -> list[str]:
    """Every prompt that was measured, as often as it was."""
    return log.read_text().splitlines() if log.exists() else []
