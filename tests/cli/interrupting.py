"""A program for tests: runs a command again and again in processes of its own and stops each at some moment.

Called with a model's folder and an empty folder; prints one JSON line for every run. The
first run warms this process up, then every run is a fork of it, so that many moments can be tried in a short time.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sfumato.results.opening import open as open_explanation

# What is there when a run reaches the moment: a pattern below the folder where the results will be.
MOMENTS = {
    "when it begins": ".sfumato-*",
    "the first picture": ".sfumato-*/new/*/image*.png",
    "the numbers": ".sfumato-*/new/*/summary.json",
    "the first array": ".sfumato-*/new/*/.sfumato-*/new/*/*/*/zarr.json",
    "all arrays": ".sfumato-*/new/*/explanation.zarr",
    "the list of files": ".sfumato-*/new/*/.sfumato.json",
    "the end": "out",
}
CTRL_C = {"when it begins", "the first picture", "the first array", "the list of files"}
OVER = {"the first array", "the list of files"}
LAST = 99  # the seed of the run that nothing stops


def explain(model: str, place: Path, seed: int) -> int:
    """Explain a prompt into ``place/out``."""
    from sfumato.cli import main

    given = ["explain", "a cat", "--model", model, "--steps", "2", "--size", "16x16", "--seed", str(seed)]
    return main([*given, "--json", "--out", str(place / "out")])


def started(work: Callable[[], int], place: Path) -> int:
    """The number of a process that does some work and logs what it says."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        log = os.open(place / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = work()
    finally:
        os._exit(code)


def ended(work: Callable[[], int], place: Path, pattern: str, number: signal.Signals) -> int:
    """The exit code of work that got a signal when a pattern found a new path, or that was done before."""
    before = set(place.glob(pattern))
    child = started(work, place)
    status = 0
    while not set(place.glob(pattern)) - before:
        gone, status = os.waitpid(child, os.WNOHANG)
        if gone:
            child = 0
            break
        time.sleep(0.003)
    if child:
        os.kill(child, number)
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def stopped(model: str, place: Path, moment: str, number: signal.Signals, seed: int) -> dict[str, object]:
    """What is left of a run that got a signal at a moment."""
    code = ended(lambda: explain(model, place, seed), place, MOMENTS[moment], number)
    return {
        "moment": moment,
        "signal": number.name,
        "code": code,
        "log": (place / "log").read_text(encoding="utf-8"),
        "left": sorted(path.name for path in place.iterdir() if path.name != "log"),
        "seed": seed,
        "found": open_explanation(place / "out", verify=True).request.seed if (place / "out").exists() else None,
        "place": str(place),
    }


def run_all(model: str, folder: Path) -> None:
    """Stop a run at every moment, some also with Ctrl-C and some over an earlier result."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may start background jobs without
    again = folder / "again"
    again.mkdir()
    with contextlib.redirect_stdout(None):
        assert explain(model, again, 0) == 0
    for seed, moment in enumerate(MOMENTS, start=1):
        tries = [(signal.SIGKILL, folder / f"killed-{seed}")]
        if moment in CTRL_C:
            tries.append((signal.SIGINT, folder / f"stopped-{seed}"))
        if moment in OVER:
            tries.append((signal.SIGKILL, again))
        for number, place in tries:
            place.mkdir(exist_ok=True)
            print(json.dumps(stopped(model, place, moment, number, seed)), flush=True)
    os.waitpid(started(lambda: explain(model, again, LAST), again), 0)


if __name__ == "__main__":
    run_all(sys.argv[1], Path(sys.argv[2]))
