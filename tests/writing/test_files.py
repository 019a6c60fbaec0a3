from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import pytest

from sfumato.errors import StoreError
from sfumato.writing.files import replacing_file, write_text


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.json"
    with replacing_file(target) as opened:
        opened.write(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert os.listdir(target.parent) == ["a.json"]


def fail(opened: BinaryIO, failure: BaseException) -> None:
    opened.write(b"new")
    raise failure


@pytest.mark.parametrize("failure", [RuntimeError("broken"), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there(tmp_path: Path, failure: BaseException) -> None:
    write_text(tmp_path / "a.txt", "old")
    for name in ("a.txt", "deep/b.txt"):
        with pytest.raises(type(failure)), replacing_file(tmp_path / name) as opened:
            fail(opened, failure)
    assert [path.name for path in tmp_path.rglob("*")] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_link_is_kept_and_the_file_it_names_is_replaced(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "a.txt").read_text() == "new"


@contextmanager
def irregular(kind: str, place: Path) -> Iterator[Path]:
    """A pipe, a socket, a device, or a link to one."""
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place = Path("/dev/full")
    elif kind == "link to a device":
        place.symlink_to("/dev/null")
    else:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(place))
            yield place
        return
    yield place


IRREGULAR = ["pipe", "device", "link to a device", "socket"]


@pytest.mark.parametrize("kind", IRREGULAR)
def test_only_regular_files_are_replaced(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket has little room
    monkeypatch.setattr(os, "replace", lambda old, new: pytest.fail(f"{new} would be replaced"))
    with irregular(kind, Path("special")) as place:
        before = os.stat(place), os.listdir()
        with pytest.raises(StoreError, match="is no regular file, so it is not replaced; give the name of a file"):
            write_text(place, "text")
        assert (os.stat(place), os.listdir()) == before


@pytest.mark.parametrize("name", ["", " ", "folder", "file/below", "a\0b", "x" * 300, "loop"])
def test_impossible_names_are_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StoreError) as caught:
        write_text(name, "text")
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir()) == ["file", "folder", "loop"]


@contextmanager
def limited(kind: int, value: int) -> Iterator[None]:
    """Let the system refuse what goes beyond a limit."""
    old = resource.getrlimit(kind)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(kind, (value, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, old)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_file_that_grows_too_large_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    for name in ("a.txt", "deep/b.txt"):
        with (
            limited(resource.RLIMIT_FSIZE, 1000),
            pytest.raises(StoreError, match="cannot write .* beyond the size that is allowed here"),
        ):
            write_text(tmp_path / name, "x" * 10_000)
    assert [path.name for path in tmp_path.rglob("*")] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_with_few_open_files_it_is_one_line_or_done(tmp_path: Path) -> None:
    free = os.dup(0)
    os.close(free)
    failed = 0
    for more in range(6):
        with suppress(StoreError), limited(resource.RLIMIT_NOFILE, free + more):
            failed += 1
            write_text(tmp_path / str(more) / "a.txt", "text")
            failed -= 1
    assert 0 < failed < 6
    assert len(list(tmp_path.iterdir())) == 6 - failed
    assert not list(tmp_path.rglob(".*"))
