"""However a writer is killed, the old or the new result is there, whole, and nothing is in the way of the next run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sfumato.errors import StoreError
from sfumato.writing.files import write_text
from sfumato.writing.folders import replacing_folder, write_folder
from sfumato.writing.locks import alone, own, seize
from sfumato.writing.records import check_record
from sfumato.writing.stages import boxed, sweep

KILLED = """
    import os, random, signal, sys, time
    from pathlib import Path
    from sfumato.writing import folders
    from sfumato.writing.files import write_text
    from sfumato.writing.folders import check_record, remove_folder, write_folder

    place, way, trials, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if way == "aside":
        folders._exchange = lambda one, other: False
    os.fsync = lambda descriptor: None  # the order of system calls is what counts here, and a loaded disk is slow

    def result(text):
        with write_folder(place / "out") as folder:
            (folder / "deep").mkdir()
            for number in range(6):
                (folder / "deep" / str(number)).write_text(text)

    def work(chance):
        while True:
            text = f"{chance.random()}"
            act = chance.choice(("result", "result", "file", "remove"))
            if act == "result":
                result(text)
            elif act == "file":
                write_text(place / "file.txt", text * 1000)
            else:
                remove_folder(place / "out", check_record)

    chance = random.Random(seed)
    result("first")
    for trial in range(trials):
        children = []
        for turn in range(2):  # two at a time on the same names
            child = os.fork()
            if child == 0:
                try:
                    work(random.Random(f"{seed} {trial} {turn}"))
                finally:
                    os._exit(1)
            children.append(child)
        time.sleep(chance.uniform(0.0, 0.02))
        for child in children:
            os.kill(child, signal.SIGKILL)
        ended = [os.waitpid(child, 0)[1] for child in children]
        assert all(os.WIFSIGNALED(one) for one in ended), f"a writer failed by itself in trial {trial}"
        left = sorted(name for name in os.listdir(place) if not name.startswith(".sfumato-"))
        assert set(left) <= {"out", "file.txt"}, left
        if (place / "out").exists():
            check_record(place / "out", "out")
            texts = [path.read_text() for path in (place / "out" / "deep").iterdir()]
            assert len(texts) == 6 and len(set(texts)) == 1, texts
        if (place / "file.txt").exists():
            text = (place / "file.txt").read_text()
            assert text == text[: len(text) // 1000] * 1000
        print(len(os.listdir(place)) - len(left))
        if trial % 4 == 3:
            result("after")
            write_text(place / "file.txt", "after" * 1000)
            assert sorted(os.listdir(place)) == ["file.txt", "out"], os.listdir(place)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
@pytest.mark.parametrize(("way", "trials"), [("swap", 40), ("aside", 40)])
def test_kills_at_random_leave_whole_results_and_no_remains(tmp_path: Path, root: Path, way: str, trials: int) -> None:
    script = textwrap.dedent(KILLED)
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path), way, str(trials), "3"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    remains = [int(line) for line in done.stdout.split()]
    assert len(remains) == trials
    assert sum(remains) > 0, "no kill hit a writer at work"


def result(target: Path, text: str = "ours") -> None:
    with write_folder(target) as folder:
        (folder / "a.txt").write_text(text)


