"""``sfumato study``: the old names of tasks that repeat published findings on many prompts."""

from __future__ import annotations

import typer

from sfumato.cli.aliases import add_alias
from sfumato.cli.parameters import help_when_alone

group = typer.Typer(
    help="Old names of tasks that repeat published findings; see: sfumato run.", rich_markup_mode="rich"
)


@group.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Show the help when no command is named."""
    help_when_alone(context)


for name in ("pos", "relations", "numbers", "entanglement", "scrambled", "steps", "parts"):
    add_alias(group, f"study {name}")
