"""A trained model as a folder inside the package: written beside its place, small enough, put there by renaming."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sfumato.errors import StoreError
from sfumato.reading import read_json
from sfumato.studio.training.checkpoints import fsync_folder

WEIGHTS = Path(__file__).parents[1] / "weights"
"""Where the shipped models lie."""

LIMIT_MB = 25.0
"""No shipped model may be larger."""


def millions(module: Any) -> float:
    """Parameters of a network, in millions."""
    return float(sum(parameter.numel() for parameter in module.parameters()) / 1e6)


def replace_model(folder: Path, write: Callable[[Path], None]) -> Path:
    """Fill a folder beside `folder`, make it durable, and put it in its place."""
    partial, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("part", "old"))
    try:
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir(parents=True)
        write(partial)
        files = [path for path in partial.rglob("*") if path.is_file()]
        megabytes = sum(path.stat().st_size for path in files) / 1e6
        if megabytes >= LIMIT_MB:
            raise StoreError(f"{folder.name} would take {megabytes:.1f} MB; it must stay under {LIMIT_MB:.0f} MB")
        for path in files:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        fsync_folder(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
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
