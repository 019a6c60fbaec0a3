"""Workers that die cost a shard at most, and none outlives the process that drives the run."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import sfumato
from sfumato.errors import RunError, StoreError
from sfumato.models.model import Model
from sfumato.runs.execute import Means
from sfumato.runs.executors import processes
from sfumato.runs.manifest import Counts
from sfumato.runs.worker import ModelSource, Worker
from tests.runs.driving import PROMPTS, contents, counts, drive, measured, reasons
from tests.runs.made_up import DEATHS, WAIT


@pytest.fixture(scope="module")
def stored(model_folder: Path) -> Model:
    """A model that other processes can load."""
    return sfumato.load(model_folder, device="cpu")


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch, stored: Model) -> Iterator[None]:
    """Workers that are copies of this process, which begin at once and have the model already."""
    monkeypatch.setattr(processes, "_CONTEXT", multiprocessing.get_context("fork"))
    monkeypatch.setattr(ModelSource, "load", lambda self: stored)
    yield
    assert not multiprocessing.active_children()


@pytest.fixture
def deaths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "deaths"
    folder.mkdir()
    monkeypatch.setenv(DEATHS, str(folder))
    return folder


def workers(count: int, model_folder: Path, **more: Any) -> Means:
    return Means(source=ModelSource(str(model_folder), "cpu"), workers=count, **more)


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("count", [2, 3])
def test_several_workers_leave_what_one_leaves(count: int, stored: Model, model_folder: Path, tmp_path: Path) -> None:
    prompts = [*PROMPTS, "a picture", "raise nothing"]
    one = drive(stored, tmp_path / "one", prompts, means=workers(1, model_folder))
    several = drive(stored, tmp_path / "several", prompts, means=workers(count, model_folder))
    assert contents(several) == contents(one)


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("how", ["exit", "SIGKILL", "SIGSEGV"])
def test_the_shard_of_a_worker_that_dies_is_measured_by_another(
    how: str, stored: Model, model_folder: Path, tmp_path: Path, deaths: Path, log: Path
) -> None:
    prompts = [*PROMPTS[:5], f"die {how}", *PROMPTS[6:]]
    calm = drive(stored, tmp_path / "calm", prompts, means=workers(1, model_folder))
    log.unlink()
    for number in range(2):
        (deaths / str(number)).touch()
    out = drive(stored, tmp_path / "run", prompts, means=workers(2, model_folder))
    assert counts(out) == Counts(ok=10)
    assert not list(deaths.iterdir())
    lines = [line.partition("|")[0] for line in measured(log)]
    assert [lines.count(one) for one in prompts] == [1] * 4 + [3, 3] + [lines.count(prompts[6])] * 2 + [1] * 2
    for name in ("shards/00001.npz", "items.parquet", "finding.json"):
        assert (out / name).read_bytes() == (calm / name).read_bytes()


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(
    ("how", "said"), [("exit", "exit status 7"), ("SIGKILL", "ended by SIGKILL"), ("SIGSEGV", "ended by SIGSEGV")]
)
def test_a_shard_that_costs_three_workers_has_failed_and_the_others_go_on(
    how: str, said: str, stored: Model, model_folder: Path, tmp_path: Path, deaths: Path
) -> None:
    for number in range(3):
        (deaths / str(number)).touch()
    prompts = [*PROMPTS[:5], f"die {how}", *PROMPTS[6:]]
    out = drive(stored, tmp_path / "run", prompts, means=workers(2, model_folder))
    assert counts(out) == Counts(ok=6, failed=4)
    expected = f"3 workers were lost while they measured its shard ({said})"
    assert reasons(out) == dict.fromkeys(range(4, 8), expected)
    drive(stored, out, prompts, means=workers(2, model_folder, retry=True))
    assert counts(out) == Counts(ok=10)


@pytest.mark.usefixtures("forked")
def test_no_more_workers_begin_than_there_are_shards(
    stored: Model, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    usual = processes._child
    monkeypatch.setattr(processes, "_child", lambda job: begun.append(1) or usual(job))
    out = drive(stored, tmp_path / "run", PROMPTS[:4], means=workers(8, model_folder))
    assert len(begun) == 1
    begun.clear()
    drive(stored, out, PROMPTS[:4], means=workers(8, model_folder))
    assert not begun


@pytest.mark.usefixtures("forked")
def test_workers_that_cannot_begin_are_one_line(
    stored: Model, model_folder: Path, tmp_path: Path, tiny_sd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sfumato.wrap(tiny_sd(seed=1))
    versions = sfumato.runs.execute.library_versions()  # type: ignore[attr-defined]

    def gone(self: ModelSource) -> Model:
        return sfumato.load(tmp_path / "missing")

    def killed(self: ModelSource) -> Model:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    for place, change, said in (
        ("sfumato.runs.worker.ModelSource.load", lambda self: other, "the model that a worker loaded from .* is not"),
        ("sfumato.runs.worker.ModelSource.load", gone, "there is no model"),
        ("sfumato.runs.worker.ModelSource.load", killed, r"before it had loaded the model \(ended by SIGKILL\)"),
        ("sfumato.runs.worker.library_versions", lambda: versions | {"numpy": "0"}, "a worker has other versions"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, change)
            with pytest.raises(RunError, match=said) as error:
                drive(stored, tmp_path / "run", means=workers(2, model_folder))
        assert "\n" not in str(error.value)
        assert not multiprocessing.active_children()
    assert counts(drive(stored, tmp_path / "run", means=workers(2, model_folder))) == Counts(ok=10)


@pytest.mark.usefixtures("forked")
def test_a_worker_that_cannot_write_stops_the_run(
    stored: Model, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Worker, *_: Any, **__: Any) -> None:
        raise StoreError("cannot write the shard: the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "__call__", full)
        with pytest.raises(StoreError, match="the disk is full"):
            drive(stored, tmp_path / "run", means=workers(2, model_folder))
    assert not multiprocessing.active_children()
    assert counts(drive(stored, tmp_path / "run", means=workers(2, model_folder))) == Counts(ok=10)


DRIVER = """
    import json, signal, sys
    import sfumato

    if __name__ == "__main__":
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have set it to be ignored
        model, out = sys.argv[1:]

        def report(status):
            print(status.counts.ok, flush=True)

        try:
            prompts = [f"a cat number {n}" for n in range(40)]
            run = sfumato.run(
                "made-up", model, out=out, prompts=prompts, batch=2, shard_size=2, workers=2, device="cpu",
                report=report,
            )
            print(json.dumps({"ok": run.counts.ok}), flush=True)
        except KeyboardInterrupt:
            sys.exit(130)
