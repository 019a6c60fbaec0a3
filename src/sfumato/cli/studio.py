"""``sfumato studio``: how good the embedded models are."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sfumato.cli.console import print_json, progress_shown
from sfumato.cli.parameters import Debug, Device, Json, add, help_when_alone
from sfumato.errors import RequestError

group = typer.Typer(help="Score the embedded models against exact ground truth.", rich_markup_mode="rich")


@group.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Show the help when no command is named."""
    help_when_alone(context)


def score(
    name: Annotated[
        str, typer.Argument(help="An embedded model (scenes, faces), or a folder in diffusers layout.")
    ] = "scenes",
    prompts: Annotated[
        int | None,
        typer.Option(help="How many held-out prompts, or faces.", show_default="200 prompts, 320 faces"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the first image; image i has --seed + i.")] = 0,
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Generate images and read them: are objects, colours, relations and counts right, or the attributes of faces?"""
    if prompts is not None and prompts < 1:
        raise RequestError(f"--prompts is {prompts}; expected a whole number, 1 or more")

    from sfumato.cli.loading import load_model
    from sfumato.cli.tables import say_rows
    from sfumato.models.loading import studio_models
    from sfumato.studio.faces_scoring import score_faces
    from sfumato.studio.scoring import score as run

    with progress_shown(news=True) as progress:
        model = load_model(f"studio/{name}" if f"studio/{name}" in studio_models() else name, device, progress)
        if "label" in model.features:
            result = score_faces(model, prompts or 320, seed=seed, progress=progress)
        else:
            result = run(model, prompts or 200, seed=seed, progress=progress)
    if as_json:
        print_json(json.loads(result.to_json()))
    else:
        say_rows(result.title, result.rows())


add(
    group,
    "score",
    score,
    "sfumato studio score scenes",
    "sfumato studio score scenes --prompts 20 --json",
    "sfumato studio score faces",
)
