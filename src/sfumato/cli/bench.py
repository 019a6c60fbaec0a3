"""``sfumato bench``: how well the methods do where the truth is known."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from sfumato.cli.aliases import add_alias
from sfumato.cli.console import print_json, progress_shown, say
from sfumato.cli.parameters import (
    DEFAULT_MODEL,
    Debug,
    Device,
    Json,
    JsonFile,
    ModelName,
    add,
    count,
    help_when_alone,
    seeded,
)
from sfumato.cli.session import session_of

group = typer.Typer(help="Measure the methods where the truth is known.", rich_markup_mode="rich")


@group.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Show the help when no command is named."""
    help_when_alone(context)


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


def _shown(context: typer.Context, result: Any, out: str | None, as_json: bool) -> None:
    """Print a result as a table or as JSON; write it to ``out``."""
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
    if out is not None:
        say()
        say(f"written to {out}")


add(
    group,
    "steps",
    steps,
    "sfumato bench steps",
    "sfumato bench steps --prompts 5 --masks 100 --out steps.json",
    "sfumato bench steps --compare similarities --prompts 10",
)
add_alias(group, "bench words")
add_alias(group, "bench ranks")
add_alias(group, "bench segments")
add_alias(group, "bench words-importance")
add_alias(group, "bench worths")
add_alias(group, "bench maps")
add_alias(group, "bench reference")
