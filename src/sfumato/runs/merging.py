"""Putting parts of a run together that were measured apart, as by ``--shard 3/16`` on machines without a cluster."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from sfumato.bounds import shown_path
from sfumato.errors import RunError, StoreError
from sfumato.runs.concluding import conclude
from sfumato.runs.execute import place_of
from sfumato.runs.manifest import Manifest, copy_plan
from sfumato.runs.own import INPUTS
from sfumato.runs.settings import settings_of, write_settings
from sfumato.runs.task import task_of_records
from sfumato.writing.folders import replacing_folder, resolved

ELSEWHERE = frozenset({"model", "device", "more"})
"""Settings that parts may differ in, for a model may lie elsewhere on another machine; its identity may not."""


def merge(parts: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Path:
    """Make one run of several of the same plan: the records of all of them, and what they show together.

    Items that no part has measured stay open, so the merged run can be resumed like any other.

    Args:
        parts: Folders of runs; they stay as they are.
        out: A new or an empty folder.

    Returns:
        The folder.

    Raises:
        RunError: A folder holds no run or another one, or two have measured the same items.
        StoreError: `out` is not empty, a shard is damaged, or something cannot be written; then nothing is.
    """
    if not parts:
        raise RunError("there is nothing to merge; give the folders of the parts")
    target = place_of(out)
    folders = [resolved(one) for one in parts]
    settings = settings_of(folders[0])
    for one in folders[1:]:
        other = settings_of(one)
        if odd := [name for name in settings if settings[name] != other.get(name) and name not in ELSEWHERE]:
            raise RunError(
                f"{shown_path(one)} is a run of another plan than {shown_path(folders[0])} ({', '.join(odd)} differ); "
                "merge parts of one run"
            )
    task, options = task_of_records(settings)
    with replacing_folder(target, _check_empty, shown_path(target)) as stage:
        if (folders[0] / INPUTS).exists():
            shutil.copytree(folders[0] / INPUTS, stage / INPUTS)
        copy_plan(folders[0], stage)
        write_settings(stage, {name: settings[name] for name in settings if name not in ("format", "version")})
        with Manifest(stage) as manifest:
            for folder in folders:
                with Manifest(folder) as part:
                    manifest.adopt(part)
            conclude(manifest, task, options)
    return target


def _check_empty(folder: Path, named: str) -> None:
    if left := sorted(os.listdir(folder)):
        raise StoreError(f"{named} is not empty ({', '.join(left[:3])}); name a new or empty folder")
