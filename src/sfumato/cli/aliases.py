"""Commands that became tasks: for one release they name the new form and carry it out."""

from __future__ import annotations

import shlex

import typer

from sfumato.cli.console import note
from sfumato.cli.parameters import examples

ALIASES = {"bench words": "word_localisation", "bench ranks": "rank_agreement"}
"""Tasks by the commands that they were."""
FORWARDED = {"allow_extra_args": True, "ignore_unknown_options": True}


def add_alias(group: typer.Typer, old: str) -> None:
    """Add a command of `ALIASES` to its group; its arguments are those of the task."""
    task = ALIASES[old]

    def command(context: typer.Context) -> None:
        from sfumato.cli.running import group as runs

        note(f"`sfumato {old}` is now: {shlex.join(['sfumato', 'run', task, *context.args])}")
        run = typer.main.get_command(runs)
        with run.make_context("run", [task, *context.args], parent=context.find_root()) as below:
            run.invoke(below)

    text = f"The same as `sfumato run {task}`, for one release. Its options: sfumato run {task} --help."
    name = old.rpartition(" ")[2]
    group.command(name, help=text, epilog=examples(f"sfumato {old}"), context_settings=FORWARDED)(command)
