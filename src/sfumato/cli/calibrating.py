"""``sfumato calibrate``: weights that make attention maps agree with information maps, fitted once for a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sfumato.bounds import checked_int
from sfumato.cli.console import print_json, progress_shown, say
from sfumato.cli.parameters import DEFAULT_MODEL, Debug, Device, Json, Steps, count, seeded
from sfumato.cli.session import session_of
from sfumato.errors import OptionError
from sfumato.option_values import COUNT

_DIGITS = 20
"""Digits of a number that are read: more are beyond all bounds, and Python refuses to read thousands."""


def calibrate(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help="An embedded model, a folder in diffusers layout, or a hub id.")
    ] = DEFAULT_MODEL,
    prompts: Annotated[
        str,
        typer.Option(
            metavar="FILE|NUMBER", help="A text file with one prompt a line, or how many captions of the scenes."
        ),
    ] = "100",
    samples: Annotated[int, count("Noise samples of each information map.", 2)] = 32,
    seed: Annotated[int, seeded("Of the first image; image i has --seed + i.")] = 1000,
    denoising: Steps = None,
    out: Annotated[str, typer.Option(help="Folder of the results.")] = "out/calibration",
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Fit weights of layers, heads and steps, so that attention predicts information; no label is needed.

    The folder gets calibration.json, for: sfumato explain ... --option calibration=FILE, and how much it helps on
    prompts that it has not seen. What was computed for a prompt is kept, so the same command goes on after a stop.
    """
    import json

    from sfumato.cli.loading import load_model
    from sfumato.cli.tables import say_finding
    from sfumato.studies.calibration import calibrate as fit
    from sfumato.writing.folders import write_folder

    asked = _prompts_of(prompts)
    session_of(context).stopped = "stopped; the same command goes on with the prompts that are left"
    with progress_shown() as progress, write_folder(out) as folder:
        loaded = load_model(model, device, progress)
        made, finding = fit(loaded, asked, samples=samples, seed=seed, steps=denoising, progress=progress)
        made.save(folder / "calibration.json")
        finding.write(folder)
    if as_json:
        print_json(json.loads(finding.to_json()) | {"file": str(Path(out) / "calibration.json"), "folder": out})
        return
    say_finding(finding, f"calibration of {loaded.source.name}")
    say(f"the weights are in {Path(out) / 'calibration.json'}; use them with: --option calibration=FILE")


def _prompts_of(given: str) -> Sequence[str]:
    """The prompts of a file, or so many captions of the scenes.

    Raises:
        SfumatoError: It is neither, or there are fewer captions.
    """
    from sfumato.studies.asking import read_prompts
    from sfumato.tasks.shared.captions import drawn_captions

    text = given.strip()
    if not text.isdecimal():
        return read_prompts(given)
    return drawn_captions(checked_int("--prompts", int(text[:_DIGITS]), **COUNT, error=OptionError))
