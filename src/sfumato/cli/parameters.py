"""Options that several commands have, each declared once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from sfumato.cli.session import session_of
from sfumato.inputs.schedule import MAX_STEPS
from sfumato.option_values import COUNT, SEED

DEFAULT_MODEL = "studio/scenes"


def _switch_debugging(context: typer.Context, value: bool) -> bool:
    if value:
        session_of(context).debug = True
    return value


Debug = Annotated[
    bool,
    typer.Option("--debug", callback=_switch_debugging, is_eager=True, help="Show tracebacks and all warnings."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to standard output.")]
Device = Annotated[
    str | None,
    typer.Option(help="Where to run, such as cpu or cuda:1.", show_default="an accelerator if there is one"),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", min=1, max=MAX_STEPS, help="Denoising steps.", show_default="the model's own"),
]
ModelName = Annotated[
    str, typer.Option("--model", help="An embedded model, a folder in diffusers layout, or a hub id 'owner/name'.")
]


def count(
    text: str, least: int = COUNT["least"], *, show_default: bool | str = True, rich_help_panel: str | None = None
) -> Any:
    """An option that says how many.

    Args:
        text: Its help.
        least: The smallest number.
        show_default: As of typer.
        rich_help_panel: As of typer.
    """
    more: dict[str, Any] = {"show_default": show_default, "rich_help_panel": rich_help_panel}
    return typer.Option(min=least, max=COUNT["most"], help=text, **more)


def seeded(text: str, *, rich_help_panel: str | None = None) -> Any:
    """An option that is a seed.

    Args:
        text: Its help.
        rich_help_panel: As of typer.
    """
    return typer.Option(min=SEED["least"], max=SEED["most"], help=text, rich_help_panel=rich_help_panel)


def examples(*lines: str) -> str:
    """An epilog with examples, kept as they are (square brackets would be read as styles)."""
    return "Examples:\n\n" + "\n".join("$ " + line.replace("[", r"\[") for line in lines)


def add(group: typer.Typer, name: str, command: Callable[..., None], *lines: str) -> None:
    """Add a command: its docstring, with every paragraph on one line, is the help; ``lines`` are the examples."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    text = "\n\n".join(paragraph.replace("\n", " ").replace("[", r"\[") for paragraph in paragraphs)
    group.command(name, help=text, epilog=examples(*lines))(command)


def signed(command: Callable[..., None], parameters: Iterable[inspect.Parameter]) -> Callable[..., None]:
    """A command that takes what it is given by name, with the parameters that typer is to read."""
    signature = inspect.Signature([one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters])
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {name: one.annotation for name, one in signature.parameters.items()}
    return command


def help_when_alone(context: typer.Context) -> None:
    """Show the help of a group of commands that was called without any."""
    if context.invoked_subcommand is None:
        text: Any = context.get_help()
        if text:
            typer.echo(text)
        raise typer.Exit(0)
