"""``sfumato experiment``: the old name of the tasks over seeds; it translates its options and runs them."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated

import typer

from sfumato.cli.aliases import ALIASES, run_alias, tasks_of
from sfumato.cli.parameters import Debug, Device, Json, Steps, count, seeded
from sfumato.errors import OptionError
from sfumato.writing.slugs import slug

GROUP = "experiment "
NAMES = tuple(old.removeprefix(GROUP) for old in ALIASES if old.startswith(GROUP))


def experiment(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=f"{', '.join(NAMES[:-1])} or {NAMES[-1]}.", show_default=False)],
    seeds: Annotated[int, count("How many seeds.")] = 30,
    seed: Annotated[int, seeded("The first of them.")] = 0,
    model: Annotated[str, typer.Option(help="An embedded model, a folder, or a hub id.")] = "studio/faces",
    prompt: Annotated[str | None, typer.Option(help="What the images show.", show_default="by model")] = None,
    label: Annotated[str | None, typer.Option(help="Their label.", show_default="0110")] = None,
    other: Annotated[
        str | None, typer.Option(help="The other label or prompt, of divergence and switch.", show_default="by model")
    ] = None,
    steps: Steps = None,
    scheduler: Annotated[str | None, typer.Option(help="Such as ddpm.", show_default="the model's own")] = None,
    mask: Annotated[
        str | None,
        typer.Option(metavar="REGION|FILE", help="The part that is followed.", show_default="eyes or middle"),
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder of the run.", show_default="runs/NAME-MODEL")] = None,
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Renamed to sfumato run NAME; it goes in a later release. What was measured for a seed is kept in the folder."""
    from sfumato.runs.task import find_task

    if name not in NAMES:
        raise OptionError(f"there is no experiment {name!r}; choose from: {', '.join(NAMES)}")
    given = {"seeds": seeds, "seed": seed, "prompt": prompt, "label": label, "other": other, "steps": steps}
    given |= {"scheduler": scheduler, "mask": mask}
    (task,) = tasks_of(GROUP + name)
    own = {option.name for option in fields(find_task(task).options)}
    folder = out or f"runs/{name}-{slug(model.removeprefix('studio/'))}"
    told: dict[str, str | int | None] = {"model": model, "out": folder, "device": device}
    told |= {key: value for key, value in given.items() if key in own}
    arguments = [part for key, value in told.items() if value is not None for part in (f"--{key}", str(value))]
    run_alias(context, GROUP + name, [*arguments, *(["--json"] if as_json else [])])
