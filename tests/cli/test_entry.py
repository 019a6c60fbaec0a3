"""The entry point: exit codes, one line for what went wrong, and output that any terminal takes."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from sfumato.cli import main
from sfumato.errors import ModelError, SfumatoWarning
from tests.cli.running import Finished, run

ASK = ("explain", "a cat", "--steps", "1", "--size", "32x32")


def failing(error: BaseException) -> Callable[..., Any]:
    """A replacement for any function, which raises."""

    def fail(*arguments: Any, **options: Any) -> Any:
        raise error

    return fail


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes the loading of a model fail with a given error."""
    return lambda error: monkeypatch.setattr("sfumato.models.loading.load", failing(error))


def test_an_error_of_ours_is_one_line(loading: Callable[[BaseException], None], tmp_path: Path) -> None:
    loading(ModelError("the model\nis\x1b[31m broken"))
    assert run(*ASK, "--out", str(tmp_path / "out")).error == "error: the model is\\x1b[31m broken"


@pytest.mark.parametrize("where", [("--debug", *ASK), (*ASK, "--debug")])
def test_debug_shows_the_traceback_too(
    where: tuple[str, ...],
    loading: Callable[[BaseException], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    loading(ModelError("broken"))
    assert main([*where, "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last)")
    assert shown.splitlines()[-1] == "error: broken"


def test_a_bug_is_one_line_that_asks_for_the_traceback(
    loading: Callable[[BaseException], None], tmp_path: Path
) -> None:
    loading(ZeroDivisionError("division by zero"))
    done = run(*ASK, "--out", str(tmp_path / "out"))
    assert done.code == 1
    assert done.err.splitlines() == [
        "error: ZeroDivisionError: division by zero "
        "(this is a bug in Sfumato; run it again with --debug for the traceback)"
    ]


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")],
)
def test_too_little_memory_is_said_in_words(
    error: BaseException, loading: Callable[[BaseException], None], tmp_path: Path
) -> None:
    loading(error)
    assert "there is not enough memory" in run(*ASK, "--out", str(tmp_path / "out")).error


def test_ctrl_c_says_that_nothing_was_written(loading: Callable[[BaseException], None], tmp_path: Path) -> None:
    loading(KeyboardInterrupt())
    done = run(*ASK, "--out", str(tmp_path / "out"))
    assert (done.code, done.out, done.err) == (130, "", "stopped; nothing was written\n")
    assert not list(tmp_path.iterdir())


def test_ctrl_c_after_the_result_is_there_says_so(lent: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfumato.cli.tables.say_results", failing(KeyboardInterrupt()))
    out = tmp_path / "out"
    done = run(*ASK, "--out", str(out))
    assert done.code == 130
    assert done.err == f"stopped; the results are whole, in {out}\n"
    assert (out / "summary.json").is_file()


def test_our_warnings_are_one_line_each_and_others_are_hidden(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn(*arguments: Any, **options: Any) -> Any:
        warnings.warn("a word\nwas not seen", SfumatoWarning, stacklevel=1)
        warnings.warn("a library is old", DeprecationWarning, stacklevel=1)
        raise ModelError("broken")

    monkeypatch.setattr("sfumato.models.loading.load", warn)
    done = run(*ASK, "--out", str(tmp_path / "out"))
    assert done.err.splitlines() == ["note: a word was not seen", "error: broken"]
    main([*ASK, "--debug", "--out", str(tmp_path / "out")])
    assert "a library is old" in capsys.readouterr().err


class Full(io.RawIOBase):
    """A disk without room; it has some again when the test is over."""

    full = True

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        return len(data)


@pytest.mark.parametrize("command", [("methods",), ("methods", "--json"), ("--version",), ("explain", "--help")])
def test_a_reader_that_goes_away_ends_it_quietly(command: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as pipe, redirect_stdout(pipe):
        code = main(list(command))
    assert code == 1
    assert capfd.readouterr().err == ""


def test_output_that_cannot_be_written_is_an_error() -> None:
    disk, err = Full(), io.StringIO()
    out = io.TextIOWrapper(io.BufferedWriter(disk), encoding="utf-8")
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["--version"])
    disk.full = False
    assert "cannot write to standard output: No space left on device" in Finished(code, "", err.getvalue()).error


def test_closed_streams_are_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["--version"]) == 0
    assert main(["nonsense"]) == 2
    assert sys.stdout is None


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-16"])
@pytest.mark.parametrize(
    "command",
    [("--help",), ("explain", "--help"), ("methods", "daam"), ("explain", "круг \udcff"), ("open", "\udcff🙂")],
)
def test_any_encoding_can_be_printed_to(command: tuple[str, ...], encoding: str) -> None:
    done = run(*command, encoding=encoding)
    assert done.code in (0, 2)
    assert done.out + done.err


@pytest.mark.usefixtures("lent")
def test_a_prompt_of_any_script_is_shown_on_an_ascii_terminal(tmp_path: Path) -> None:
    done = run("explain", "красный 🙂 круг", *ASK[2:], "--out", str(tmp_path / "out"), encoding="ascii")
    assert done.code == 0
    assert "\\u043a\\u0440\\u0443\\u0433" in done.out


def test_the_surroundings_are_left_as_they_were() -> None:
    before = warnings.showwarning, list(warnings.filters), sys.stdout, sys.stderr, sys.stdout.errors
    run("--version")
    run("nonsense")
    assert (warnings.showwarning, list(warnings.filters), sys.stdout, sys.stderr, sys.stdout.errors) == before
