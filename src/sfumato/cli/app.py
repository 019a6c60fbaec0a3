"""The commands and how they hang together."""

from __future__ import annotations

from typing import Annotated

import typer

from sfumato.cli import (
    calibrating,
    comparing,
    experimenting,
    explain,
    judging,
    listing,
    opening,
    running,
    serving,
    studio,
)
from sfumato.cli.aliases import group_of_aliases
from sfumato.cli.installed import Commands
from sfumato.cli.parameters import Debug, add, examples, help_when_alone

app = typer.Typer(
    name="sfumato",
    cls=Commands,
    help="Explain image diffusion models: which pixels did each word of a prompt drive?",
    epilog=examples(
        'sfumato explain "a red circle left of a blue square" --seed 0 --out out/demo',
        "sfumato open out/demo",
        "sfumato methods daam",
    ),
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"sfumato {version('sfumato')}")
        raise typer.Exit(0)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and stop.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Show the help when no command is named."""
    help_when_alone(context)


add(
    app,
    "explain",
    explain.explain,
    'sfumato explain "a red circle left of a blue square" --seed 0 --out out/demo',
    'sfumato explain "a red cat" --model owner/name --size 512x768 --images 4',
    'sfumato explain "two stars" --option keep=step,layer,head --out out/stars',
    'sfumato explain "a red circle" --json > summary.json',
    'sfumato explain "a red circle" --method df_rise --method df_cam --at 5,10,15 --out out/steps',
    "sfumato explain --model studio/faces --label 0011 --method profile --mask eyes --out out/face",
)
add(
    app,
    "open",
    opening.open_result,
    "sfumato open out/demo",
    "sfumato open out/demo --report again.html",
    "sfumato open out/stars --steps 0:10 --layers up_blocks --heads 0,1",
    "sfumato open out/demo --json",
)
add(
    app,
    "app",
    serving.app,
    "sfumato app",
    "sfumato app --model my-model --library out --port 8080",
    "sfumato app --host 192.168.1.5 --auth passwords.txt",
)
add(
    app,
    "compare",
    comparing.compare,
    "sfumato compare out/one out/two",
    "sfumato compare out/one out/two --out both.png",
)
add(
    app,
    "layers",
    comparing.layers,
    "sfumato layers studio/scenes",
    "sfumato layers studio/faces 'downs.*.3' '**.fn'",
)
add(
    app,
    "experiment",
    experimenting.experiment,
    "sfumato experiment localisation --seeds 30",
    'sfumato experiment switch --model studio/scenes --prompt "a red circle" --other "a blue square"',
)
add(
    app,
    "judge",
    judging.judge,
    "sfumato judge out/demo",
    "sfumato judge out/steps --check games --game deletion",
    "sfumato judge out/one out/two --check removal --check seeds --out out/verdict",
)
add(
    app,
    "calibrate",
    calibrating.calibrate,
    "sfumato calibrate",
    "sfumato calibrate my-model --prompts captions.txt --out out/weights",
)
add(app, "methods", listing.methods, "sfumato methods", "sfumato methods daam", "sfumato methods --json")
add(app, "models", listing.models, "sfumato models", "sfumato models --json")
app.add_typer(
    running.group,
    name="run",
    epilog=examples(
        "sfumato run explain --prompts prompts.csv --method daam --out runs/first",
        "sfumato run --list",
        "sfumato run status runs/first",
    ),
)
app.add_typer(studio.group, name="studio", epilog=examples("sfumato studio score scenes"))
app.add_typer(group_of_aliases("study"), name="study", epilog=examples("sfumato study steps"))
app.add_typer(group_of_aliases("bench"), name="bench", epilog=examples("sfumato bench words"))
