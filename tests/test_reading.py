"""Files and JSON from outside: bounded, regular, and every refusal in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sfumato.errors import SfumatoError, Unreadable
from sfumato.reading import MOST_DEPTH, parse_json, path_of, read_bytes, read_json, read_text


def test_what_was_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.json").write_text('\ufeff{"a": [1, null, "ü"]}', encoding="utf-8")
    assert read_json("~/a.json") == read_json(tmp_path / "a.json") == {"a": [1, None, "ü"]}
    assert read_text(tmp_path / "a.json").startswith("{")
    assert read_bytes(tmp_path / "a.json", 25).startswith(b"\xef\xbb\xbf")


@pytest.mark.timeout(20)
def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(Unreadable, match="it is no regular file; give a file on the disk"):
            read_bytes(name)
    with pytest.raises(Unreadable, match="Is a directory"):
        read_bytes(tmp_path)
    opened = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for _ in range(20):
        with pytest.raises(Unreadable):
            read_bytes(tmp_path)
    assert not opened or len(os.listdir("/proc/self/fd")) == opened


def test_a_missing_file_is_known_from_one_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="No such file") as caught:
        read_json(tmp_path / "none.json")
    assert caught.value.missing
    (tmp_path / "a").write_bytes(b"\xff")
    for reason in ("it is no text in UTF-8", "it holds NUL", "it is no JSON"):
        with pytest.raises(Unreadable, match=reason) as caught:
            read_json(tmp_path / "a")
        assert not caught.value.missing
        (tmp_path / "a").write_bytes(b"{\0" if reason.endswith("UTF-8") else b"{")
    with pytest.raises(Unreadable, match="at most 0 are read"):
        read_bytes(tmp_path / "a", 0)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("", "it is no path"),
        ("a\0b", "contains a NUL"),
        ("\ud800", "half of a surrogate pair"),
        ("~nosuchuser/a", "there is no home folder for ~nosuchuser; write the path out"),
        (b"a", "it is no path"),
    ],
)
def test_what_is_no_path(given: str, reason: str) -> None:
    with pytest.raises(SfumatoError, match=reason):
        path_of(given)


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 990 + "]" * 990, '{"a":' * 500 + "1" + "}" * 500])
def test_deep_json_is_refused(text: str) -> None:
    with pytest.raises(Unreadable, match=f"it is nested more than {MOST_DEPTH} levels deep|it is no JSON"):
        parse_json(text)
    assert parse_json("[" * MOST_DEPTH + "]" * MOST_DEPTH)
