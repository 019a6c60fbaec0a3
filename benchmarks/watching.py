"""What watching costs: CPU time and memory of Sfumato and its peers, as ratios to the plain pipeline.

    .venv/bin/python benchmarks/watching.py                     the three cases on a CPU, one thread, five rounds
    .venv/bin/python benchmarks/watching.py --case narrow-256   one of them
    .venv/bin/python benchmarks/watching.py --device cuda       batch 1 and batch 8 on a GPU
    .venv/bin/python benchmarks/watching.py --json              everything measured, as JSON

Nothing is downloaded but the two peers, into an environment of their own (peers.py).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks import peers
from benchmarks.cases import CASES, CONTENDERS

# Memory is measured in a second process, whose allocator returns every block above 64 kB to the system at once: else
# what one run leaves in the heap hides what the next one needs. Times there mean nothing.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def main() -> int:
    """Measure what the arguments name and print it."""
    given = _arguments()
    notes = Console(stderr=True)
    chosen = given.case or [name for name, case in CASES.items() if case.device == given.device]
    usual = [name for name, always in CONTENDERS.items() if always or given.all]
    names = list(dict.fromkeys(["plain", *(given.contenders or usual)]))  # plain is what the others are divided by
    environment = peers.prepare(notes.print, again=given.again)
    for wanted, error in environment.failures.items():
        notes.print(f"{wanted} does not install: {error}")
    found = []
    for case in chosen:
        rounds = given.rounds or CASES[case].rounds
        notes.print(f"{CASES[case].title}: {rounds} rounds of {', '.join(names)}")
        try:
            measured = _measured(environment, case, rounds, names, given)
            if given.device == "cpu":
                apart = _measured(environment, case, 1, names, given, ALLOCATOR)
                for row, other in zip(measured["rows"], apart["rows"], strict=True):
                    row["extra_mb"] = other["extra_mb"]
        except subprocess.CalledProcessError as error:
            notes.print(f"measuring {case} ended with status {error.returncode}")
            return 1
        found.append(measured)
    if given.json:
        print(json.dumps({"uninstallable": environment.failures, "cases": found}, indent=2))
        return 0
    for measured in found:
        Console(width=None if sys.stdout.isatty() else 110).print(_table(measured))
    return 0


def _measured(
    environment: peers.Peers,
    case: str,
    rounds: int,
    names: Sequence[str],
    given: argparse.Namespace,
    surroundings: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What a process of its own finds for one case."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        asked = [case, str(out), "--rounds", str(rounds), "--device", given.device, "--contenders", *names]
        status = peers.run(environment, "benchmarks.measure", *asked, threads=given.threads, surroundings=surroundings)
        if status:
            raise subprocess.CalledProcessError(status, "benchmarks.measure")
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return {"case": case, "load": os.getloadavg()[0], **found}


def _table(found: dict[str, Any]) -> Table:
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    table = Table(
        title=found["title"],
        caption=(
            f"{found['device']}, {found['dtype']}, {found['threads']} thread(s), medians of {found['rounds']} rounds, "
            f"plain {found['plain_seconds']:.2f} s, load of the machine {found['load']:.1f}\n{versions}"
        ),
        caption_justify="left",
    )
    table.add_column("contender")
    for heading in ("time / plain", "lowest", "highest", "extra memory, MB", "image differs by"):
        table.add_column(heading, justify="right")
    for row in found["rows"]:
        if row["failure"]:
            table.add_row(row["contender"], f"does not run: {row['failure']}")
            continue
        extra = "?" if row["extra_mb"] is None else f"{row['extra_mb']:.1f}"
        numbers = [f"{row[name]:.3f}" for name in ("ratio", "low", "high")]
        table.add_row(row["contender"], *numbers, extra, f"{row['image_difference']}/255")
    return table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=CASES, help="several are possible; those of the device")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, help="runs of every contender; 5, and 3 at real widths on a CPU")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, help="these and the plain pipeline")
    parser.add_argument("--all", action="store_true", help="also the parity mode and a peer's last-step mode")
    parser.add_argument("--again", action="store_true", help="make the environment of the peers anew")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
