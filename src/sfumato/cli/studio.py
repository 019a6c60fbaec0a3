"""``sfumato studio``: how good the embedded models are."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sfumato.cli.console import print_json, progress_shown, say
from sfumato.cli.parameters import Debug, Device, Json, add, count, help_when_alone, seeded
from sfumato.cli.session import session_of

group = typer.Typer(help="Score the embedded models against exact ground truth.", rich_markup_mode="rich")


@group.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Show the help when no command is named."""
    help_when_alone(context)


def score(
    name: Annotated[
        str, typer.Argument(help="An embedded model (scenes, faces, insert), or a folder in diffusers layout.")
    ] = "scenes",
    prompts: Annotated[
        int | None,
        count("How many held-out prompts, faces, or pairs.", show_default="200 prompts, 320 faces, 200 pairs"),
    ] = None,
    seed: Annotated[int, seeded("Of the first image; image i has --seed + i.")] = 0,
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Generate images and read them: are objects and colours right, or the attributes of faces, or the garment?"""
    from sfumato.cli.loading import load_model
    from sfumato.cli.tables import say_rows
    from sfumato.models.loading import studio_models
    from sfumato.studio.faces_scoring import score_faces
    from sfumato.studio.garments_scoring import score_garments
    from sfumato.studio.scoring import score as run

    with progress_shown(news=True) as progress:
        model = load_model(f"studio/{name}" if f"studio/{name}" in studio_models() else name, device, progress)
        if "label" in model.features:
            result = score_faces(model, prompts or 320, seed=seed, progress=progress)
        elif "reference" in model.features:
            result = score_garments(model, prompts or 200, seed=seed, progress=progress)
        else:
            result = run(model, prompts or 200, seed=seed, progress=progress)
    if as_json:
        print_json(json.loads(result.to_json()))
    else:
        say_rows(result.title, result.rows())


def draw(
    context: typer.Context,
    seed: Annotated[int, seeded("Which pair.")] = 0,
    out: Annotated[str, typer.Option(help="Folder of the pictures.")] = "out/garment",
    debug: Debug = False,
) -> None:
    """Draw a garment, a scene to wear it and where: what studio/insert takes, and what should come of it.

    The folder gets reference.png, reference_mask.png, scene.png, mask.png and target.png.
    """
    from PIL import Image

    from sfumato.studio.garments import pair
    from sfumato.writing.folders import write_folder

    one = pair(seed)
    with write_folder(out) as folder:
        for name in ("reference", "reference_mask", "scene", "mask", "target"):
            Image.fromarray(getattr(one, name)).save(folder / f"{name}.png")
    session_of(context).stopped = f"stopped; the pictures are whole, in {out}"
    say(f"pictures in {out}; try: sfumato explain --model studio/insert --reference {out}/reference.png")
    say(f"  --image {out}/scene.png --mask {out}/mask.png --method i2am --out out/insert")


add(
    group,
    "score",
    score,
    "sfumato studio score scenes",
    "sfumato studio score scenes --prompts 20 --json",
    "sfumato studio score faces",
)
add(
    group,
    "draw",
    draw,
    "sfumato studio draw --out out/garment",
    "sfumato studio draw --seed 7 --out out/garment",
)
