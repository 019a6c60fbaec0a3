"""What came out of a run: a verdict, a sentence, a table and a figure."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from sfumato.bounds import shown, shown_path
from sfumato.errors import RunError, Unreadable
from sfumato.metrics import Outcome
from sfumato.metrics.registry import MEASURE, about_metrics
from sfumato.reading import read_json
from sfumato.results.interval import Interval
from sfumato.results.rows import as_csv
from sfumato.runs.settings import SETTINGS
from sfumato.writing.files import replacing_file, write_text
from sfumato.writing.json_text import json_text

FILES = ("finding.json", "table.csv", "figure.png")
"""What every finding is written as."""
OWN_NAME = re.compile(r"[a-z0-9_]+\.json")
"""Names that files of a finding's own may have, beside those of `FILES` and of the run."""


@dataclass(frozen=True)
class Finding:
    """What came out.

    Attributes:
        name: Of the task.
        source: The claim that it tests, in one sentence; "" where it tests none.
        verdict: "replicated", "not replicated" or "inconclusive" (see `sfumato.metrics.verdicts`); None without a
            claim.
        sentence: The measured result, computed from the numbers.
        rows: The table; a cell is a number, an `Interval`, text or None.
        figure: The picture, where there is one.
        about: Model, seeds, steps and what else the numbers depend on.
        files: Texts of further files by their names, such as ``weights.json``, for use elsewhere.

    Raises:
        RunError: A file cannot have its name.
    """

    name: str
    source: str
    verdict: Outcome | None
    sentence: str
    rows: Sequence[Mapping[str, Any]]
    figure: Image.Image | None
    about: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the names of the files."""
        if wrong := [name for name in self.files if not _may_be_own(name)]:
            raise RunError(
                f"{self.name} cannot have a file {shown(wrong[0])}; expected lowercase letters, digits and _ before "
                f".json, and neither {SETTINGS} nor finding.json"
            )

    @property
    def written(self) -> tuple[str, ...]:
        """Names of the files that it is written as."""
        return (*self.files, *(name for name in FILES if name != "figure.png" or self.figure is not None))

    def to_json(self) -> str:
        """All as JSON text but the figure and what the files hold; an interval is ``{"value", "low", "high", "n"}``.

        The metrics among the columns stand in "metrics", each with its direction, bounds, unit and source.
        """
        parts = {part: getattr(self, part) for part in ("name", "source", "verdict", "sentence", "about")}
        metrics = about_metrics(name for row in self.rows for name in (*row, row.get(MEASURE)))
        named = {"files": list(self.files)} if self.files else {}
        return json_text(parts | {"metrics": metrics, "rows": self.rows} | named, ascii_only=True)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Finding:
        """A finding as `to_json` wrote it, without its figure and its files."""
        rows = [{name: _interval(cell) for name, cell in row.items()} for row in found["rows"]]
        parts = {name: found[name] for name in ("name", "source", "verdict", "sentence", "about")}
        return cls(**parts, rows=rows, figure=None)

    def write(self, folder: Path) -> None:
        """Write figure.png, table.csv, finding.json and its own files, which the latter names, into a folder.

        Raises:
            RunError: A file of this name is there that no finding of the folder has written; nothing is changed.
        """
        before = written_in(folder)
        for name in self.files:
            if name not in before and os.path.lexists(folder / name):
                raise RunError(
                    f"{shown_path(folder / name)} is no file of this run, so it is not replaced; move it away"
                )
        if self.figure is not None:
            with replacing_file(folder / "figure.png") as opened:
                self.figure.save(opened, "PNG")
        write_text(folder / "table.csv", as_csv(self.rows))
        write_text(folder / "finding.json", self.to_json() + "\n")
        for name, text in self.files.items():
            write_text(folder / name, text)


def written_in(folder: Path) -> tuple[str, ...]:
    """Names of what the finding of a folder is written as; those of its own files stand in finding.json."""
    try:
        found = read_json(folder / "finding.json")
    except Unreadable:
        return FILES
    named = found.get("files") if isinstance(found, dict) else None
    own = named if isinstance(named, list) else []
    return (*(name for name in own if isinstance(name, str) and _may_be_own(name)), *FILES)


def _may_be_own(name: str) -> bool:
    return OWN_NAME.fullmatch(name) is not None and name not in (*FILES, SETTINGS)


def _interval(cell: Any) -> Any:
    """A cell of a table; what was an interval is one again."""
    return (
        Interval.from_dict(cell) if isinstance(cell, Mapping) and {"value", "low", "high", "n"} <= set(cell) else cell
    )
