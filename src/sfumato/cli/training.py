"""``sfumato train``: make an embedded model from nothing."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli.console import print_table, say
from sfumato.cli.parameters import Debug
from sfumato.cli.session import session_of
from sfumato.errors import TrainingError

if TYPE_CHECKING:
    from sfumato.studio.training.config import Config, Stage


def train(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="What to train; see --list.", show_default=False)] = None,
    show_list: Annotated[bool, typer.Option("--list", help="List what can be trained.")] = False,
    config: Annotated[
        str | None, typer.Option(metavar="FILE", help="Settings (TOML).", show_default="those of the shipped model")
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Work folder: data, checkpoints, samples, log.", show_default="runs/NAME")
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(help="Run only this stage; may be repeated.", show_default="all, one after the other"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.", show_default="as in the settings")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of each stage that is run.", show_default="as in the settings")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start the stages over instead of going on from their last checkpoints.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Train an embedded model; after a stop, the same command goes on where it was.

    A training survives Ctrl-C and kill -9: it goes on from the last checkpoint in the work folder.
    """
    from sfumato.studio.training.config import STAGES, load_config

    if show_list:
        rows = [[known, ", ".join(STAGES), _about(known)] for known in _trainings()]
        print_table(("name", "stages", "what it is"), rows)
        return
    if name is None or name not in _trainings():
        given = "no name was given" if name is None else f"there is no training {name!r}"
        raise TrainingError(f"{given}; choose from: {', '.join(_trainings())}")
    settings = load_config(Path(config) if config is not None else _trainings()[name])
    stages = _stages(stage or (), STAGES)
    settings = _changed(settings, stages, device, steps)
    folder = Path(out if out is not None else f"runs/{name}")
    session_of(context).stopped = f"stopped; the same command goes on from the last checkpoint in {folder}"

    from sfumato.studio.training.stages import train as run

    run(settings, folder, stages=stages, resume=not restart)
    say(f"trained: {', '.join(stages)}; the work folder is {folder}")
    if "unet" in stages:
        from sfumato.studio.export import export

        machine = f"{os.cpu_count()} CPU cores" if settings.device == "cpu" else f"a {settings.device} device"
        model, _ = export(folder, folder / "weights", machine=machine)
        say(f"the model is in {model}; use it with: --model {model}")


def _trainings() -> dict[str, Path]:
    """The settings that ship with the package, by name."""
    import sfumato.studio.training.config as place

    folder = Path(place.__file__).parents[1] / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _about(name: str) -> str:
    """The first comment in the settings."""
    for line in _trainings()[name].read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            return line.lstrip("# ").partition(". ")[0]
    return ""


def _stages(given: Any, known: tuple[Stage, ...]) -> tuple[Stage, ...]:
    if unknown := [stage for stage in given if stage not in known]:
        raise TrainingError(f"there is no stage {unknown[0]!r}; the stages are: {', '.join(known)}")
    return tuple(stage for stage in known if not given or stage in given)


def _changed(settings: Config, stages: tuple[Stage, ...], device: str | None, steps: int | None) -> Config:
    if device is not None:
        settings = dataclasses.replace(settings, device=device)
    if steps is None:
        return settings
    if steps < 1:
        raise TrainingError(f"--steps is {steps}; expected a whole number, 1 or more")
    changed: dict[str, Any] = {}
    for stage in stages:
        part = getattr(settings, stage)
        if hasattr(part, "steps"):
            changed[stage] = dataclasses.replace(part, steps=steps)
    return dataclasses.replace(settings, **changed)
