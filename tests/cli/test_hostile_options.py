"""Every option and argument of every command, given nonsense: one clear line, never a bug and never a start of work."""

from __future__ import annotations

import os
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from sfumato.cli.app import app
from sfumato.errors import SfumatoError
from tests.cli.running import run

TEXTS = {
    "empty": "",
    "blank": " \t",
    "word": "nonsense",
    "NUL": "a\0b",
    "lone surrogate": "\ud800",
    "undecodable byte": "\udcff",
    "no home": "~nosuchuser/a",
    "very long": "x" * 100_000,
    "deep": "[" * 100_000,
    "deep value": "eta=" + "[" * 100_000,
    "value of another type": "eta=[]",
    "NaN": "nan",
    "infinite": "inf",
    "huge": str(10**12),
    "very huge": str(10**30),
    "more digits than Python reads": "9" * 5000,
    "negative": "-1",
    "other digits": "٣",
    "pipe": "{pipe}",  # never a device: where a name is written to, a device would be replaced
    "folder": "/",
    "a range": "0:1000000000000",
    "many ranges": "0:99999," * 500,
}
NAMES = (
    "word",
    "blank",
    "huge",
    "very huge",
    "negative",
    "NaN",
    "infinite",
    "other digits",
    "deep value",
    "undecodable byte",
)
"""Texts that are names of folders like all others."""
STARTED = "the work would start here"
COUNTS = {"prompts", "samples", "seeds", "pairs", "masks", "repeats", "stages", "points", "timed"}
COUNTS |= {"steps", "denoising", "images", "height", "width"}
"""Options that say how many; none of them starts the work with what no machine can do."""
LEAST = {
    "explain": ["a"],
    "open": ["{made}"],
    "compare": ["{made}", "{made}"],
    "judge": ["{made}"],
    "experiment": ["switch"],
    "train": ["scenes"],
}
"""The arguments that commands need."""


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that name it."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


CASES = [
    (path, one.name, one.opts[-1] if one.param_type_name == "option" else "")
    for path, command in commands()
    for one in command.params
    if not getattr(one, "is_flag", False) and one.name != "help"
]


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Loading a model, training one and serving a page raise an error that marks that they were reached."""

    def reached(*arguments: Any, **more: Any) -> Any:
        raise SfumatoError(STARTED)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sfumato.models.loading._read", reached)
    monkeypatch.setattr("sfumato.models.loading._check_hub", reached)
    monkeypatch.setattr("sfumato_training.recipes.train", reached)
    monkeypatch.setattr("sfumato.app.serving._listening", reached)


@pytest.mark.slow
@pytest.mark.parametrize(("path", "name", "option"), CASES, ids=[" ".join((*path, name)) for path, name, _ in CASES])
def test_nonsense_on_the_command_line(
    path: tuple[str, ...], name: str, option: str, made: Path, stopped: None, tmp_path: Path
) -> None:
    least = [one.format(made=made) for one in LEAST.get(" ".join(path), [])]
    wrong = []
    os.mkfifo(tmp_path / "pipe")
    for what, given in TEXTS.items():
        if option == "--out" and what in NAMES:
            continue
        text = given.replace("{pipe}", str(tmp_path / "pipe"))
        arguments = [*path, *least, f"{option}={text}"] if option else [*path, "--", text]
        done = run(*arguments)
        line = (done.err.splitlines() or [""])[-1]
        if done.code not in (0, 2) or "bug" in done.err or (done.code == 2 and not line.startswith("error: ")):
            wrong.append(f"{what}: {done.code} {line[:300]}")
        elif len(line) > 2000:
            wrong.append(f"{what}: a line of {len(line)} characters")
        elif name in COUNTS and STARTED in line and what in ("huge", "very huge", "negative", "NaN", "infinite"):
            wrong.append(f"{what}: was accepted")
    assert not wrong, "\n".join(wrong)


def _kinds(annotation: Any) -> set[type]:
    return set(typing.get_args(annotation)) or {annotation}


def test_every_number_on_the_command_line_has_bounds() -> None:
    """Those of a request are checked where it is made; all others are bounded by their own declaration."""
    open_ended = [
        f"{' '.join(path)} {one.opts[-1]}"
        for path, command in commands()
        for one in command.params
        if path != ("explain",) and int in _kinds(one.type_descriptor.annotation)
        if one.min is None or one.max is None
    ]
    assert not open_ended, f"declare the bounds of: {', '.join(open_ended)}"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("judge nothing --repeats 1000000000000", "'--repeats': Input should be less than or equal to 100000"),
        ("run step_faithfulness --masks 1000000000", "'--masks': Input should be less than or equal to 100000"),
        ("experiment switch --seeds 1000000000000", "'--seeds': Input should be less than or equal to 100000"),
        ("run relations --prompts 1000000000000000000000000000000", "expected a whole number from 1 to 100000"),
        ("run calibration --prompts 999999", "prompts is 999999; expected a whole number from 1 to 100000"),
        ("run relations --prompts /dev/null", "holds no prompt|it is no regular file"),
        ("explain a --image ~nosuchuser/a.png", "there is no home folder for ~nosuchuser; write the path out"),
        ("explain a --schedule 1000001", "schedule is '1000001'"),
        ("open nothing --layers [[", "--layers is '[[', no regular expression|does not exist"),
    ],
)
def test_what_is_beyond_all_bounds(command: str, message: str, stopped: None) -> None:
    error = run(*command.split()).error
    assert any(one in error for one in message.split("|")), error
