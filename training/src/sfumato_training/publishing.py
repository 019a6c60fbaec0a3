"""A trained model as a folder inside the package: written beside its place, small enough, put there by renaming."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sfumato.errors import StoreError
from sfumato.models.loading import STUDIO
from sfumato.reading import read_json
from sfumato.writing.folders import write_folder

WEIGHTS = STUDIO
"""Where the shipped models lie, and an export goes unless told otherwise."""

LIMIT_MB = 25.0
"""No shipped model may be larger."""


def millions(module: Any) -> float:
    """Parameters of a network, in millions."""
    return float(sum(parameter.numel() for parameter in module.parameters()) / 1e6)


def replace_model(folder: Path, write: Callable[[Path], None]) -> Path:
    """Fill a folder next to `folder`, and put it in its place if it is small enough and what is there may go."""
    with write_folder(folder) as stage:
        write(stage)
        megabytes = sum(path.stat().st_size for path in stage.rglob("*") if path.is_file()) / 1e6
        if megabytes >= LIMIT_MB:
            raise StoreError(f"{folder.name} would take {megabytes:.1f} MB; it must stay under {LIMIT_MB:.0f} MB")
    return folder


def load_in_full(path: Path) -> None:
    """Let transformers load weights stored in half precision as float32, as diffusers does, unless asked otherwise."""
    config = read_json(path)
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        if "dtype" in part:
            part["dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def table(name: str, quality: Mapping[str, Any]) -> str:
    """Measured numbers as a table of Markdown; shares from 0 to 1 as percentages."""
    if not quality:
        return f"Not measured yet: run `sfumato studio score {name}`."
    shown = {what: f"{value:.1%}" if isinstance(value, float) else str(value) for what, value in quality.items()}
    rows = [f"| {what.replace('_', ' ')} | {value} |" for what, value in shown.items()]
    return "\n".join(["| what | measured |", "| --- | --- |", *rows])