@contextmanager
def another(root: Path, *code: str) -> Iterator[None]:
    """A process that does something with the package, says so, waits, and is killed in the end."""
    script = "\n".join(("import sys, time", "from pathlib import Path", *code, "print(flush=True)", "time.sleep(600)"))
    with subprocess.Popen([sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "\n"
            yield
        finally:
            child.kill()


def test_the_remains_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path, root: Path) -> None:
    code = (
        "from sfumato.writing.folders import write_folder",
        "from sfumato.writing.files import replacing_file",
        f"one = write_folder(Path({str(tmp_path)!r}) / 'one')",
        "stage = one.__enter__()",
        "(stage / 'a').write_text('half')",
        f"two = replacing_file(Path({str(tmp_path)!r}) / 'two')",
        "two.__enter__().write(b'half')",
    )
    with another(root, *code):
        assert len(os.listdir(tmp_path)) == 2
        result(tmp_path / "out")
        write_text(tmp_path / "file", "text")
        assert len(list(tmp_path.glob(".sfumato-*"))) == 2
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["file", "out"]


def test_what_only_looks_like_remains_is_left_alone(tmp_path: Path) -> None:
    names = [".sfumato-notes", f".sfumato-{'0' * 16}", f".sfumato-{'1' * 16}.part.txt", f".sfumato-{'2' * 15}"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("mine")
    (tmp_path / f".sfumato-{'3' * 16}.part").symlink_to(tmp_path / ".sfumato-notes" / "thesis.txt")
    result(tmp_path / "out")
    for name in names:
        assert (tmp_path / name / "thesis.txt").read_text() == "mine"


def remains(parent: Path, old: str | None = None, new: str | None = None) -> Path:
    """A box as a killed writer of ``out`` leaves it, with what it was about to exchange."""
    with boxed(parent / "elsewhere" / "out") as box:
        for place, text in ((box.old, old), (box.new, new)):
            if text is not None:
                place.mkdir()
                (place / "a.txt").write_text(text)
        box.announce({"a.txt": [4, 0]} if old is None else {})
        copy = parent / f".sfumato-{'a' * 16}"
        os.rename(box.place, copy)
        (box.place).mkdir()
    return copy


def test_what_was_moved_aside_comes_back(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    remains(tmp_path, old="the earlier result")
    sweep(tmp_path)
    assert (tmp_path / "out" / "a.txt").read_text() == "the earlier result"
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "out"]


def test_what_a_person_put_there_meanwhile_is_kept_by_the_sweeper(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    result(tmp_path / "out")
    remains(tmp_path, old="not what was announced")
    sweep(tmp_path)
    assert (tmp_path / "out" / "a.txt").read_text() == "ours"
    assert (tmp_path / "out-2" / "a.txt").read_text() == "not what was announced"
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "out", "out-2"]


def test_a_sweeper_that_is_killed_is_no_harm(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    box = remains(tmp_path, new="half")
    (box / "swap.json").unlink()
    (box / "gone" / "0123").mkdir()
    (box / "gone" / "0123" / "half removed").write_text("")
    sweep(tmp_path)
    assert os.listdir(tmp_path) == ["elsewhere"]
    (tmp_path / f".sfumato-{'b' * 16}").mkdir()  # killed before the lock
    sweep(tmp_path)
    assert os.listdir(tmp_path) == ["elsewhere"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_file_that_appears_during_the_work_is_kept(
    exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr("sfumato.writing.folders._exchange", lambda one, other: False)
    result(tmp_path / "out", "old")
    stage = write_folder(tmp_path / "out")
    (stage.__enter__() / "a.txt").write_text("new")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"did not write \(notes\.txt\).*; what was made now is in out-2"):
        stage.__exit__(None, None, None)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "out" / "a.txt").read_text() == "old"
    assert (tmp_path / "out-2" / "a.txt").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["out", "out-2"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_file_that_appears_in_the_last_moment_is_kept(
    exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sfumato.writing import folders

    swap, late = folders._swapped, folders._exchange if exchange else lambda one, other: False
    monkeypatch.setattr(folders, "_exchange", late)
    result(tmp_path / "out", "old")

    def write_first(box: object) -> Path | None:
        (tmp_path / "out" / "notes.txt").write_text("mine")
        return swap(box)  # type: ignore[arg-type]

    monkeypatch.setattr(folders, "_swapped", write_first)
    with pytest.warns(match="was changed while it was replaced; what was in it is in out-2"):
        result(tmp_path / "out", "new")
    assert (tmp_path / "out" / "a.txt").read_text() == "new"
    assert (tmp_path / "out-2" / "notes.txt").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["out", "out-2"]


def test_two_writers_of_one_name_both_come_through(tmp_path: Path) -> None:
    with write_folder(tmp_path / "out") as first:
        (first / "a.txt").write_text("first")
        result(tmp_path / "out", "second")
        assert (tmp_path / "out" / "a.txt").read_text() == "second"
    assert (tmp_path / "out" / "a.txt").read_text() == "first"
    assert os.listdir(tmp_path) == ["out"]


def test_a_lock_has_one_owner_and_ends_with_it(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "lock"
    with another(root, "from sfumato.writing.locks import own", f"own(Path({str(path)!r}))"):
        assert own(path) is None
        assert seize(path) is None
        with alone(path) as held:
            assert not held
    with alone(path) as held:
        assert held
        assert seize(path) is None
    assert not path.exists()


def test_without_locks_of_the_system_all_works_and_nothing_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfumato.writing.locks._locked", lambda descriptor: None)
    result(tmp_path / "out", "old")
    result(tmp_path / "out", "new")
    (tmp_path / "elsewhere").mkdir()
    left = remains(tmp_path, new="half")
    sweep(tmp_path)
    assert left.exists()
    assert sorted(os.listdir(tmp_path)) == [left.name, "elsewhere", "out"]


def test_a_box_says_before_the_swap_what_is_in_it(tmp_path: Path) -> None:
    result(tmp_path / "out")
    with replacing_folder(tmp_path / "out", check_record) as stage:
        (stage / "b.txt").write_text("12345")
        (box,) = tmp_path.glob(".sfumato-*")
        assert not (box / "swap.json").exists()
        with boxed(tmp_path / "out") as other:
            other.new.mkdir()
            other.announce({"a": [1, 2]})
            assert json.loads((other.place / "swap.json").read_text()) == {"old": {"a": [1, 2]}, "new": {}}
