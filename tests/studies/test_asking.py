"""Which prompts a study asks: files of every kind, and what it says of a model or a number that it cannot use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sfumato
from sfumato.bounds import shown_path
from sfumato.errors import ModelError, RequestError, SfumatoWarning
from sfumato.request import Request
from sfumato.studies import asking
from sfumato.studies.asking import about, asked, read_prompts
from tests.labels import tiny_labels
from tests.tasks.made_up import MODEL, covering, made

RED, BLUE = "a red circle", "a blue square, gray background"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"{RED}\n{BLUE}\n", [RED, BLUE]),
        (f"{RED}", [RED]),
        (f"\n\n  {RED} \t\n \n{BLUE}   \n\n", [RED, BLUE]),
        (f"{RED}\r\n{BLUE}\r\n\r\n", [RED, BLUE]),
        (f"{RED}\r{BLUE}\r", [RED, BLUE]),
        (f"\ufeff{RED}\n{BLUE}", [RED, BLUE]),
        (f"{RED}\n{BLUE}\n{RED}\n{RED}", [RED, BLUE, RED, RED]),  # each is an image of its own, with its own seed
        ("un café, 红色的圆 ❤️\n# no comment\n12", ["un café, 红色的圆 ❤️", "# no comment", "12"]),
        ("x" * 100_000, ["x" * 100_000]),
    ],
    ids=["lines", "one", "blank lines", "CRLF", "CR", "byte order mark", "repeated", "any script", "long"],
)
def test_each_line_is_a_prompt(content: str, expected: list[str], tmp_path: Path) -> None:
    file = tmp_path / "prompts with spaces.txt"
    file.write_bytes(content.encode())
    assert read_prompts(str(file)) == tuple(expected)


def picture(file: Path) -> None:
    Image.new("RGB", (4, 4)).save(file, "PNG")


CONTENTS: dict[str, tuple[bytes | Callable[[Path], None], str]] = {
    "empty": (b"", "holds no prompt; write one a line, such as: a red circle left of a blue square"),
    "blank lines": (b"\n \r\n\t\n", "holds no prompt"),
    "a byte order mark": ("\ufeff\n".encode(), "holds no prompt"),
    "a picture": (picture, "is no text in UTF-8; expected a text file with one prompt a line"),
    "UTF-16": (RED.encode("utf-16"), "is no text in UTF-8"),
    "UTF-16 without mark": (RED.encode("utf-16-le"), "holds NUL characters, so it is no text"),
    "Latin-1": ("un café".encode("latin-1"), "is no text in UTF-8"),
    "NUL": (
        b"a red circle\n\0\n",
        "holds NUL characters, so it is no text; expected a text file with one prompt a line",
    ),
    "half a character": (RED.encode() + "é".encode()[:1], "is no text in UTF-8"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_what_is_no_list_of_prompts_is_said_in_one_line(name: str, tmp_path: Path) -> None:
    content, message = CONTENTS[name]
    file = tmp_path / "prompts.txt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        content(file)
    with pytest.raises(RequestError) as failure:
        read_prompts(str(file))
    assert message in str(failure.value)
    assert repr(str(file)) in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("nowhere.txt", "No such file or directory"),
        ("nowhere/prompts.txt", "No such file or directory"),
        ("folder", "Is a directory"),
        ("", "it is no path"),
        ("a\0b", "it contains a NUL character; remove it"),
        ("~nosuchuser/a", "there is no home folder for ~nosuchuser; write the path out"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_file_that_cannot_be_read_is_said(
    file: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(RequestError) as failure:
        read_prompts(file)
    assert str(failure.value).startswith(f"cannot read {shown_path(file)}: {reason}; expected a text file")


def test_requests_have_the_seeds_and_steps_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def mapped(model: Any, requests: Any, **more: Any) -> list[Any]:
        given.update(more, requests=requests)
        return []

    monkeypatch.setattr(asking, "mapped", mapped)
    assert asked(MODEL, [RED, BLUE], seeds=[7, 9], method="magic", steps=3) == []
    assert given["requests"] == [Request(RED, seed=7, steps=3), Request(BLUE, seed=9, steps=3)]
    assert given["method"] == "magic"
    with pytest.warns(SfumatoWarning, match="one prompt gives no interval, so no finding can be confirmed"):
        asked(MODEL, [RED], seeds=[0])
    with pytest.raises(ValueError, match="shorter"):
        asked(MODEL, [RED, BLUE], seeds=[0])


def test_a_model_without_words_is_refused() -> None:
    labels = sfumato.wrap(tiny_labels())
    with pytest.raises(ModelError, match=r"^a study of words needs a model that reads text; .* reads none$"):
        asked(labels, [RED, BLUE], seeds=[0, 1])


def test_what_the_numbers_depend_on_is_told() -> None:
    found = [made("a dog", [covering(0.1)] * 2, seed=seed) for seed in (4, 2, 9)]
    assert about(MODEL, found, method="daam") == {
        "model": "made up",
        "prompts": 3,
        "seeds": "2 to 9",
        "steps": 2,
        "scheduler": "ddim",
        "guidance": 2.0,
        "method": "daam",
    }
