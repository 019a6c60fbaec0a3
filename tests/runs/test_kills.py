"""However often the process that drives a run is killed, it ends with the records of an undisturbed run."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.runs.driving import counts
from tests.runs.made_up import LOG, WAIT

KILLED = """
    import os, random, signal, sys, time
    from pathlib import Path

    import sfumato
    from tests.pipelines import stable_diffusion
    from tests.runs.driving import contents, drive, measured

    place, kills, items, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    os.fsync = lambda descriptor: None  # the order of system calls is what counts here, and a loaded disk is slow
    prompts = [f"a picture {n}" if n % 9 == 0 else f"raise {n}" if n % 11 == 0 else f"a cat {n}" for n in range(items)]
    prompts[5] = prompts[4] = {"prompt": "a dog", "seed": 1}
    prompts[7] = {"prompt": "a dog", "seed": "x"}
    model = sfumato.wrap(stable_diffusion())
    sfumato.tasks()  # so that every child finds the libraries loaded, and its time is that of the run

    def driven(out, log):
        os.environ["MADE_UP_LOG"] = str(log)
        child = os.fork()
        if child == 0:
            try:
                drive(model, out, prompts, batch=4, shard_size=size)
            except BaseException as error:
                print(repr(error), file=sys.stderr)
                os._exit(1)
            os._exit(0)
        return child

    def ended(child):
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
        return not os.WIFSIGNALED(status)

    started = time.monotonic()
    assert ended(driven(place / "whole", place / "whole.log"))
    usual = time.monotonic() - started
    wanted = contents(place / "whole")
    chance, run, hit, killed = random.Random(7), 0, 0, 0
    while killed < kills:
        run += 1
        out, before, done = place / f"run-{run}", set(), False
        for attempt in range(10_000):
            child = driven(out, log := place / f"run-{run}-{attempt}.log")
            if killed < kills:
                time.sleep(chance.uniform(0, usual))
                os.kill(child, signal.SIGKILL)
            done = ended(child)
            killed += not done
            again = before & set(measured(log))
            places = {place for place, one in enumerate(prompts) if isinstance(one, str) and f"{one}|{place}" in again}
            assert len(places) <= size, (attempt, places)
            hit += bool(measured(log)) and not done
            before |= set(measured(log))
            if done:
                break
        assert done
        found = contents(out)
        assert found.keys() == wanted.keys(), found.keys() ^ wanted.keys()
        assert not [name for name in wanted if found[name] != wanted[name]]
    print(run, killed, hit)
"""


@pytest.mark.parametrize(
    ("kills", "items", "size"),
    [
        pytest.param(10, 60, 4, id="10"),
        pytest.param(200, 400, 8, id="200", marks=[pytest.mark.soak, pytest.mark.timeout(2400)]),
    ],
)
def test_kills_at_random_moments_leave_a_run_that_ends_like_an_undisturbed_one(
    kills: int, items: int, size: int, tmp_path: Path, root: Path, outside: dict[str, str]
) -> None:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), str(kills), str(items), str(size)]
    environment = outside | {WAIT: "0.001", LOG: str(tmp_path / "log")}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=2300, check=False)
    assert done.returncode == 0, done.stderr
    runs, killed, hit = map(int, done.stdout.split())
    assert killed == kills
    assert hit > 0, "no kill hit a run that measured"
    assert runs > 0
    assert counts(tmp_path / "run-1").total == items
