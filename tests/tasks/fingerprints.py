"""Numbers of every task on an embedded model, by which a test notices that they changed while its version did not.

`python -m tests.tasks.fingerprints TASK ...` measures and stores those of some tasks, or of all.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import sfumato
from sfumato.models.model import Model
from sfumato.runs.task import Task, find_task, tasks

STORED = Path(__file__).with_name("fingerprints.json")
COMMAND = "python -m tests.tasks.fingerprints"
STEPS: dict[str, Any] = {"common": {"steps": 2}}
GIVEN: dict[str, dict[str, Any]] = {
    "ablation": {"seeds": 1, "steps": 2},
    "calibration": STEPS | {"prompts": 5, "samples": 2},
    "emergence": {"seeds": 2, "steps": 20},
    "judge": STEPS | {"prompts": ("a green ring",), "method": ("daam",), "check": ("removal",)},
    "localisation": {"seeds": 1, "steps": 4, "mask": "mouth"},
    "map_faithfulness": STEPS | {"prompts": 1, "samples": 2, "only": ("daam", "information")},
    "reference_pointing": {"pairs": 2},
    "step_faithfulness": {"common": {"steps": 4}, "prompts": 1, "masks": 4},
    "word_localisation": STEPS | {"prompts": 2, "metrics": ("mIoU@0.4", "AP", "pointing")},
    "word_shares": STEPS | {"prompts": 1, "samples": 2},
}
"""What a run is given, where it is not two prompts or two seeds, of two or four steps."""
DIGITS = 5


@cache
def model_of(name: str) -> Model:
    return sfumato.load(name, device="cpu")


def given_to(task: Task) -> dict[str, Any]:
    """The arguments of a small run."""
    if task.name in GIVEN:
        return GIVEN[task.name]
    if task.prompts is None:
        return {"seeds": 2, "steps": 4}
    return STEPS | {"prompts": 2 if task.prompts.usual else ("a green ring", "a red circle")}


def measured(name: str) -> dict[str, Any]:
    """The version of a task, and for every number of its records how many there are, their mean and their spread."""
    task = find_task(name)
    numbers: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = sfumato.run(name, model_of(task.model), out=Path(folder) / "run", **given_to(task))
        for _, record in run.records():
            parts = {"values": record.values, "rows": list(record.rows), "arrays": record.arrays, "maps": record.maps}
            if record.picture is not None:
                parts["picture"] = record.picture
            for place, values in _leaves(parts, ""):
                numbers.setdefault(place, []).extend(values)
    found = {}
    for place, values in sorted(numbers.items()):
        finite = np.asarray(values)[np.isfinite(values)]
        if finite.size:
            spread = (float(f"{one:.{DIGITS}g}") for one in (finite.mean(), finite.std()))
            found[place] = [float(finite.size), *spread]
    return {"version": task.version, "numbers": found}


def _leaves(value: Any, place: str) -> Iterator[tuple[str, list[float]]]:
    """Every number with its place; those of a list share one."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            if name != "seconds":
                yield from _leaves(one, f"{place}/{name}")
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _leaves(one, place)
    elif isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        yield place, value.astype(np.float64).ravel().tolist()
    elif isinstance(value, bool | int | float):
        yield place, [float(value)]


def stored() -> dict[str, Any]:
    """What was measured when each task got its version."""
    found: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    chosen = sys.argv[1:] or [task.name for task in tasks()]
    for one in chosen:
        kept = (stored() if STORED.exists() else {}) | {one: measured(one)}
        STORED.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
