"""``sfumato calibrate``: the old name of the task calibration; it translates its options and runs it."""

from __future__ import annotations

from typing import Annotated

import typer

from sfumato.cli.aliases import run_alias
from sfumato.cli.parameters import DEFAULT_MODEL, Debug, Device, Json, Steps, count, seeded


def calibrate(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help="An embedded model, a folder in diffusers layout, or a hub id.")
    ] = DEFAULT_MODEL,
    prompts: Annotated[
        str,
        typer.Option(metavar="FILE|NUMBER", help="A file of prompts, or how many captions of the scenes."),
    ] = "100",
    samples: Annotated[int, count("Noise samples of each information map.", 2)] = 32,
    seed: Annotated[int, seeded("Of the first image; image i has --seed + i.")] = 1000,
    denoising: Steps = None,
    out: Annotated[str | None, typer.Option(help="Folder of the run.", show_default="runs/calibration")] = None,
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Renamed to sfumato run calibration, whose first seed is 0 by default; it goes in a later release."""
    options: dict[str, str | int | None] = {"model": model, "prompts": prompts, "samples": samples, "seed": seed}
    options |= {"steps": denoising, "out": out, "device": device}
    arguments = [part for key, value in options.items() if value is not None for part in (f"--{key}", str(value))]
    run_alias(context, "calibrate", [*arguments, *(["--json"] if as_json else [])])
