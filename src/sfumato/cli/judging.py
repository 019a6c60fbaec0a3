"""``sfumato judge``: how far can explanations be trusted, and do their maps order the places of a step rightly?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli.console import print_json, progress_shown, say
from sfumato.cli.parameters import Debug, Device, Json, count
from sfumato.cli.session import session_of
from sfumato.errors import ModelError, OptionError

if TYPE_CHECKING:
    from sfumato.judging.judge import Verdict
    from sfumato.judging.trust import Trust
    from sfumato.models.model import Model
    from sfumato.progress import Progress

STEPS = "The games of the steps"
POINTS, MEMORY = 64, 1000.0


def judge(
    context: typer.Context,
    explanations: Annotated[
        list[str], typer.Argument(help="Results of sfumato explain, of one model; one image each.", show_default=False)
    ],
    check: Annotated[
        list[str] | None,
        typer.Option(
            help="removal, randomisation, seeds, noise or games; may be repeated.", show_default="all that fit"
        ),
    ] = None,
    repeats: Annotated[int, count("How many other seeds, and small changes of the noise.")] = 4,
    stages: Annotated[int, count("In how many parts the weights get random.")] = 6,
    strength: Annotated[float, typer.Option(help="Of a small change of the noise, between 0 and 1.")] = 0.05,
    game: Annotated[
        list[str] | None, typer.Option(help="deletion or insertion.", show_default="both", rich_help_panel=STEPS)
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="A distance: local_ssim, features or clip; may be repeated.",
            show_default="local_ssim and features",
            rich_help_panel=STEPS,
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="STEPS", help="Such as 5,10,15.", show_default="those of the maps", rich_help_panel=STEPS),
    ] = None,
    points: Annotated[int, count("In how many parts places are taken away.", rich_help_panel=STEPS)] = POINTS,
    clip: Annotated[
        str | None,
        typer.Option(
            help="Folder or hub id of a CLIP, for features, clip and the score with the prompt.",
            show_default="studio/clip for the studio's models, for others one that they hold",
            rich_help_panel=STEPS,
        ),
    ] = None,
    memory: Annotated[
        float, typer.Option(help="Most memory for the feature maps of a batch, in MB.", rich_help_panel=STEPS)
    ] = MEMORY,
    model: Annotated[
        str | None, typer.Option(help="The model that made them.", show_default="the one they name")
    ] = None,
    out: Annotated[str, typer.Option(help="Folder of the results.")] = "out/judge",
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Can this explanation be trusted? Every check gives a number, beside that of a control that knows nothing.

    removal: without a word, from the same noise, does the image change where the word's map says? randomisation: with
    random weights, from the output to the input, do the maps fall apart? seeds: are shares and maps alike from other
    seeds? noise: how much do maps change with a small change of the starting noise? games: when places of a step's
    latent are taken away or given back in the order of a map, does the recovered image follow?

    The folder gets the explanation with what was found (report.html, trust.png and more), trust.csv, and of the games
    curves.png, curves.json and table.csv.
    """
    from sfumato.judging.evaluation import CheckOptions, costs, evaluate
    from sfumato.options import whole_numbers
    from sfumato.results.opening import open as open_explanation
    from sfumato.writing.folders import write_folder

    steps = whole_numbers(at) if at is not None else ()
    if steps is None:
        raise OptionError(f"--at is {at!r}; expected steps such as 5,10,15 or a range such as 0:10")
    options = CheckOptions(
        check=tuple(check or ()),
        repeats=repeats,
        stages=stages,
        strength=strength,
        game=tuple(game or ()),
        measure=tuple(measure or ()),
        at=steps,
        points=points,
        clip=clip,
        memory=memory,
    )
    opened = [open_explanation(one) for one in explanations]
    name = model or str(opened[0].provenance.get("model"))
    session_of(context).stopped = "stopped; nothing was written"
    with progress_shown() as progress, write_folder(out) as folder:
        loaded = _loaded(name, explanations[0], given=model is not None, device=device, progress=progress)
        for line in costs(loaded, opened, options):
            if not as_json:
                say(f"cost: {line}")
        found = evaluate(loaded, opened, options, progress)
        _write_trust(found.trust, folder, progress)
        if found.games is not None:
            _write_games(found.games, folder)
    session_of(context).stopped = f"stopped; the results are whole, in {out}"
    rows = [row for number, one in enumerate(found.trust) for row in _numbered(one.rows(), number, len(found.trust))]
    notes = list(found.games.notes) if found.games else []
    if as_json:
        games, skipped = found.games.rows() if found.games else [], list(found.left_out)
        print_json({"trust": rows, "rows": games, "skipped": skipped, "notes": notes, "folder": out})
        return
    _say(name, rows, found.games, found.left_out)
    for line in notes:
        say(f"note: {line}")
    say(f"results in {out}")


def _loaded(name: str, explanation: str, *, given: bool, device: str | None, progress: Progress) -> Model:
    """The model that made an explanation."""
    from sfumato.cli.loading import load_model

    try:
        return load_model(name, device, progress)
    except ModelError as error:
        if given:
            raise
        raise ModelError(
            f"{explanation} was made by {name!r}, which cannot be loaded by that name; give its folder with --model"
        ) from error


def _write_trust(found: Sequence[Trust], folder: Path, progress: Progress) -> None:
    """The explanations with what was found, each in a folder of its own where there are several."""
    from sfumato.report.folder import fill_folder
    from sfumato.results.rows import as_csv

    for number, one in enumerate(found):
        place = folder if len(found) == 1 else folder / str(number + 1)
        place.mkdir(exist_ok=True)
        (place / "trust.csv").write_text(as_csv(one.rows()), encoding="utf-8")
        fill_folder(one.explanation, place, progress)


def _write_games(verdict: Verdict, folder: Path) -> None:
    """Curves as a picture and as numbers, and the table."""
    from sfumato.plots.games import games_sheet
    from sfumato.results.rows import as_csv
    from sfumato.writing.json_text import json_text

    games_sheet({pair: verdict.mean_curves(*pair) for pair in verdict.pairs()}).save(folder / "curves.png")
    (folder / "table.csv").write_text(as_csv(verdict.rows()), encoding="utf-8")
    (folder / "curves.json").write_text(json_text(verdict.curves(), indent=None) + "\n", encoding="utf-8")


def _numbered(rows: Sequence[dict[str, Any]], number: int, count: int) -> list[dict[str, Any]]:
    """Rows that say which of several explanations they are of."""
    return [({"explanation": number + 1} if count > 1 else {}) | row for row in rows]


def _say(name: str, rows: Sequence[dict[str, Any]], verdict: Verdict | None, left_out: Sequence[str]) -> None:
    from sfumato.cli.tables import say_rows
    from sfumato.results.interval import Interval

    if rows:
        short = [
            {
                key: value.brief if isinstance(value, Interval) else value
                for key, value in row.items()
                if key not in ("number", "difference")
            }
            for row in rows
        ]
        say_rows(f"{name}: how far can it be trusted?", short)
    if verdict is not None:
        say()
        narrow = [{key: value for key, value in row.items() if not key.startswith("over ")} for row in verdict.rows()]
        say_rows(f"{name}: games of the steps", narrow)
    for line in left_out:
        say(f"left out: {line}")
