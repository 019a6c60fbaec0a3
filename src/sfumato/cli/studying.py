"""``sfumato study``: questions of the sources, answered on many studio prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli.console import print_json, progress_shown, say
from sfumato.cli.parameters import DEFAULT_MODEL, Debug, Device, Json, ModelName, add, help_when_alone
from sfumato.cli.session import session_of

if TYPE_CHECKING:
    from sfumato.findings import Finding

group = typer.Typer(help="Ask what the sources asked, on many studio prompts.", rich_markup_mode="rich")


@group.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Show the help when no command is named."""
    help_when_alone(context)


def steps(
    context: typer.Context,
    prompts: Annotated[int, typer.Option(help="How many held-out prompts of two objects.")] = 30,
    seed: Annotated[int, typer.Option(help="Of the first image; image i has --seed + i.")] = 0,
    denoising: Annotated[
        int | None, typer.Option("--steps", help="Denoising steps.", show_default="the model's own")
    ] = None,
    model: ModelName = DEFAULT_MODEL,
    out: Annotated[str, typer.Option(help="Folder of the results.")] = "out/study-steps",
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """What do the steps recover: regions at which level, which words in the lead, which attributes settled when?

    What was computed for a prompt is kept, so the same command goes on after a stop.
    """
    from sfumato.cli.loading import load_model
    from sfumato.results.folders import write_folder
    from sfumato.studies.steps import study_steps

    session_of(context).stopped = "stopped; the same command goes on with the prompts that are left"
    with progress_shown() as progress, write_folder(out) as folder:
        loaded = load_model(model, device, progress)
        found = study_steps(loaded, prompts, seed=seed, steps=denoising, progress=progress)
        for one in found:
            one.write(folder / one.name)
    _shown(found, out, as_json)


def parts(
    context: typer.Context,
    prompts: Annotated[int, typer.Option(help="How many held-out prompts of two objects.")] = 30,
    seed: Annotated[int, typer.Option(help="Of the first image; image i has --seed + i.")] = 0,
    denoising: Annotated[int, typer.Option("--steps", help="Denoising steps of each schedule.")] = 30,
    model: ModelName = DEFAULT_MODEL,
    out: Annotated[str, typer.Option(help="Folder of the results.")] = "out/study-parts",
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Subject, relation, object: where does relevance go when steps are spent early or late?

    What was computed for a prompt is kept, so the same command goes on after a stop.
    """
    from sfumato.cli.loading import load_model
    from sfumato.results.folders import write_folder
    from sfumato.studies.parts import study_parts

    session_of(context).stopped = "stopped; the same command goes on with the prompts that are left"
    with progress_shown() as progress, write_folder(out) as folder:
        loaded = load_model(model, device, progress)
        found = study_parts(loaded, prompts, seed=seed, steps=denoising, progress=progress)
        found.write(folder)
    _shown([found], out, as_json)


def _shown(found: Sequence[Finding], folder: str, as_json: bool) -> None:
    """Print findings as tables with their sentences, or as JSON."""
    from sfumato.cli.tables import say_finding

    if as_json:
        print_json({"findings": [json.loads(one.to_json()) for one in found], "folder": folder})
        return
    for one in found:
        say()
        say_finding(one, f"{one.name} on {one.about['model']}")
    say()
    say(f"results in {folder}: a figure, a table and a finding for each question")


add(group, "steps", steps, "sfumato study steps", "sfumato study steps --prompts 10 --out out/steps")
add(group, "parts", parts, "sfumato study parts", "sfumato study parts --prompts 100 --steps 30")
