"""Commands that became tasks of ``sfumato run``: for one release they name the new form and carry it out."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields

import typer

from sfumato.cli.console import note
from sfumato.cli.parameters import examples, help_when_alone

ALIASES: dict[str, str | tuple[str, ...]] = {
    "bench words": "word_localisation",
    "bench ranks": "rank_agreement",
    "bench segments": "segment_matching",
    "bench words-importance": "word_importance",
    "bench worths": "word_shares",
    "bench maps": "map_faithfulness",
    "bench reference": "reference_pointing",
    "bench steps": "step_faithfulness",
    "study pos": "parts_of_speech",
    "study relations": "relations",
    "study numbers": "counts",
    "study entanglement": ("cohyponyms", "swapped_adjectives", "colour_leakage"),
    "study scrambled": "scrambled",
    "study steps": ("frequency_levels", "leading_words", "settled_attributes"),
    "study parts": "relevance_by_schedule",
    "experiment emergence": "emergence",
    "experiment localisation": "localisation",
    "experiment ablation": "ablation",
    "experiment artifact": "artifact",
    "experiment divergence": "divergence",
    "experiment switch": "switch",
    "calibrate": "calibration",
}
"""Tasks by the commands that they were; one that asked several questions became a task for each."""
RENAMED = {"study entanglement": {"--pairs": "--prompts"}}
"""Options of the old commands by the names that their tasks have for them."""


def group_of_aliases(name: str) -> typer.Typer:
    """The group of all old commands that began with a name."""
    group = typer.Typer(help="Old names of tasks; see: sfumato run.", rich_markup_mode="rich")

    def root(context: typer.Context) -> None:
        """Show the help when no command is named."""
        help_when_alone(context)

    group.callback(invoke_without_command=True)(root)
    for old in (one for one in ALIASES if one.startswith(f"{name} ")):
        _add_alias(group, old)
    return group


def _add_alias(group: typer.Typer, old: str) -> None:
    """Add a command of `ALIASES` to its group; it takes what the task takes."""

    def command(context: typer.Context) -> None:
        run_alias(context, old, context.args)

    named = ", ".join(tasks_of(old))
    group.command(
        old.rpartition(" ")[2],
        help=f"Renamed to sfumato run {named}, whose options it takes; it goes in a later release.",
        epilog=examples(f"sfumato {old}"),
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )(command)


def tasks_of(old: str) -> tuple[str, ...]:
    """The tasks that a command of `ALIASES` became."""
    named = ALIASES[old]
    return (named,) if isinstance(named, str) else named


def run_alias(context: typer.Context, old: str, arguments: Sequence[str]) -> None:
    """Say what a command is called now, and run that; several tasks run one after the other.

    Args:
        context: Of the old command.
        old: Its name, one of `ALIASES`.
        arguments: As the task takes them; of several tasks each has a folder of its own below ``--out``.

    Raises:
        typer.Exit: A run has rows without a result.
    """
    from sfumato.cli.running import group as runs

    code, group = 0, typer.main.get_command(runs)
    for given in commands_of(old, arguments):
        note(f"`sfumato {old}` is now: {shlex.join(['sfumato', 'run', *given])}")
        with group.make_context("run", given, parent=context) as inner:
            try:
                group.invoke(inner)
            except typer.Exit as ended:
                code = max(code, ended.exit_code)
    if code:
        raise typer.Exit(code)


def commands_of(old: str, arguments: Sequence[str]) -> list[list[str]]:
    """What follows ``sfumato run`` for each task that a command of `ALIASES` became."""
    tasks, names = tasks_of(old), RENAMED.get(old, {})
    if len(tasks) == 1:
        return [[*tasks, *_renamed(arguments, names, "")]]
    return [[task, *_without_method(task, _renamed(arguments, names, task))] for task in tasks]


def _without_method(task: str, arguments: Sequence[str]) -> list[str]:
    """The arguments without ``--method`` and its value where one of several tasks takes none."""
    from sfumato.runs.task import find_task

    if "method" in {option.name for option in fields(find_task(task).options)}:
        return list(arguments)
    pairs = zip(("", *arguments), arguments, strict=False)
    return [given for before, given in pairs if before != "--method" and given.partition("=")[0] != "--method"]


def _renamed(arguments: Sequence[str], names: Mapping[str, str], folder: str) -> list[str]:
    """The arguments by their new names, with a folder below that of the results."""
    found: list[str] = []
    for before, given in zip(("", *arguments), arguments, strict=False):
        name, equals, value = given.partition("=")
        if before == "--out" and folder:
            found.append(f"{given}/{folder}")
        elif name == "--out" and equals and folder:
            found.append(f"{name}={value}/{folder}")
        else:
            found.append(f"{names.get(name, name)}{equals}{value}")
    return found
