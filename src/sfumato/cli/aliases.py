"""Commands that became tasks of ``sfumato run``: for one release they name the new form and carry it out."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer

from sfumato.bounds import checked_int
from sfumato.cli.console import note, print_json, say
from sfumato.cli.parameters import DEFAULT_MODEL, Debug, Device, Json, ModelName, Steps, add, seeded
from sfumato.cli.session import session_of
from sfumato.errors import OptionError
from sfumato.option_values import COUNT
from sfumato.timesteps import MAX_STEPS

ALIASES = {"bench words": "word_localisation", "bench ranks": "rank_agreement"}
"""Tasks by the commands that they were."""
OPTIONS, REQUESTS = ("method", "option", "at"), ("seed", "steps", "guidance")
LONGEST_NUMBER = 20
WITHOUT_RESULT = 3
"""The exit code of a run of which some rows have no result."""


def add_alias(group: typer.Typer, old: str) -> None:
    """Add a command of `ALIASES` to its group."""
    task = ALIASES[old]

    def command(
        context: typer.Context,
        prompts: Annotated[
            str | None, typer.Option(metavar="FILE|NUMBER", help="A file of prompts, or how many of the task's own.")
        ] = None,
        method: Annotated[str | None, typer.Option(help="Which method; see: sfumato methods.")] = None,
        option: Annotated[
            list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the method; may be repeated.")
        ] = None,
        at: Annotated[
            int | None, typer.Option(min=1, max=MAX_STEPS - 1, help="Explain drawn scenes, noised to this timestep.")
        ] = None,
        seed: Annotated[int, seeded("Of the first prompt; prompt i has --seed + i.")] = 0,
        steps: Steps = None,
        guidance: Annotated[float | None, typer.Option(help="Guidance scale.", show_default="the model's own")] = None,
        model: ModelName = DEFAULT_MODEL,
        device: Device = None,
        out: Annotated[str | None, typer.Option(help="Folder of the run.", show_default="runs/TASK")] = None,
        as_json: Json = False,
        debug: Debug = False,
    ) -> None:
        given: dict[str, Any] = {"prompts": _number(prompts), "method": method, "option": option or None, "at": at}
        given |= {"seed": seed, "steps": steps, "guidance": guidance, "model": model, "device": device, "out": out}
        _run(context, old, given, as_json)

    command.__doc__ = f"Renamed: this is `sfumato run {task}`, and goes in a later release."
    add(group, old.rpartition(" ")[2], command, f"sfumato {old}")


def _new_form(task: str, given: dict[str, Any]) -> str:
    """The command that does the same; defaults are left out."""
    usual = {"seed": 0, "model": DEFAULT_MODEL}
    words = ["sfumato", "run", task]
    for name, value in given.items():
        if value is not None and value != usual.get(name):
            for one in value if isinstance(value, list) else [value]:
                words += [f"--{name}", str(one)]
    return shlex.join(words)


def _run(context: typer.Context, old: str, given: dict[str, Any], as_json: bool) -> None:
    from sfumato.cli.loading import other_bars_hidden
    from sfumato.cli.tables import say_finding
    from sfumato.runs.finding import Finding
    from sfumato.runs.running import run

    task = ALIASES[old]
    out = given["out"] or f"runs/{task}"
    session_of(context).stopped = f"stopped; what is measured is kept in {out}, and the same command goes on"
    with other_bars_hidden():
        found = run(
            task,
            given["model"],
            out=out,
            prompts=given["prompts"],
            common={name: given[name] for name in REQUESTS if given[name] is not None},
            device=given["device"],
            **{name: given[name] for name in OPTIONS if given[name] is not None},
        )
    note(f"`sfumato {old}` is now: {_new_form(task, given)}")
    counts = found.counts
    finding = found.finding if counts.ok else None
    if as_json:
        print_json({"finding": finding, "folder": out})
    elif finding is not None:
        say_finding(Finding.from_json(finding), f"{task} on {found.settings['model']}")
        say()
        say(f"results in {out}: the finding, and items.parquet with a row for each word")
    if lost := counts.failed + counts.invalid:
        note(f"{lost:,} of {counts.total:,} prompts have no result: {out}/failed.csv says why")
        raise typer.Exit(WITHOUT_RESULT)


def _number(prompts: str | None) -> str | int | None:
    """How many prompts, or a file.

    Raises:
        OptionError: The number is out of bounds.
    """
    if prompts is None or not prompts.removeprefix("-").isdecimal() or len(prompts) > LONGEST_NUMBER:
        return prompts
    return checked_int("prompts", int(prompts), **COUNT, error=OptionError)
