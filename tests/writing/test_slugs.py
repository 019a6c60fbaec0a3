"""Names of files made from any text."""

from __future__ import annotations

import os
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.writing.slugs import LONGEST, slug, word_file


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a red circle left of a blue square", "a-red-circle-left-of-a-blue-square"),
        ("Red", "red"),
        ("cat's", "cat-s"),
        (",", "comma"),
        ("..", "full-stop"),
        ("../../etc/passwd", "etc-passwd"),
        ("C:\\nul", "c-nul"),
        ("🙂", "slightly-smiling-face"),
        ("красный круг", "красный-круг"),
        ("हिन्दी", "हिन्दी"),
        ("<|endoftext|>", "endoftext"),
        ("a\u202eb", "a-b"),
        ("", "text"),
        ("  ", "text"),
        ("\ufe0f", "\ufe0f"),
    ],
)
def test_a_slug_keeps_letters_of_any_script(text: str, name: str) -> None:
    assert slug(text) == name


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(8, LONGEST))
def test_a_slug_is_one_part_of_a_path_everywhere(text: str, length: int) -> None:
    name = slug(text, length)
    assert 1 <= len(name) <= length
    assert PurePosixPath("out", name).parts == ("out", name)
    assert PureWindowsPath("out", name).parts == ("out", name)
    assert not set(name) & set('<>:"/\\|?*. \0\n')
    assert len(os.fsencode(name)) <= 255


@given(st.integers(1, 99_999), st.text())
def test_a_word_file_starts_with_its_place_and_stays_short(place: int, word: str) -> None:
    name = word_file(place, 100_000, word)
    assert name.startswith(f"{place:06d}-")
    assert name.endswith(".png")
    assert len(name) <= LONGEST


def test_word_files_sort_as_the_prompt_does() -> None:
    words = ["zebra", "a", "Mouse", "a", *["b"] * 8]
    names = [word_file(place, len(words), word) for place, word in enumerate(words, 1)]
    assert names == sorted(names)
    assert len(set(names)) == len(words)


def test_a_file_system_that_takes_only_ascii_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfumato.writing.slugs.os.fsencode", lambda name: name.encode("ascii"))
    assert slug("Ünïque café") == "unique-cafe"
    assert slug("круг") == "cyrillic-small-letter-ka"
