from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import sfumato
from sfumato.errors import StoreError
from sfumato.results.explanation import Explanation
from sfumato.writing import folders
from sfumato.writing.folders import write_folder
from tests.results import synthetic


def write_result(target: Path, text: str = "{}", failure: BaseException | None = None) -> None:
    """What the command line writes, in short."""
    with write_folder(target) as folder:
        (folder / "summary.json").write_text(text)
        (folder / "words").mkdir()
        (folder / "words" / "1-red.png").write_text("png")
        (folder / "explanation.zarr").mkdir()
        (folder / "explanation.zarr" / "zarr.json").write_text("{}")
        if failure:
            raise failure


def everything(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_a_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    with write_folder(target) as folder:
        assert target.parent in folder.parents
        assert not target.exists()
        (folder / "a.txt").write_text("a")
        assert not target.exists()
    assert sorted(os.listdir(target)) == [".sfumato.json", "a.txt"]
    assert os.listdir(target.parent) == ["out"]


@pytest.mark.parametrize("failure", [RuntimeError("broken"), KeyboardInterrupt(), SystemExit(3)])
def test_a_failure_leaves_nothing_not_even_new_parents(tmp_path: Path, failure: BaseException) -> None:
    with pytest.raises(type(failure)):
        write_result(tmp_path / "deep" / "out", failure=failure)
    assert everything(tmp_path) == []


def test_a_failure_keeps_the_earlier_result(tmp_path: Path) -> None:
    write_result(tmp_path / "out", "old")
    before = everything(tmp_path)
    with pytest.raises(RuntimeError):
        write_result(tmp_path / "out", "new", RuntimeError())
    assert everything(tmp_path) == before
    assert (tmp_path / "out" / "summary.json").read_text() == "old"


def test_an_earlier_result_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write_result(tmp_path / "out", "old")
    with write_folder(tmp_path / "out") as folder:
        (folder / "summary.json").write_text("new")
    assert sorted(os.listdir(tmp_path / "out")) == [".sfumato.json", "summary.json"]
    assert os.listdir(tmp_path) == ["out"]


def test_files_of_other_origin_are_never_lost(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_result(out)
    (out / ".DS_Store").write_text("the desktop's own")
    write_result(out)
    (out / "words" / "my notes.txt").write_text("hours of work")
    with pytest.raises(StoreError, match=r"files that Sfumato did not write \(words/my notes\.txt\)"):
        write_result(out)
    assert (out / "words" / "my notes.txt").read_text() == "hours of work"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": "sfumato-output", "version": 1, "files": []}'])
def test_without_a_readable_record_nothing_is_replaced(tmp_path: Path, damage: str) -> None:
    write_result(tmp_path / "out")
    (tmp_path / "out" / ".sfumato.json").write_text(damage)
    if not damage:
        (tmp_path / "out" / ".sfumato.json").unlink()  # as `cp out/* elsewhere/` drops it
    before = everything(tmp_path)
    with pytest.raises(StoreError, match=r"no earlier result of Sfumato \(it has no readable \.sfumato\.json\)"):
        write_result(tmp_path / "out", "new")
    assert everything(tmp_path) == before
    assert (tmp_path / "out" / "summary.json").read_text() == "{}"


@pytest.mark.parametrize(
    "name", ["notes.txt", "words/notes.txt", "explanation.zarr/notes.txt", "explanation.zarr/deep/notes.txt"]
)
def test_one_unknown_file_anywhere_is_refused_and_untouched(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    write_result(out)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("mine")
    before = everything(tmp_path)
    with pytest.raises(StoreError, match=f"files that Sfumato did not write .{name}."):
        write_result(out)
    assert everything(tmp_path) == before
    assert (out / name).read_text() == "mine"


def test_links_and_empty_folders_of_other_origin_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("mine")
    write_result(out)
    for name in ("letters", "words/letters"):
        (out / name).symlink_to(tmp_path / "letters", target_is_directory=True)
        with pytest.raises(StoreError, match=f"files that Sfumato did not write .{name}."):
            write_result(out)
        (out / name).unlink()
    (out / "empty").mkdir()
    with pytest.raises(StoreError, match=r"files that Sfumato did not write .empty/."):
        write_result(out)
    (out / "empty").rmdir()
    write_result(out)
    assert (tmp_path / "letters" / "a.txt").read_text() == "mine"


@pytest.mark.parametrize("change", ["text", "size", "link"])
def test_a_file_that_was_changed_is_of_other_origin(tmp_path: Path, change: str) -> None:
    out = tmp_path / "out"
    write_result(out)
    if change == "link":
        (tmp_path / "mine").write_text("{}")
        (out / "summary.json").unlink()
        (out / "summary.json").symlink_to(tmp_path / "mine")
    else:
        (out / "summary.json").write_text({"text": "[]", "size": "mine"}[change])
    with pytest.raises(StoreError, match=r"that were changed since Sfumato wrote them \(summary\.json\)"):
        write_result(out)


def test_a_copied_result_and_one_with_fewer_files_are_replaced(tmp_path: Path) -> None:
    write_result(tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    (tmp_path / "copy" / "words" / "1-red.png").unlink()
    (tmp_path / "copy" / "words").rmdir()
    write_result(tmp_path / "copy", "new")
    assert (tmp_path / "copy" / "summary.json").read_text() == "new"


def test_a_folder_that_is_no_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "summary.json").write_text("mine")
    with pytest.raises(StoreError, match="not empty and no earlier result of Sfumato"):
        write_result(tmp_path / "letters")
    assert everything(tmp_path) == ["letters", "letters/summary.json"]


@pytest.mark.parametrize("name", ["", "  ", "nul\0", "x" * 300, "file", "file/below", "."])
def test_impossible_names_are_one_line(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    entered = False
    with pytest.raises(StoreError) as caught, write_folder(name):
        entered = True
    assert not entered
    assert "\n" not in str(caught.value)
    assert everything(tmp_path) == ["file"]


def test_the_working_folder_and_its_parents_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in (".", "..", "/", str(tmp_path / "here")):
        with pytest.raises(StoreError, match="the folder you are in, or one around it"), write_folder(name):
            pass


def test_a_folder_without_permission_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with (
        pytest.raises(StoreError, match="cannot write .*out: permission denied; choose a folder"),
        write_folder(tmp_path / "out"),
    ):
        pass


def test_errors_of_other_work_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"), write_folder(tmp_path / "out"):
        (tmp_path / "elsewhere").read_text()
    assert everything(tmp_path) == []


def test_a_full_disk_while_writing_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match=r"cannot write .*out: the disk is full; free some space"),
        write_folder(tmp_path / "out"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert everything(tmp_path) == []


def test_a_full_disk_while_syncing_keeps_the_old_result(
    made: Explanation, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(stored.parent)
    calls = 0

    def fail_late(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 20:  # several threads sync
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail_late)
    with pytest.raises(StoreError, match="the disk is full"):
        synthetic.explanation("blue").save(stored, overwrite=True)
    monkeypatch.undo()
    assert calls >= 20
    assert everything(stored.parent) == before
    assert sfumato.open(stored, verify=True).request == made.request


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse every file above a size, as a quota does."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [100, 5000])
def test_a_limit_met_inside_zarr_is_one_line(made: Explanation, stored: Path, size: int) -> None:
    before = everything(stored.parent)
    with largest_file(size), pytest.raises(StoreError, match="grow beyond the size that is allowed") as caught:
        synthetic.explanation("blue").save(stored, overwrite=True)
    assert "\n" not in str(caught.value)
    assert everything(stored.parent) == before
    assert sfumato.open(stored, verify=True).request == made.request


def test_every_file_and_folder_is_synced_before_the_name_appears(
    made: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    sync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.add(os.fstat(descriptor).st_ino), sync(descriptor)))

    def check(source: Path, target: Path) -> None:
        needed = {p.stat().st_ino for p in [source, *source.rglob("*")]}
        assert needed <= synced
        rename(source, target)
        synced.add(-1)

    monkeypatch.setattr(os, "rename", lambda a, b: check(a, b) if b.name == "a.zarr" else rename(a, b))
    made.save(tmp_path / "a.zarr")
    assert -1 in synced  # the check ran
    assert tmp_path.stat().st_ino in synced  # the new name itself


def test_replacing_works_without_the_swap_of_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    write_result(tmp_path / "out", "old")
    write_result(tmp_path / "out", "new")
    assert (tmp_path / "out" / "summary.json").read_text() == "new"
    assert os.listdir(tmp_path) == ["out"]


def test_two_writers_in_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    with write_folder(tmp_path / "one") as one:
        (one / "a").write_text("1")
        with write_folder(tmp_path / "two") as two:
            (two / "a").write_text("2")
        assert (one / "a").read_text() == "1"
    assert sorted(os.listdir(tmp_path)) == ["one", "two"]


KILLED = """
    import os, random, signal, sys, time
    from pathlib import Path
    from tests.results import synthetic
    from sfumato.writing import folders

    if sys.argv[2] == "aside":
        folders._exchange = lambda one, other: False
    made = [synthetic.explanation(prompt, size=(16, 16), tokens=False) for prompt in ("red", "blue square")]
    chance = random.Random(5)
    for trial in range(int(sys.argv[3])):
        target = Path(sys.argv[1], str(trial), "a.zarr")
        begun = time.monotonic()
        made[0].save(target if trial % 4 else Path(sys.argv[1], "timed", str(trial)))
        usual = time.monotonic() - begun  # on a busy machine all of it is slower
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            for turn in range(1000):
                os.write(tell, b".")
                made[(turn + 1) % 2].save(target, overwrite=True)
            os._exit(1)
        for _ in range(1 + trial % 3):  # during the first, second or third save
            assert os.read(told, 1) == b"."
        time.sleep(usual * chance.random())
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
"""


@pytest.mark.parametrize(("way", "trials"), [("swap", 12), ("aside", 8)])
def test_kill_9_at_any_moment_leaves_a_whole_result_or_none(tmp_path: Path, root: Path, way: str, trials: int) -> None:
    script = textwrap.dedent(KILLED)
    subprocess.run([sys.executable, "-c", script, str(tmp_path), way, str(trials)], check=True, cwd=root, timeout=240)
    killed_while_writing = 0
    for trial in range(trials):
        target = tmp_path / str(trial) / "a.zarr"
        killed_while_writing += any(p.name.startswith(".sfumato-") for p in target.parent.glob(".*"))
        prompt = prompt_or_none(target)
        assert prompt in {"red", "blue square"} or (prompt is None and trial % 12 == 0)
        synthetic.explanation("after").save(target, overwrite=True)
        assert sfumato.open(target, verify=True).request.prompt == "after"
        assert os.listdir(target.parent) == ["a.zarr"]
    assert killed_while_writing


def prompt_or_none(target: Path) -> str | None:
    """The prompt of a whole result, None where there is nothing; anything between the two is an error."""
    try:
        return sfumato.open(target, verify=True).request.prompt
    except StoreError as error:
        if "does not exist" not in str(error):
            raise
        return None
