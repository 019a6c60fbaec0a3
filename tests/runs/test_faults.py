"""Every write, sync and rename of a run fails once: the error is one line, and the run is resumed as ever."""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from sfumato.errors import StoreError
from sfumato.models.model import Model
from sfumato.runs.merging import merge
from tests.runs.driving import contents, drive

PROMPTS: list[Any] = ["a picture", "a cat", "raise nothing", "a dog", {"prompt": "a", "seed": "x"}]
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Faults:
    """Counts what is written below a folder, and lets one of it fail.

    Args:
        place: The folder.
        turn: Which call fails, from 0; None for none.
        number: Of the error.
    """

    def __init__(self, place: Path, turn: int | None, number: int) -> None:
        self.place, self.turn, self.number = str(place), turn, number
        self.count = 0
        self.names: list[str] = []

    def __call__(self, name: str, path: Any = None) -> None:
        """Tell of a call."""
        if path is not None and not (isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.place)):
            return
        self.names.append(name)
        self.count += 1
        if self.count - 1 == self.turn:
            if name.startswith("sqlite"):
                raise sqlite3.OperationalError("database or disk is full")
            raise OSError(self.number, os.strerror(self.number), None if path is None else os.fspath(path))


@contextmanager
def failing(place: Path, turn: int | None, number: int) -> Iterator[Faults]:
    faults = Faults(place, turn, number)

    class Failing(sqlite3.Connection):
        def execute(self, *given: Any) -> sqlite3.Cursor:
            faults("sqlite execute")
            return super().execute(*given)

        def executemany(self, *given: Any) -> sqlite3.Cursor:
            faults("sqlite executemany")
            return super().executemany(*given)

        def __exit__(self, *error: Any) -> Any:
            try:
                faults("sqlite commit")
            except sqlite3.Error:
                self.rollback()
                raise
            return super().__exit__(*error)

    def patched(name: str, usual: Callable[..., Any], writes: Callable[..., bool]) -> Callable[..., Any]:
        def call(path: Any, *given: Any, **named: Any) -> Any:
            if writes(*given, **named):
                faults(name, None if name == "fsync" else path)
            return usual(path, *given, **named)

        return call

    def for_writing(mode: str = "r", *_: Any, **__: Any) -> bool:
        return not set(mode).isdisjoint("wax+")

    connect = sqlite3.connect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, factory=Failing, **named))
        patch.setattr(os, "open", patched("open", os.open, lambda flags, *_, **__: bool(flags & WRITING)))
        for module in (io, builtins):
            patch.setattr(module, "open", patched("open", io.open, for_writing))
        for name in ("replace", "rename", "fsync", "mkdir"):
            patch.setattr(os, name, patched(name, getattr(os, name), lambda *_, **__: True))
        yield faults


def turns(act: Callable[[], object], place: Path) -> int:
    """How many calls an undisturbed run makes."""
    with failing(place, None, errno.ENOSPC) as faults:
        act()
    assert {"sqlite execute", "sqlite commit", "open", "replace", "rename", "fsync", "mkdir"} <= set(faults.names)
    return faults.count


@pytest.mark.parametrize(
    ("step", "number"),
    [
        pytest.param(9, errno.ENOSPC, id="some"),
        pytest.param(1, errno.ENOSPC, id="full", marks=pytest.mark.soak),
        pytest.param(1, errno.EIO, id="broken", marks=pytest.mark.soak),
    ],
)
def test_any_write_may_fail_once_and_the_run_is_resumed(step: int, number: int, model: Model, tmp_path: Path) -> None:
    def act(out: Path) -> Path:
        return drive(model, out, PROMPTS, batch=2, shard_size=2)

    calls = turns(lambda: act(tmp_path / "whole"), tmp_path)
    wanted = contents(tmp_path / "whole")
    errors = []
    for turn in range(0, calls, step):
        out = tmp_path / f"run-{turn}"
        with failing(tmp_path, turn, number) as faults:
            try:
                act(out)
            except StoreError as error:
                errors.append(str(error))
        act(out)
        found = contents(out)
        assert found.keys() == wanted.keys(), (turn, faults.names[turn])
        assert not [name for name in wanted if found[name] != wanted[name]], (turn, faults.names[turn])
    assert len(errors) > calls // step // 2
    assert not [one for one in errors if "\n" in one]


@pytest.mark.slow
def test_a_merge_that_fails_leaves_the_whole_or_nothing(model: Model, tmp_path: Path) -> None:
    part = drive(model, tmp_path / "part", PROMPTS, batch=2, shard_size=2)
    target = tmp_path / "merged"
    calls = turns(lambda: merge([part], tmp_path / "whole"), tmp_path)
    wanted = contents(tmp_path / "whole")
    for turn in range(calls):
        with failing(tmp_path, turn, errno.ENOSPC) as faults, suppress(StoreError):
            merge([part], target)
        left = {path.name for path in tmp_path.iterdir()} - {"part", "whole"}
        assert left <= {"merged"}, (turn, faults.names[turn])
        if left:
            assert contents(target) == wanted, (turn, faults.names[turn])
            shutil.rmtree(target)
