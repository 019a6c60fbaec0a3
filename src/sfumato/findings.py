"""What came out of an experiment or a study, and work on many requests that is done once for each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.cache import Cache, digest
from sfumato.metrics import Outcome
from sfumato.models.identity import identity, said
from sfumato.models.model import Model
from sfumato.registry import Method
from sfumato.request import Request
from sfumato.results.rows import as_csv, plain_rows
from sfumato.writing.files import replacing_file, write_text

KIND = "experiments"

Work = Callable[[Sequence[Request]], Sequence[Mapping[str, NDArray[Any]]]]
"""From some requests to named arrays for each."""


@dataclass(frozen=True)
class Finding:
    """What came out.

    Attributes:
        name: Of the experiment or the study.
        source: The source's finding, in one sentence.
        verdict: "replicated", "not replicated" or "inconclusive"; see `sfumato.metrics.verdicts`.
        sentence: The measured result, computed from the numbers.
        rows: The table; a cell is a number, an `Interval`, text or None.
        figure: The picture.
        about: Model, seeds, steps and what else the numbers depend on.
        items: What the table was computed from, a row for each word, pair or image; a study has them.
    """

    name: str
    source: str
    verdict: Outcome
    sentence: str
    rows: Sequence[Mapping[str, Any]]
    figure: Image.Image
    about: Mapping[str, Any] = field(default_factory=dict)
    items: Sequence[Mapping[str, Any]] = ()

    def to_json(self) -> str:
        """All but the figure and the items as JSON text; an interval is ``{"value", "low", "high", "n"}``."""
        parts = {part: getattr(self, part) for part in ("name", "source", "verdict", "sentence", "about")}
        (plain,) = plain_rows([parts])
        return json.dumps(plain | {"rows": plain_rows(self.rows)}, indent=2)

    def write(self, folder: Path) -> None:
        """Write figure.png, table.csv, finding.json, and items.csv where there are any, into a folder."""
        with replacing_file(folder / "figure.png") as opened:
            self.figure.save(opened, "PNG")
        write_text(folder / "table.csv", as_csv(self.rows))
        write_text(folder / "finding.json", self.to_json() + "\n")
        if self.items:
            write_text(folder / "items.csv", as_csv(self.items))


def one_by_one(work: Callable[[Request], Mapping[str, NDArray[Any]]]) -> Work:
    """Work on single requests as work on several."""
    return lambda requests: [work(request) for request in requests]


def remembered(
    model: Model,
    name: str,
    requests: Sequence[Request],
    work: Work,
    cache: Cache,
    told: Callable[[int, int], None],
    *,
    batch: int = 1,
    methods: Sequence[Method] = (),
    **about: Any,
) -> list[dict[str, NDArray[Any]]]:
    """What ``work`` gives for every request, taken from the cache where it was computed before.

    Args:
        model: What the result depends on, beside the request.
        name: Of the work.
        requests: Completed.
        work: Is given up to `batch` requests whose result is not known yet.
        cache: Keeps each result as soon as its batch is done.
        told: Told how many requests are done, of how many.
        batch: How many requests are worked on together.
        methods: Those by which the work explains; a result is of their version.
        about: What else the result depends on.
    """
    known = {"model": identity(model), "methods": {method.name: method.version for method in methods}}
    keys = [digest({"experiment": name, "request": request.key} | known | about) for request in requests]
    found: dict[str, dict[str, NDArray[Any]]] = {}
    waiting: dict[str, Request] = {}

    def work_off() -> None:
        made = work(list(waiting.values())) if waiting else ()
        for key, entry in zip(waiting, made, strict=True):
            found[key] = {part: np.asarray(value) for part, value in entry.items()}
            cache.put(KIND, key, found[key])
        waiting.clear()

    for number, (key, request) in enumerate(zip(keys, requests, strict=True)):
        if key not in found and key not in waiting:
            entry = cache.get(KIND, key)
            if entry is None:
                waiting[key] = request
            else:
                found[key] = entry
        if len(waiting) == batch or number + 1 == len(requests):
            work_off()
        told(number + 1 - len(waiting), len(requests))
    return [found[key] for key in keys]


def settings_of(options: Any) -> dict[str, Any]:
    """All options of a method for the key of the cache, defaults included; a file by its content."""
    given = {one.name: getattr(options, one.name) for one in fields(options)}
    files = {
        name: hashlib.sha256(Path(value).read_bytes()).hexdigest()
        for name, value in given.items()
        if isinstance(value, str | Path) and Path(value).is_file()
    }
    return said(given | files)
