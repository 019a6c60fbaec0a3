"""``sfumato experiment``: what was found over many seeds, on any model."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sfumato.cli.console import print_json, progress_shown, say
from sfumato.cli.parameters import Debug, Device, Json, Steps, count, seeded
from sfumato.cli.session import session_of


def experiment(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(help="localisation, ablation, artifact, divergence or switch.", show_default=False),
    ],
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
    out: Annotated[str | None, typer.Option(help="Folder of the results.", show_default="out/NAME-MODEL")] = None,
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Repeat an experiment of the thesis on the diffusion profile over many seeds: a figure, a table, a verdict.

    The verdict is replicated, not replicated or inconclusive. The thesis samples by DDPM in 1,000 steps; take
    --scheduler ddpm --steps 250 or more to come near it. What was computed for a seed is kept, so the same command goes
    on after a stop.
    """
    from sfumato.cli.aliases import ALIASES, run_alias
    from sfumato.cli.loading import load_model
    from sfumato.cli.slugs import slug
    from sfumato.cli.tables import say_finding

    given = {"prompt": prompt, "label": label, "steps": steps, "scheduler": scheduler}
    if f"experiment {name}" in ALIASES:
        told = {"seeds": seeds, "seed": seed, "model": model, "out": out, "device": device} | given
        arguments = [part for key, value in told.items() if value is not None for part in (f"--{key}", str(value))]
        run_alias(context, f"experiment {name}", [*arguments, *(["--json"] if as_json else [])])
        return
    from sfumato.experiments.experiment import experiment as find
    from sfumato.experiments.experiment import setting, usual_request
    from sfumato.writing.folders import write_folder

    run = find(name)
    target = out if out is not None else f"out/{name}-{slug(model.removeprefix('studio/'))}"
    session_of(context).stopped = "stopped; the same command goes on with the seeds that are left"
    chosen = {key: value for key, value in given.items() if value is not None}
    with progress_shown() as progress, write_folder(target) as folder:
        loaded = load_model(model, device, progress)
        request = usual_request(loaded).with_(**chosen)
        prepared = setting(loaded, seeds, first=seed, request=request, other=other, mask=mask, progress=progress)
        found = run(prepared)
        found.write(folder)
    if as_json:
        print_json(json.loads(found.to_json()) | {"folder": target})
        return
    say_finding(found, f"{name} on {loaded.source.name}, {seeds} seeds")
    say(f"results in {target}: figure.png, table.csv, finding.json")
