"""Commands that installed packages add: listed from their metadata, imported when used, harmless when broken."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sfumato.cli import entry, installed
from tests.cli.commands import install
from tests.cli.running import run


@pytest.fixture
def anew() -> Iterator[None]:
    """The command line is put together anew, before and after."""
    entry._command.cache_clear()
    yield
    entry._command.cache_clear()


@pytest.fixture
def greeting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew: None) -> Iterator[None]:
    """A made-up package with commands, installed for this process."""
    monkeypatch.syspath_prepend(install(tmp_path))
    yield
    sys.modules.pop("sfumato_greeting", None)


def test_commands_are_listed_by_the_summary_of_their_package_which_is_not_imported(greeting: None) -> None:
    shown = run("--help")
    assert (shown.code, shown.err) == (0, "")
    for name in ("greet", "broken", "odd"):
        assert f"{name} " in shown.out
    assert shown.out.count("Greets whom it is told.") == 3
    assert "sfumato_greeting" not in sys.modules


def test_a_command_runs_has_help_and_is_suggested(greeting: None) -> None:
    done = run("greet", "Ada")
    assert (done.code, done.out, done.err) == (0, "hello Ada\n", "")
    shown = run("greet", "-h")
    assert shown.code == 0
    assert "Usage: sfumato greet" in shown.out
    assert "Greet somebody." in shown.out
    assert "Did you mean 'greet'?" in run("gret").error
    assert run("greet").error.endswith("see: sfumato greet --help")


def test_no_package_takes_a_command_of_sfumato(greeting: None) -> None:
    assert "Greet somebody" not in run("explain", "--help").out
    assert "sfumato_greeting" not in sys.modules


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "the command 'broken' (sfumato_absent:app) cannot be loaded: No module named 'sfumato_absent'"),
        ("odd", "the command 'odd' (sfumato_greeting:greet) is no typer.Typer but function"),
    ],
)
def test_a_broken_command_is_one_line(name: str, message: str, greeting: None) -> None:
    assert run(name).error == f"error: {message}"
    assert run(name, "--help").error == f"error: {message}"
    assert run("greet", "Ada").code == 0


def test_what_is_not_installed_says_what_to_install(anew: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "entry_points", lambda group: ())
    for arguments in (["train"], ["train", "scenes"], ["train", "--help"]):
        error = run(*arguments).error
        assert error == (
            "error: sfumato train is in a package of its own; in a copy of the repository: pip install ./training"
        )
    assert "train " not in run("--help").out


def test_the_commands_of_sfumato_look_for_no_package(anew: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked(group: str) -> Any:
        raise AssertionError(f"{group} was looked for")

    monkeypatch.setattr(installed, "entry_points", looked)
    assert run("explain", "--help").code == 0
    assert run("study", "steps", "--help").code == 0
