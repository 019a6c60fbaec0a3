"""``sfumato train``: make an embedded model from nothing."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from sfumato.cli.console import print_table, say
from sfumato.cli.parameters import Debug, add
from sfumato.cli.session import session_of
from sfumato.errors import TrainingError

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


def train(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="What to train; see --list.", show_default=False)] = None,
    show_list: Annotated[bool, typer.Option("--list", help="List what can be trained.")] = False,
    config: Annotated[
        str | None, typer.Option(metavar="FILE", help="Settings (TOML).", show_default="those of the shipped model")
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Work folder: data, checkpoints, samples, log.", show_default="runs/NAME")
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(help="Run only this stage; may be repeated.", show_default="all, one after the other"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.", show_default="as in the settings")] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, max=1_000_000_000, help="Steps of each stage that is run.", show_default="as in the settings"
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Photographs in CelebA's layout instead of drawn faces (faces only).",
            show_default=False,
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start the stages over instead of going on from their last checkpoints.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Train an embedded model; after a stop, the same command goes on where it was.

    A training survives Ctrl-C and kill -9: it goes on from the last checkpoint in the work folder.
    """
    from sfumato.writing.records import check_record
    from sfumato_training import recipes

    if show_list:
        rows = [[known, ", ".join(recipes.recipe(known).stages), _about(known)] for known in recipes.names()]
        print_table(("name", "stages", "what it is"), rows)
        return
    if name is None:
        raise TrainingError(f"no name was given; choose from: {', '.join(recipes.names())}")
    recipe = recipes.recipe(name)
    settings = recipe.load(None if config is None else Path(config))
    stages = _stages(stage or (), recipe.stages)
    settings = _changed(settings, stages, device, steps, data)
    folder = Path(out if out is not None else f"runs/{name}")
    if recipe.stages[-1] in stages:  # what the end of the training would refuse is refused now
        for place in sorted((folder / "weights").glob("*/")):
            check_record(place, str(place))
    session_of(context).stopped = f"stopped; the same command goes on from the last checkpoint in {folder}"
    recipes.train(name, settings, folder, stages=stages, resume=not restart)
    say(f"trained: {', '.join(stages)}; the work folder is {folder}")
    if recipe.stages[-1] in stages:
        machine = f"{os.cpu_count()} CPU cores" if settings.device == "cpu" else f"a {settings.device} device"
        model = recipe.export(folder, folder / "weights", machine=machine)
        say(f"the model is in {model}" + (f"; use it with: --model {model}" if recipe.generates else ""))


def _about(name: str) -> str:
    """The first comment in the settings."""
    from sfumato_training.recipes import recipe

    for line in recipe(name).file.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            return line.lstrip("# ").partition(". ")[0]
    return ""


def _stages(given: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [stage for stage in given if stage not in known]:
        raise TrainingError(f"there is no stage {unknown[0]!r}; the stages are: {', '.join(known)}")
    return tuple(stage for stage in known if not given or stage in given)


def _changed(settings: Any, stages: tuple[str, ...], device: str | None, steps: int | None, data: str | None) -> Any:
    if device is not None:
        settings = dataclasses.replace(settings, device=device)
    if data is not None:
        if not hasattr(settings.data, "folder"):
            raise TrainingError(f"--data is for faces; the data of {settings.name} is drawn, so leave it out")
        if not Path(data).is_dir():
            raise TrainingError(f"--data {data} is no folder; give one in CelebA's layout")
        settings = dataclasses.replace(settings, data=dataclasses.replace(settings.data, folder=data))
    if steps is None:
        return settings
    changed: dict[str, Any] = {}
    for stage in stages:
        part = getattr(settings, stage)
        if hasattr(part, "steps"):
            changed[stage] = dataclasses.replace(part, steps=steps)
    return dataclasses.replace(settings, **changed)


add(
    app,
    "train",
    train,
    "sfumato train scenes --out runs/scenes",
    "sfumato train scenes --out runs/scenes --stage unet --device cuda",
    "sfumato train --list",
)
