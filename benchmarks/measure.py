"""Measures one case in the environment of the peers and writes what it found as JSON; started by watching.py.

All contenders run in one process on one pipeline, one after another, in an order that moves on by one place each
round. A ratio compares two runs of the same round, so a machine that becomes slower meanwhile favours nobody.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from benchmarks.cases import CASES, Case, Job
from benchmarks.contenders import RUN, Contender
from benchmarks.meter import Cost, metered
from tests import pipelines

VERSIONS = ("sfumato", "daam", "attention-map-diffusers", "torch", "diffusers", "transformers")


@dataclass(frozen=True)
class Row:
    """What a table says about one contender.

    Attributes:
        contender: Its name.
        ratio: Median over rounds of its time divided by the plain time of the same round.
        low: Smallest ratio of a round.
        high: Largest ratio of a round.
        extra_mb: Median of its peak of memory less the median of the plain peak.
        image_difference: Largest difference of a pixel from the plain image, in levels of 255.
        failure: Why there are no numbers.
    """

    contender: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    extra_mb: float | None = None
    image_difference: int | None = None
    failure: str | None = None


def measure(case: Case, names: Sequence[str], rounds: int, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Run every contender ``rounds`` times and compare with the plain pipeline."""
    pipeline = pipelines.stable_diffusion(getattr(pipelines, case.shape))
    pipeline.to(device) if dtype == torch.float32 else pipeline.to(device, dtype)
    failures: dict[str, str] = {}
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    pictures: dict[str, npt.NDArray[np.uint8]] = {}
    for name in names:  # imports, caches and kernels are not what is measured
        try:
            RUN[name](pipeline, replace(case.job, steps=1))
        except Exception as error:  # a peer that does not run is a result
            failures[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    running = [name for name in names if name not in failures]
    for number in range(rounds):
        turn = number % len(running)
        for name in [*running[turn:], *running[:turn]]:
            cost, images = _once(RUN[name], pipeline, case.job, device)
            costs[name].append(cost)
            pictures[name] = np.stack([np.asarray(image) for image in images])
    rows = [Row(n, failure=failures[n]) if n in failures else _row(n, costs, pictures) for n in names]
    return {
        "title": case.title,
        "prompt": case.job.prompt,
        "rounds": rounds,
        "plain_seconds": statistics.median(cost.seconds for cost in costs["plain"]),
        "rows": [asdict(row) for row in rows],
        "runs": {name: [asdict(cost) for cost in costs[name]] for name in running},
    }


def _once(contender: Contender, pipeline: Any, job: Job, device: torch.device) -> tuple[Cost, list[Image.Image]]:
    with metered(device) as cost:
        images = contender(pipeline, job)
    return cost, images


def _row(name: str, costs: dict[str, list[Cost]], pictures: dict[str, npt.NDArray[np.uint8]]) -> Row:
    plain = costs["plain"]
    ratios = [own.seconds / other.seconds for own, other in zip(costs[name], plain, strict=True)]
    peak, usual = (statistics.median(cost.peak_mb for cost in costs[each]) for each in (name, "plain"))
    apart = np.abs(pictures[name].astype(int) - pictures["plain"].astype(int)).max()
    extra = None if np.isnan(peak - usual) else peak - usual
    return Row(name, statistics.median(ratios), min(ratios), max(ratios), extra, int(apart))


def main() -> None:
    """Measure the case that the arguments name."""
    parser = argparse.ArgumentParser(description="Measure one case; start benchmarks/watching.py instead")
    parser.add_argument("case", choices=CASES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--contenders", nargs="+", required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # daam uses calls that torch has deprecated
    device = torch.device(given.device)
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    found = measure(CASES[given.case], given.contenders, given.rounds, device, dtype)
    found["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    found["dtype"] = str(dtype).removeprefix("torch.")
    found["threads"] = torch.get_num_threads()
    found["versions"] = {name: version(name) for name in VERSIONS} | {"python": platform.python_version()}
    given.out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
