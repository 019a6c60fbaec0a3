"""What is safe to print on a terminal."""

from __future__ import annotations

import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.cli.console import LINE, note, print_json, print_table, progress_shown, shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("two\nlines\tand tab", "two lines and tab"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("nul\0", "nul\\x00"),
        ("half \udcff", "half \\udcff"),
        ("turned \u202e round", "turned \\u202e round"),
        ("семья 👨‍👩‍👧", "семья 👨‍👩‍👧"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, line: str) -> None:
    assert shown(text) == line


@given(st.text(st.characters(exclude_categories=()), max_size=2 * LINE))
def test_a_line_is_one_line_of_limited_length(text: str) -> None:
    line = shown(text)
    assert len(line.splitlines()) <= 1
    assert len(line) <= LINE
    line.encode()


def test_a_long_line_keeps_its_start_and_its_end() -> None:
    line = shown("start " + "x" * 10 * LINE + " end")
    assert line.startswith("start xxx")
    assert line.endswith("xxx end")
    assert " ... " in line


def test_a_note_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    note("note: two\nlines")
    assert capsys.readouterr() == ("", "note: two lines\n")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252", "koi8-r"])
def test_json_can_be_read_whatever_the_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", stream)
    value = {"круг": ["🙂", float("nan"), float("inf"), 1.5, True], "path": "\udcff"}
    print_json(value)
    stream.flush()
    written = stream.buffer.getvalue()  # type: ignore[attr-defined]
    assert json.loads(written.decode(encoding)) == {"круг": ["🙂", None, None, 1.5, True], "path": "\udcff"}


def test_a_table_shows_brackets_as_they_are_and_fits_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", stream)
    print_table(("word", "share"), [["[red]:smile:", "1.0%"], ["круг", "99.0%"]], right=("share",))
    stream.flush()
    lines = stream.buffer.getvalue().decode("ascii").splitlines()  # type: ignore[attr-defined]
    assert [line.split() for line in lines if "%" in line] == [
        ["[red]:smile:", "1.0%"],
        [r"\u043a\u0440\u0443\u0433", "99.0%"],
    ]


def test_progress_without_a_terminal_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 29.0, 31.0, 31.0, 40.0, 70.0, 70.0])
    monkeypatch.setattr("sfumato.cli.console.time.monotonic", lambda: next(clock))
    with progress_shown(news=True) as progress:
        for done in range(1, 6):
            progress("denoising", done, 5)
    with progress_shown() as progress:
        progress("denoising", 1, 5)
    assert capsys.readouterr().err.splitlines() == ["denoising 3/5", "denoising 5/5"]


def test_progress_on_a_terminal_is_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress_shown() as progress:
        progress("denoising", 1, 2)
        progress("denoising", 2, 2)
    assert "denoising" in terminal.getvalue()
    assert terminal.getvalue().rpartition("\x1b[2K")[2].strip() == "\x1b[?25h"  # the line is erased, the cursor back
