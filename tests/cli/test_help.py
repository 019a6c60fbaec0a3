"""Help: every command has it, with examples that the command line itself understands."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from sfumato.cli.app import app
from tests.cli.running import run


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group with the words that lead to it."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


ALL = dict(commands(typer.main.get_command(app)))
EXAMPLES = [
    (path, line.removeprefix("$ ").replace("\\[", "["))
    for path, command in ALL.items()
    for line in (command.epilog or "").splitlines()
    if line.startswith("$ ")
]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_has_a_sentence_examples_and_a_word_on_every_option(path: tuple[str, ...]) -> None:
    shown = run(*path, "--help")
    assert (shown.code, shown.err) == (0, "")
    assert "Usage: sfumato" in shown.out
    assert "Examples:" in shown.out
    command = ALL[path]
    assert command.help.split("\n")[0].strip().endswith((".", "?"))
    for parameter in command.params:
        assert parameter.help, f"{path}: {parameter.name} has no help"


def test_every_command_has_an_example_of_its_own() -> None:
    assert {path for path, _ in EXAMPLES} == set(ALL)


@pytest.mark.parametrize(("path", "line"), EXAMPLES)
def test_examples_are_understood(path: tuple[str, ...], line: str) -> None:
    program, *words = shlex.split(line.partition(" > ")[0])
    assert program == "sfumato"
    assert tuple(words[: len(path)]) == path
    at: tuple[str, ...] = ()
    while words and (*at, words[0]) in ALL:
        at = (*at, words.pop(0))
    context = ALL[at].make_context(" ".join(at), words)  # raises what the command line would report
    assert not context.args


@pytest.mark.parametrize("path", [path for path in ALL if getattr(ALL[path], "commands", None)], ids=" ".join)
def test_a_group_alone_shows_its_help(path: tuple[str, ...]) -> None:
    alone, asked = run(*path), run(*path, "--help")
    assert alone.code == 0
    assert alone.out.strip() == asked.out.strip()


def test_version() -> None:
    from importlib.metadata import version

    shown = run("--version")
    assert (shown.code, shown.out, shown.err) == (0, f"sfumato {version('sfumato')}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explian"], "error: No such command 'explian'. Did you mean 'explain'?; see: sfumato --help"),
        (["explain"], "error: there is nothing to explain; give a prompt, such as: sfumato explain 'a red circle'"),
        (["explain", "a", "b"], "see: sfumato explain --help"),
        (["explain", "a", "--nonsense"], "No such option: --nonsense"),
        (["explain", "a", "--seed"], "see: sfumato explain --help"),
        (["explain", "a", "--seed", "seven"], "'--seed'"),
        (["explain", "a", "--steps", "1e9"], "'--steps'"),
        (["explain", "a", "--guidance", "much"], "'--guidance'"),
        (["studio", "score", "scenes", "--prompts", "x"], "see: sfumato studio score --help"),
        (["bench", "wrods"], "Did you mean 'words'?; see: sfumato bench --help"),
        (["explain", "a", "--\x1b[31m"], "\\x1b[31m"),
    ],
)
def test_wrong_usage_is_one_line_with_a_hint(arguments: list[str], message: str) -> None:
    assert message in run(*arguments).error
