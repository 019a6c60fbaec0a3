"""``sfumato judge``: take places away, or give them back, in the order of a map, and see what the step recovers."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sfumato.cli.console import print_json, progress_shown, say
from sfumato.cli.parameters import Debug, Device, Json
from sfumato.cli.session import session_of
from sfumato.errors import ModelError, OptionError


def judge(
    context: typer.Context,
    explanations: Annotated[
        list[str], typer.Argument(help="Results of sfumato explain, of one model; one image each.", show_default=False)
    ],
    game: Annotated[list[str] | None, typer.Option(help="deletion or insertion.", show_default="both")] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(help="A distance: ssim, features or clip; may be repeated.", show_default="ssim and features"),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="STEPS", help="Such as 5,10,15.", show_default="those of the maps"),
    ] = None,
    points: Annotated[int, typer.Option(help="In how many parts places are taken away.")] = 64,
    model: Annotated[
        str | None, typer.Option(help="The model that made them.", show_default="the one they name")
    ] = None,
    memory: Annotated[float, typer.Option(help="Most memory for the feature maps of a batch, in MB.")] = 1000.0,
    out: Annotated[str, typer.Option(help="Folder of the results.")] = "out/judge",
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Judge every map of explanations by the deletion and insertion games, beside the controls random and centre.

    In deletion, the most salient places of a step's noisy latent are set to zero first; in insertion, they are the
    first to be restored in a blurred one. Measured is how far the recovered image is from the step's own (a share of
    the distance when everything is gone), and the CLIP score with the prompt. The folder gets curves.png, curves.json
    and table.csv, where the paired gains over the controls stand too.
    """
    from sfumato.cli.loading import load_model
    from sfumato.cli.options import whole_numbers
    from sfumato.cli.tables import say_rows
    from sfumato.judging.games import GAMES
    from sfumato.judging.judge import judge as run
    from sfumato.plots.games import games_sheet
    from sfumato.results.folders import write_folder
    from sfumato.results.rows import as_csv
    from sfumato.results.store import open as open_explanation

    steps = whole_numbers(at) if at is not None else ()
    if steps is None:
        raise OptionError(f"--at is {at!r}; expected steps such as 5,10,15 or a range such as 0:10")
    opened = [open_explanation(one) for one in explanations]
    name = model or str(opened[0].provenance.get("model"))
    session_of(context).stopped = "stopped; nothing was written"
    with progress_shown() as progress, write_folder(out) as folder:
        try:
            loaded = load_model(name, device, progress)
        except ModelError as error:
            if model is not None:
                raise
            raise ModelError(
                f"{explanations[0]} was made by {name!r}, which cannot be loaded by that name; "
                "give its folder with --model"
            ) from error
        verdict = run(
            loaded,
            opened,
            games=tuple(game or GAMES),  # type: ignore[arg-type]  # refused if unknown
            distances=tuple(measure or ("ssim", "features")),
            at=steps,
            points=points,
            memory=memory,
            progress=progress,
        )
        games_sheet({pair: verdict.mean_curves(*pair) for pair in verdict.pairs()}).save(folder / "curves.png")
        rows = verdict.rows()
        (folder / "table.csv").write_text(as_csv(rows), encoding="utf-8")
        (folder / "curves.json").write_text(json.dumps(verdict.curves()) + "\n", encoding="utf-8")
    if as_json:
        print_json({"rows": rows, "skipped": list(verdict.skipped), "folder": out})
        return
    narrow = [{column: value for column, value in row.items() if not column.startswith("over ")} for row in rows]
    say_rows(f"{name}, {len(opened)} image{'s' if len(opened) > 1 else ''}", narrow)
    for line in verdict.skipped:
        say(f"left out: {line}")
    say(f"results in {out}: curves.png, table.csv, curves.json")
