"""Settings of a training, read from TOML into frozen dataclasses: one for each stage, inside one for the whole."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from sfumato.errors import TrainingError, Unreadable
from sfumato.reading import read_text


def read(path: Path) -> dict[str, Any]:
    """The plain values of a TOML file.

    Raises:
        TrainingError: It cannot be read.
    """
    try:
        return tomllib.loads(read_text(path))
    except (Unreadable, tomllib.TOMLDecodeError, RecursionError) as error:
        raise TrainingError(f"the training config {path} cannot be read: {error}") from error


def build(kind: Any, values: dict[str, Any]) -> Any:
    """A frozen dataclass from plain values; a field that is a dataclass itself takes a table.

    Args:
        kind: The dataclass; all its fields have defaults.
        values: As in the TOML file.

    Raises:
        TrainingError: A name is unknown or a value has the wrong type.
    """
    whole = kind()
    stages = {f.name: getattr(whole, f.name) for f in dataclasses.fields(kind)}
    stages = {name: stage for name, stage in stages.items() if dataclasses.is_dataclass(stage)}
    parts = {name: _filled(stage, values.get(name, {}), f"[{name}] ") for name, stage in stages.items()}
    top = {name: value for name, value in values.items() if name not in stages}
    return dataclasses.replace(_filled(whole, top, ""), **parts)


def _filled(defaults: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise TrainingError(f"{where}must be a table of settings, not {values!r}")
    names = [f.name for f in dataclasses.fields(defaults)]
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name not in names:
            raise TrainingError(f"{where}{name} is no setting; the settings are: {', '.join(names)}")
        default = getattr(defaults, name)
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if isinstance(default, tuple) and isinstance(value, list) and all(type(part) is int for part in value):
            value = tuple(value)
        if type(value) is not type(default):
            raise TrainingError(f"{where}{name} must be {type(default).__name__}, like {default!r}; got {value!r}")
        given[name] = value
    return dataclasses.replace(defaults, **given)
