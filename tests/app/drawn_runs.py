"""Folders of runs that no model has measured: items and records are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sfumato.runs.concluding import conclude
from sfumato.runs.manifest import Manifest, Planning, create
from sfumato.runs.settings import write_settings
from sfumato.runs.shards import Outcome, file_digest, write_shard
from sfumato.runs.task import Record, find_task

COLOURS = {"red": (200, 40, 30), "green": (40, 150, 60), "blue": (40, 70, 190)}
SHAPES = ("circle", "square", "triangle")


def make_run(folder: Path, *, ok: int = 9, concluded: bool = True, **settings: Any) -> Path:
    """A run with so many rows that are ok, one that failed, one that is invalid, and one that is open."""
    folder.mkdir(parents=True)
    plan = [
        Planning(line, {"id": f"p{line}"}, f"key{line}", {"prompt": prompt_of(line), "seed": line}, {})
        for line in range(ok + 2)
    ]
    bad = Planning(ok + 2, {"id": "bad"}, reason=f"the picture '{folder}/my cat.png' cannot be read: it is no PNG")
    create(folder, [*plan, bad])
    usual: dict[str, Any] = {
        "task": "generate",
        "task_version": 1,
        "options": {},
        "model": "studio/scenes",
        "device": None,
        "more": {},
        "identity": "0" * 64,
        "versions": {"sfumato": "0.1.0"},
        "batch": 8,
        "shard_size": 32,
        "rows": ok + 3,
        "plan": "0" * 64,
        "columns": "0" * 64,
    }
    write_settings(folder, usual | settings)
    outcomes = [Outcome(number, f"key{number}", "ok", record=_record(number)) for number in range(ok)]
    failed = Outcome(ok, f"key{ok}", "failed", "the image holds NaN")
    (folder / "shards").mkdir()
    shard = folder / "shards/00000.npz"
    write_shard(shard, [*outcomes, failed])
    with Manifest(folder) as manifest:
        manifest.note("shards/00000.npz", file_digest(shard), shard.stat().st_size, 1.0, [*outcomes, failed])
        if concluded:
            task = find_task("generate")
            conclude(manifest, task, task.configure({}))
    return folder


def prompt_of(number: int) -> str:
    """The prompt of an item."""
    return f"a {list(COLOURS)[number % 3]} {SHAPES[number // 3 % 3]}"


def files_of(folder: Path) -> Mapping[str, tuple[int, int]]:
    """All files below a folder, with size and time."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def _record(number: int) -> Record:
    picture = np.full((64, 64, 3), 225, np.uint8)
    picture[16:48, 16:48] = list(COLOURS.values())[number % 3]
    rows = [{"word": word, "coverage": 0.1 + number / 100} for word in prompt_of(number).split()[1:]]
    return Record(rows=rows, maps={"daam": np.zeros((2, 8, 8), np.float32)}, picture=picture)
