"""What came out of a run: a verdict, a sentence, a table and a figure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from sfumato.metrics import Outcome
from sfumato.metrics.registry import about_metrics
from sfumato.results.interval import Interval
from sfumato.results.rows import as_csv, plain_rows
from sfumato.writing.files import replacing_file, write_text

FILES = ("finding.json", "table.csv", "figure.png")
"""What a finding is written as."""


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
    """

    name: str
    source: str
    verdict: Outcome | None
    sentence: str
    rows: Sequence[Mapping[str, Any]]
    figure: Image.Image | None
    about: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """All but the figure as JSON text; an interval is ``{"value", "low", "high", "n"}``.

        The metrics among the columns stand in "metrics", each with its direction, bounds, unit and source.
        """
        parts = {part: getattr(self, part) for part in ("name", "source", "verdict", "sentence", "about")}
        (plain,) = plain_rows([parts])
        metrics = about_metrics(column for row in self.rows for column in row)
        return json.dumps(plain | {"metrics": metrics, "rows": plain_rows(self.rows)}, indent=2)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Finding:
        """A finding as `to_json` wrote it, without its figure."""
        rows = [{name: _interval(cell) for name, cell in row.items()} for row in found["rows"]]
        parts = {name: found[name] for name in ("name", "source", "verdict", "sentence", "about")}
        return cls(**parts, rows=rows, figure=None)

    def write(self, folder: Path) -> None:
        """Write figure.png, table.csv and finding.json into a folder."""
        if self.figure is not None:
            with replacing_file(folder / "figure.png") as opened:
                self.figure.save(opened, "PNG")
        write_text(folder / "table.csv", as_csv(self.rows))
        write_text(folder / "finding.json", self.to_json() + "\n")


def _interval(cell: Any) -> Any:
    """A cell of a table; what was an interval is one again."""
    return (
        Interval.from_dict(cell) if isinstance(cell, Mapping) and {"value", "low", "high", "n"} <= set(cell) else cell
    )
