"""``sfumato bench``: how well the methods do where the truth is known."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from sfumato.cli.console import print_json, progress_shown, say
from sfumato.cli.parameters import (
    DEFAULT_MODEL,
    Debug,
    Device,
    Json,
    JsonFile,
    ModelName,
    Steps,
    add,
    count,
    file_to_write,
    help_when_alone,
    seeded,
)
from sfumato.cli.session import session_of
from sfumato.timesteps import MAX_STEPS

group = typer.Typer(help="Measure the methods where the truth is known.", rich_markup_mode="rich")


@group.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Show the help when no command is named."""
    help_when_alone(context)


def words(
    context: typer.Context,
    prompts: Annotated[int, count("How many prompts.")] = 100,
    method: Annotated[str, typer.Option(help="Which method; see: sfumato methods.")] = "daam",
    at: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_STEPS - 1,
            help="Look at drawn scenes, noised to this timestep, instead of generating.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, seeded("Of the first prompt; prompt i has --seed + i.")] = 0,
    model: ModelName = DEFAULT_MODEL,
    device: Device = None,
    out: JsonFile = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare word maps with the exact masks of the objects, next to controls that know nothing."""
    from sfumato.cli.loading import load_model
    from sfumato.studio.benches.words import bench_words

    with progress_shown(news=True) as progress:
        loaded = load_model(model, device, progress)
        result = bench_words(loaded, prompts, method=method, at=at, seed=seed, progress=progress)
    _shown(context, result, out, as_json)


def maps(
    context: typer.Context,
    prompts: Annotated[int, count("How many prompts, each generated once and drawn once.")] = 24,
    samples: Annotated[int, count("Noise samples of the information maps.", 2)] = 48,
    calibration: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Also compare attention weighed by this file, from sfumato calibrate."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Compare only this contender, such as daam; may be repeated.", show_default="all"),
    ] = None,
    rounds: Annotated[
        int,
        count("Prompts that are explained again to see how long that takes; 0 for none.", 0),
    ] = 5,
    steps: Steps = None,
    seed: Annotated[int, seeded("Of the first prompt; prompt i has --seed + i.")] = 0,
    model: ModelName = DEFAULT_MODEL,
    device: Device = None,
    out: JsonFile = None,
    picture: Annotated[
        str | None, file_to_write("--picture", "Also write a picture of truth against cost to this PNG.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare every method that maps words with three truths: masks, outlines, and what changes without the word.

    What was computed for a prompt is kept, so a run that was stopped goes on where it was.
    """
    from sfumato.cli.files import write_picture
    from sfumato.cli.loading import load_model
    from sfumato.studio.benches.maps import bench_maps

    with progress_shown(news=True) as progress:
        loaded = load_model(model, device, progress)
        result = bench_maps(
            loaded,
            prompts,
            samples=samples,
            calibration=calibration,
            only=only or (),
            rounds=rounds,
            steps=steps,
            seed=seed,
            progress=progress,
        )
    if picture is not None:
        write_picture(result.figure(), picture)
    _shown(context, result, out, as_json)


def ranks(
    context: typer.Context,
    method: Annotated[str, typer.Option(help="shapley, lime or word_gradients.")] = "shapley",
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="An option of the method, such as similarity_model=FOLDER (a CLIP of photographs); may be repeated. "
            "See: sfumato methods NAME.",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Prompts of your own: a text file with one prompt a line, then | and the share of each of its words, "
            "such as: a flower lamp | 0.1 0.4 0.5.",
            show_default="the ten prompts of the paper",
        ),
    ] = None,
    steps: Steps = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale.", show_default="the model's own")] = None,
    seed: Annotated[int, seeded("Of the first prompt; prompt i has --seed + i.")] = 0,
    model: ModelName = DEFAULT_MODEL,
    device: Device = None,
    out: JsonFile = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare the shares of words with people's judgement, on the ten prompts of Gupta and Kanoria 2024 or your own.

    Next to the method stand an uninformative baseline (an even share) and what the paper printed; its RMSE is another
    measure, RMSE (paper). The embedded model has not learned the words of the ten prompts: take a model of photographs
    with --model, and a CLIP of photographs with --option similarity_model=FOLDER.
    """
    from sfumato.cli.loading import load_model
    from sfumato.options import parse_options
    from sfumato.protocols.ten_prompts import PROMPTS, importance_method, judged_from, rank_table
    from sfumato.studies.asking import read_prompts

    options = parse_options(importance_method(method), option or ())
    judged = PROMPTS if prompts is None else tuple(map(judged_from, read_prompts(prompts)))
    with progress_shown(news=True) as progress:
        loaded = load_model(model, device, progress)
        result = rank_table(
            loaded, method, seed=seed, steps=steps, guidance=guidance, judged=judged, progress=progress, **options
        )
    _shown(context, result, out, as_json, ("means over prompts, with 95% bootstrap intervals", result.mean_rows()))


def words_importance(
    context: typer.Context,
    prompts: Annotated[int, count("How many prompts.")] = 50,
    steps: Steps = None,
    seed: Annotated[int, seeded("Of the first prompt; prompt i has --seed + i.")] = 0,
    model: ModelName = DEFAULT_MODEL,
    device: Device = None,
    out: JsonFile = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare which words methods call important with what a reader sees change when each word is left out.

    Makes up to 64 images for each prompt; they are kept in the cache, so a run that was stopped goes on where it was.
    """
    from sfumato.cli.loading import load_model
    from sfumato.studio.benches.importance import bench_importance

    with progress_shown(news=True) as progress:
        loaded = load_model(model, device, progress)
        result = bench_importance(loaded, prompts, seed=seed, steps=steps, progress=progress)
    _shown(context, result, out, as_json)


def worths(
    context: typer.Context,
    prompts: Annotated[int, count("How many prompts.")] = 50,
    samples: Annotated[int, count("Noise samples of the information.", 2)] = 48,
    steps: Steps = None,
    seed: Annotated[int, seeded("Of the first prompt; prompt i has --seed + i.")] = 0,
    model: ModelName = DEFAULT_MODEL,
    device: Device = None,
    out: JsonFile = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare what words are worth by information with their exact Shapley values, and what both cost.

    Makes up to 64 images for each prompt; they are kept in the cache, so a run that was stopped goes on where it was.
    """
    from sfumato.cli.loading import load_model
    from sfumato.studio.benches.worths import bench_worths

    with progress_shown(news=True) as progress:
        loaded = load_model(model, device, progress)
        result = bench_worths(loaded, prompts, samples=samples, seed=seed, steps=steps, progress=progress)
    _shown(context, result, out, as_json)


def segments(
    context: typer.Context,
    prompts: Annotated[int, count("How many prompts.")] = 100,
    seed: Annotated[int, seeded("Of the first prompt; prompt i has --seed + i.")] = 0,
    model: ModelName = DEFAULT_MODEL,
    device: Device = None,
    out: JsonFile = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare the parts of the image that go with each word or phrase with the exact masks of the objects."""
    from sfumato.cli.loading import load_model
    from sfumato.studio.benches.segments import bench_segments

    with progress_shown(news=True) as progress:
        loaded = load_model(model, device, progress)
        result = bench_segments(loaded, prompts, seed=seed, progress=progress)
    _shown(context, result, out, as_json)


def steps(
    context: typer.Context,
    prompts: Annotated[int, count("How many prompts.")] = 30,
    compare: Annotated[
        str, typer.Option(help="methods, or similarities: DF-RISE with each of its similarities.")
    ] = "methods",
    masks: Annotated[int, count("Masks of DF-RISE, and coalitions of LIME.", 4)] = 200,
    seed: Annotated[int, seeded("Of the first prompt; prompt i has --seed + i.")] = 0,
    model: ModelName = DEFAULT_MODEL,
    device: Device = None,
    out: JsonFile = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare saliencies of steps by the deletion and insertion games, next to the controls random and centre.

    What each method found for a prompt is kept, so a run that was stopped goes on where it was.
    """
    from sfumato.cli.loading import load_model
    from sfumato.studio.benches.steps import bench_cost, bench_steps

    with progress_shown(news=True) as progress:
        loaded = load_model(model, device, progress)
        costs = bench_cost(loaded, prompts, compare=compare, seed=seed, masks=masks)  # type: ignore[arg-type]
        for line in () if as_json else costs:
            say(f"cost: {line}")
        result = bench_steps(
            loaded,
            prompts,
            compare=compare,  # type: ignore[arg-type]  # refused if unknown
            seed=seed,
            masks=masks,
            progress=progress,
        )
    _shown(context, result, out, as_json)


def reference(
    context: typer.Context,
    pairs: Annotated[int, count("How many references and scenes.")] = 60,
    seed: Annotated[int, seeded("Of the first pair; pair i has --seed + i.")] = 0,
    model: ModelName = "studio/insert",
    device: Device = None,
    out: JsonFile = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Does a place of a painted garment look at the patch that it comes from? By layer, head and part of the steps.

    What was computed for a pair is kept, so a run that was stopped goes on where it was.
    """
    from sfumato.cli.loading import load_model
    from sfumato.studio.benches.reference import bench_reference

    with progress_shown(news=True) as progress:
        loaded = load_model(model, device, progress)
        result = bench_reference(loaded, pairs, seed=seed, progress=progress)
    _shown(context, result, out, as_json)


def _shown(
    context: typer.Context, result: Any, out: str | None, as_json: bool, *more: tuple[str, list[dict[str, Any]]]
) -> None:
    """Print a result as tables (``more``: title and rows of those after the first) or as JSON; write it to ``out``."""
    from sfumato.cli.files import write_json
    from sfumato.cli.tables import say_rows

    found = json.loads(result.to_json())
    if out is not None:
        write_json(found, out)
        session_of(context).stopped = f"stopped; {out} is written"
    if as_json:
        print_json(found)
        return
    say_rows(result.title, result.rows())
    for title, rows in more:
        say()
        say_rows(title, rows)
    if out is not None:
        say()
        say(f"written to {out}")


add(
    group,
    "words",
    words,
    "sfumato bench words",
    "sfumato bench words --prompts 20",
    "sfumato bench words --method ovam --at 300",
    "sfumato bench words --out words.json",
)
add(
    group,
    "ranks",
    ranks,
    "sfumato bench ranks --model my-model",
    "sfumato bench ranks --model my-model --method lime --steps 30 --out ranks.json",
    "sfumato bench ranks --model my-model --option similarity_model=clip-vit-base-patch32 --prompts judged.txt",
)
add(
    group,
    "words-importance",
    words_importance,
    "sfumato bench words-importance",
    "sfumato bench words-importance --prompts 10 --steps 10",
)
add(
    group,
    "worths",
    worths,
    "sfumato bench worths",
    "sfumato bench worths --prompts 10 --steps 10 --out worths.json",
)
add(
    group,
    "segments",
    segments,
    "sfumato bench segments",
    "sfumato bench segments --prompts 20 --out segments.json",
)
add(
    group,
    "steps",
    steps,
    "sfumato bench steps",
    "sfumato bench steps --prompts 5 --masks 100 --out steps.json",
    "sfumato bench steps --compare similarities --prompts 10",
)
add(
    group,
    "reference",
    reference,
    "sfumato bench reference",
    "sfumato bench reference --pairs 10 --out reference.json",
)
add(
    group,
    "maps",
    maps,
    "sfumato bench maps",
    "sfumato bench maps --prompts 60 --out maps.json --picture maps.png",
    "sfumato bench maps --only daam --only information --rounds 0",
)
