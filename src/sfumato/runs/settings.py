"""The settings of a run, in ``manifest.json``: what every record depends on, and how the records are made.

While a run is planned, the file says no more than that; the settings are written when the whole plan stands.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sfumato.bounds import shown, shown_path
from sfumato.errors import RunError, Unreadable
from sfumato.reading import read_json
from sfumato.writing.files import write_text

FORMAT, VERSION = "sfumato-run", 1
SETTINGS = "manifest.json"
NEEDED = (
    *("task", "task_version", "options", "model", "device", "more", "identity", "versions", "batch", "shard_size"),
    *("rows", "plan", "columns"),
)
"""What the settings of every run hold."""
MOST_BYTES = 2**20
"""Of the settings."""
PLANNING = "planning"
"""What they hold instead until the plan is finished."""
LIBRARIES = ("sfumato", "torch", "diffusers", "transformers", "numpy")


def mark_unplanned(folder: Path) -> None:
    """Say in ``manifest.json`` that a folder is a run's, whose plan is not finished."""
    write_settings(folder, {PLANNING: True})


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write ``manifest.json``."""
    content = {"format": FORMAT, "version": VERSION} | dict(settings)
    write_text(folder / SETTINGS, json.dumps(content, indent=1) + "\n")


def is_planned(folder: Path) -> bool:
    """Whether a folder holds a run whose plan is finished.

    Raises:
        RunError: It holds a ``manifest.json`` of something else.
    """
    return (folder / SETTINGS).exists() and PLANNING not in _read_settings(folder)


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings of a run.

    Raises:
        RunError: The folder holds no run, one whose plan was not finished, or one of another version.
    """
    found = _read_settings(folder)
    if PLANNING in found:
        raise RunError(f"the plan of the run in {shown_path(folder)} is not finished; begin the run again as before")
    if lost := [name for name in NEEDED if name not in found]:
        raise RunError(f"the {SETTINGS} of the run in {shown_path(folder)} is damaged: it has no {lost[0]}")
    return found


def _read_settings(folder: Path) -> dict[str, Any]:
    try:
        found = read_json(folder / SETTINGS, MOST_BYTES)
    except Unreadable as error:
        raise RunError(
            f"{shown_path(folder)} holds no run ({SETTINGS}: {error.reason}); give the folder that "
            "`sfumato run NAME --out` named"
        ) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise RunError(f"{shown_path(folder)} holds no run: its {SETTINGS} is of another program")
    if found.get("version") != VERSION:
        raise RunError(
            f"the run in {shown_path(folder)} is of version {shown(found.get('version'))}; this Sfumato reads {VERSION}"
        )
    return found


def library_versions() -> dict[str, str]:
    """The versions that numbers depend on."""
    return {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()}
