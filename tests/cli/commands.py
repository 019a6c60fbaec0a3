"""Commands of a package of its own, as a third party would install it."""

from __future__ import annotations

from pathlib import Path

MODULE = """
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command(epilog="Examples: $ sfumato greet Ada")
def greet(name: Annotated[str, typer.Argument(help="Whom.")]) -> None:
    \"\"\"Greet somebody.\"\"\"
    typer.echo(f"hello {name}")
"""
ENTRY_POINTS = """[sfumato.commands]
explain = sfumato_greeting:app
greet = sfumato_greeting:app
broken = sfumato_absent:app
odd = sfumato_greeting:greet
"""


def install(folder: Path) -> Path:
    """Lay the package into a folder, which must stand on the path of Python."""
    about = folder / "sfumato_greeting-1.dist-info"
    about.mkdir(parents=True)
    (folder / "sfumato_greeting.py").write_text(MODULE)
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: sfumato-greeting\nVersion: 1\nSummary: Greets whom it is told.\n"
    )
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder
