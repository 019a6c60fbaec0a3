"""``sfumato study``: questions of the sources, answered on many prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.bounds import checked_int
from sfumato.cli.aliases import add_alias
from sfumato.cli.console import print_json, progress_shown, say
from sfumato.cli.parameters import (
    DEFAULT_MODEL,
    Debug,
    Device,
    Json,
    ModelName,
    Steps,
    add,
    count,
    help_when_alone,
    seeded,
)
from sfumato.cli.session import session_of
from sfumato.errors import OptionError
from sfumato.option_values import COUNT
from sfumato.timesteps import MAX_STEPS

if TYPE_CHECKING:
    from sfumato.models.model import Model
    from sfumato.progress import Progress
    from sfumato.runs.finding import Finding

_DIGITS = 20
"""Digits of a number that are read: more are beyond all bounds, and Python refuses to read thousands."""

group = typer.Typer(help="Ask what the sources asked, on many prompts.", rich_markup_mode="rich")

PromptsOrNumber = Annotated[
    str,
    typer.Option(
        metavar="FILE|NUMBER", help="A text file with one prompt a line, or how many held-out prompts of the scenes."
    ),
]
Seed = Annotated[int, seeded("Of the first image; image i has --seed + i.")]
Method = Annotated[str, typer.Option(help="A method that maps words; see: sfumato methods.")]
Tagger = Annotated[
    str,
    typer.Option(
        help="Who tells parts of speech and heads: lexicon, or the name or folder of a spaCy model.",
        show_default="lexicon for the scenes' prompts, else spaCy",
    ),
]


@group.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Show the help when no command is named."""
    help_when_alone(context)


def relations(
    context: typer.Context,
    prompts: PromptsOrNumber = "200",
    tagger: Tagger = "auto",
    method: Method = "daam",
    seed: Seed = 0,
    denoising: Steps = None,
    model: ModelName = DEFAULT_MODEL,
    out: Annotated[str, typer.Option(help="Folder of the results.")] = "out/study-relations",
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """How far does a word's map lie within that of its head, and which of the two is larger, at which thresholds?

    What was computed for a prompt is kept, so the same command goes on after a stop.
    """
    from sfumato.studies.relations import study_relations

    asked = _held_out(prompts)

    def ask(loaded: Model, progress: Progress) -> Sequence[Finding]:
        return [
            study_relations(loaded, asked, method=method, tagger=tagger, seed=seed, steps=denoising, progress=progress)
        ]

    _studied(context, ask, model, device, out, as_json)


def numbers(
    context: typer.Context,
    prompts: Annotated[int, count("How many prompts of a numeral.")] = 120,
    method: Method = "daam",
    seed: Seed = 0,
    denoising: Steps = None,
    model: ModelName = DEFAULT_MODEL,
    out: Annotated[str, typer.Option(help="Folder of the results.")] = "out/study-numbers",
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """How many objects are drawn where two or three were asked for, and does the numeral's map tell?

    What was computed for a prompt is kept, so the same command goes on after a stop.
    """
    from sfumato.studies.numbers import study_numbers

    def ask(loaded: Model, progress: Progress) -> Sequence[Finding]:
        return [study_numbers(loaded, prompts, method=method, seed=seed, steps=denoising, progress=progress)]

    _studied(context, ask, model, device, out, as_json)


def entanglement(
    context: typer.Context,
    pairs: Annotated[
        int,
        count("How many pairs of images for each question."),
    ] = 60,
    method: Method = "daam",
    seed: Seed = 0,
    denoising: Steps = None,
    model: ModelName = DEFAULT_MODEL,
    out: Annotated[str, typer.Option(help="Folder of the results.")] = "out/study-entanglement",
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Similar nouns, a swapped adjective, a colour on the wrong object: what spills from one object onto another?

    What was computed for a prompt is kept, so the same command goes on after a stop.
    """
    from sfumato.studies.entanglement import study_entanglement

    def ask(loaded: Model, progress: Progress) -> Sequence[Finding]:
        return study_entanglement(loaded, pairs, method=method, seed=seed, steps=denoising, progress=progress)

    _studied(context, ask, model, device, out, as_json)


def scrambled(
    context: typer.Context,
    prompts: Annotated[int, count("How many prompts of each set.")] = 60,
    method: Method = "daam",
    seed: Seed = 0,
    denoising: Steps = None,
    model: ModelName = DEFAULT_MODEL,
    out: Annotated[str, typer.Option(help="Folder of the results.")] = "out/study-scrambled",
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Word maps against a supervised segmenter: on prompts as trained, held out, and such as never occur in training.

    What was computed for a prompt is kept, so the same command goes on after a stop.
    """
    from sfumato.studies.scrambled import study_scrambled

    def ask(loaded: Model, progress: Progress) -> Sequence[Finding]:
        return [study_scrambled(loaded, prompts, method=method, seed=seed, steps=denoising, progress=progress)]

    _studied(context, ask, model, device, out, as_json)


def steps(
    context: typer.Context,
    prompts: Annotated[int, count("How many held-out prompts of two objects.")] = 30,
    seed: Seed = 0,
    denoising: Steps = None,
    model: ModelName = DEFAULT_MODEL,
    out: Annotated[str, typer.Option(help="Folder of the results.")] = "out/study-steps",
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """What do the steps recover: regions at which level, which words in the lead, which attributes settled when?

    What was computed for a prompt is kept, so the same command goes on after a stop.
    """
    from sfumato.studies.steps import study_steps

    def ask(loaded: Model, progress: Progress) -> Sequence[Finding]:
        return study_steps(loaded, prompts, seed=seed, steps=denoising, progress=progress)

    _studied(context, ask, model, device, out, as_json)


def parts(
    context: typer.Context,
    prompts: Annotated[int, count("How many held-out prompts of two objects.")] = 30,
    seed: Seed = 0,
    denoising: Annotated[
        int, typer.Option("--steps", min=1, max=MAX_STEPS, help="Denoising steps of each schedule.")
    ] = 30,
    model: ModelName = DEFAULT_MODEL,
    out: Annotated[str, typer.Option(help="Folder of the results.")] = "out/study-parts",
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Subject, relation, object: where does relevance go when steps are spent early or late?

    What was computed for a prompt is kept, so the same command goes on after a stop.
    """
    from sfumato.studies.parts import study_parts

    def ask(loaded: Model, progress: Progress) -> Sequence[Finding]:
        return [study_parts(loaded, prompts, seed=seed, steps=denoising, progress=progress)]

    _studied(context, ask, model, device, out, as_json)


def prompts_of(given: str, captions: Callable[[int], Sequence[str]]) -> Sequence[str]:
    """The prompts of a file, or so many captions of the scenes.

    Args:
        given: As ``--prompts`` takes it.
        captions: Gives so many captions.

    Raises:
        SfumatoError: It is neither, or there are fewer captions.
    """
    from sfumato.studies.asking import read_prompts

    text = given.strip()
    if not text.isdecimal():
        return read_prompts(given)
    return captions(checked_int("--prompts", int(text[:_DIGITS]), **COUNT, error=OptionError))


def _held_out(given: str) -> Sequence[str]:
    from sfumato.studio.scenes import held_out_captions

    return prompts_of(given, held_out_captions)


def _studied(
    context: typer.Context,
    ask: Callable[[Model, Progress], Sequence[Finding]],
    model: str,
    device: str | None,
    out: str,
    as_json: bool,
) -> None:
    """Ask, write what was found into a folder, and print it as tables with their sentences or as JSON."""
    from sfumato.cli.loading import load_model
    from sfumato.cli.tables import say_finding
    from sfumato.writing.folders import write_folder

    session_of(context).stopped = "stopped; the same command goes on with the prompts that are left"
    with progress_shown() as progress, write_folder(out) as folder:
        found = ask(load_model(model, device, progress), progress)
        for one in found:
            one.write(folder / one.name if len(found) > 1 else folder)
    if as_json:
        print_json({"findings": [json.loads(one.to_json()) for one in found], "folder": out})
        return
    for one in found:
        say()
        say_finding(one, f"{one.name} on {one.about['model']}")
    say()
    say(f"results in {out}: a figure, a table and a finding for each question, and the items where it has some")


add_alias(group, "study pos")
add(
    group,
    "relations",
    relations,
    "sfumato study relations",
    "sfumato study relations --prompts captions.txt --model my-model --tagger en_core_web_sm",
)
add(group, "numbers", numbers, "sfumato study numbers", "sfumato study numbers --prompts 40 --out out/numbers")
add(group, "entanglement", entanglement, "sfumato study entanglement", "sfumato study entanglement --pairs 20")
add(group, "scrambled", scrambled, "sfumato study scrambled", "sfumato study scrambled --prompts 20 --json")
add(group, "steps", steps, "sfumato study steps", "sfumato study steps --prompts 10 --out out/steps")
add(group, "parts", parts, "sfumato study parts", "sfumato study parts --prompts 100 --steps 30")
