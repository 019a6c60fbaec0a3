"""Ctrl-C and kill -9 at any moment: no result, or a whole one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sfumato.results.opening import open as open_explanation
from tests.cli import interrupting

pytestmark = pytest.mark.timeout(1500)  # some seconds, but a busy machine may be very much slower


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs write."""
    return tmp_path_factory.mktemp("interrupted")


@pytest.fixture(scope="module")
def runs(model_folder: Path, place: Path) -> list[dict[str, Any]]:
    """All runs that were stopped, with what they left."""
    done = subprocess.run(
        [sys.executable, interrupting.__file__, str(model_folder), str(place)],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_moment_was_hit(runs: list[dict[str, Any]]) -> None:
    killed = {run["moment"] for run in runs if run["signal"] == "SIGKILL" and run["code"] == -9}
    assert killed >= set(interrupting.MOMENTS) - {"the end"}  # nobody is fast enough to be sure of the end
    assert {run["code"] for run in runs} <= {0, 130, -9}


def test_ctrl_c_says_in_one_line_that_nothing_was_written(runs: list[dict[str, Any]]) -> None:
    stopped = [run for run in runs if run["signal"] == "SIGINT"]
    assert {run["moment"] for run in stopped} == interrupting.CTRL_C
    for run in stopped:
        if run["found"] is None:
            assert (run["code"], run["log"]) == (130, "stopped; nothing was written\n"), run
    assert sum(run["found"] is None for run in stopped) >= 3


def test_what_is_left_is_nothing_or_whole(runs: list[dict[str, Any]]) -> None:
    for run in runs:
        shown = [name for name in run["left"] if not name.startswith(".sfumato-")]
        assert shown in ([], ["out"]), run
        if shown:  # it was opened, with every byte compared
            assert run["found"] is not None
            out = Path(run["place"], "out")
            assert {"image.png", "words", "report.html", "summary.json"} <= {path.name for path in out.iterdir()}


def test_an_earlier_result_stays_until_the_new_one_is_whole(runs: list[dict[str, Any]]) -> None:
    over = [run for run in runs if Path(run["place"]).name == "again"]
    assert {run["moment"] for run in over} == interrupting.OVER
    whole = 0
    for run in over:
        assert run["found"] in (whole, run["seed"])
        whole = run["found"]


def test_the_next_run_removes_what_killed_ones_left(runs: list[dict[str, Any]], place: Path) -> None:
    killed = [run for run in runs if run["code"] == -9 and Path(run["place"]).name == "again"]
    assert any(name.startswith(".sfumato-") for run in killed for name in run["left"])
    assert sorted(path.name for path in (place / "again").iterdir()) == ["log", "out"]
    assert open_explanation(place / "again" / "out", verify=True).request.seed == interrupting.LAST


IMPORTING = """
import signal, sys
from importlib.abc import MetaPathFinder

signal.signal(signal.SIGINT, signal.default_int_handler)

class Stop(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "diffusers.models":
            signal.raise_signal(signal.SIGINT)
        return None

sys.meta_path.insert(0, Stop())
from sfumato.cli import main
sys.exit(main(["explain", "a cat", "--model", sys.argv[1], "--out", sys.argv[2]]))
"""


def test_ctrl_c_while_libraries_are_loaded(model_folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING, str(model_folder), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped; nothing was written\n")
    assert not list(tmp_path.iterdir())