"""


def children_of(parent: int) -> set[int]:
    """The processes that a process has begun."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            number, _, rest = path.read_text().partition(" (")
            if int(rest.rpartition(")")[2].split()[1]) == parent:
                found.add(int(number))
    return found


def is_alive(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.slow
@pytest.mark.timeout(2400)  # six processes import all libraries, one after another
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the processes of Linux")
def test_workers_end_with_their_driver_and_the_run_ends_as_ever(
    stored: Model, model_folder: Path, tmp_path: Path, outside: dict[str, str]
) -> None:
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(DRIVER))
    out = tmp_path / "run"
    command = [sys.executable, str(script), str(model_folder), str(out)]

    def begun(wait: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            env=outside | {WAIT: wait},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def at_work(driver: subprocess.Popen[str]) -> set[int]:
        assert driver.stdout is not None
        before = driver.stdout.readline()
        assert before, driver.communicate()[1]
        while int(driver.stdout.readline()) <= int(before):
            pass
        return children_of(driver.pid)

    def all_end(numbers: set[int]) -> None:
        deadline = time.monotonic() + 60
        while any(is_alive(one) for one in numbers):
            assert time.monotonic() < deadline, "a worker outlived its driver"
            time.sleep(0.05)

    for way in (signal.SIGKILL, signal.SIGINT):
        driver = begun("3")
        began = at_work(driver)
        assert len(began) >= 2
        if way == signal.SIGINT:
            os.killpg(driver.pid, way)  # as Ctrl-C in a terminal does, to the workers as well
        else:
            driver.kill()
        said = driver.communicate(timeout=60)[1]
        assert driver.returncode == (130 if way == signal.SIGINT else -way), said
        assert "Traceback" not in said
        all_end(began)
    driver = begun("0.05")
    began = at_work(driver)
    for one in began:  # a worker, or the process that keeps track of them
        if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes():
            os.kill(one, signal.SIGKILL)
            break
    told, said = driver.communicate(timeout=300)
    assert driver.returncode == 0, said
    assert json.loads(told.splitlines()[-1]) == {"ok": 40}
    all_end(began)
    prompts = [f"a cat number {number}" for number in range(40)]
    means = workers(1, model_folder)
    assert contents(out) == contents(drive(stored, tmp_path / "whole", prompts, batch=2, shard_size=2, means=means))
