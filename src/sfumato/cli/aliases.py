"""Commands that became tasks of ``sfumato run``: for one release they name the new form and carry it out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import typer

from sfumato.cli.console import note
from sfumato.cli.parameters import examples

ALIASES: dict[str, str] = {
    "bench words": "word_localisation",
    "bench ranks": "rank_agreement",
    "bench segments": "segment_matching",
    "bench words-importance": "word_importance",
    "bench worths": "word_shares",
    "bench maps": "map_faithfulness",
    "study pos": "parts_of_speech",
    "experiment emergence": "emergence",
    "experiment localisation": "localisation",
    "experiment ablation": "ablation",
    "experiment artifact": "artifact",
    "experiment divergence": "divergence",
    "experiment switch": "switch",
}
"""Tasks by the commands that they were."""


def add_alias(group: typer.Typer, old: str) -> None:
    """Add a command of `ALIASES` to its group; it takes what the task takes."""

    def command(context: typer.Context) -> None:
        run_alias(context, old, context.args)

    task = ALIASES[old]
    group.command(
        old.rpartition(" ")[2],
        help=f"Renamed to sfumato run {task}, whose options it takes; it goes in a later release.",
        epilog=examples(f"sfumato {old}"),
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )(command)


def run_alias(context: typer.Context, old: str, arguments: Sequence[str]) -> None:
    """Say what a command is called now, and run that.

    Args:
        context: Of the old command.
        old: Its name, one of `ALIASES`.
        arguments: As the task takes them.
    """
    from sfumato.cli.running import group as runs

    task = ALIASES[old]
    note(f"`sfumato {old}` is now: {shlex.join(['sfumato', 'run', task, *arguments])}")
    group = typer.main.get_command(runs)
    with group.make_context("run", [task, *arguments], parent=context) as inner:
        group.invoke(inner)
