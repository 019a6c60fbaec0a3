"""Write docs/command-line.md from what `--help` prints; with --check, fail if the page on disk differs."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Read while typer is imported: one width everywhere, and no colours although a build server asks for them.
WIDTH = 92
os.environ["TERMINAL_WIDTH"] = str(WIDTH)
for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS"):
    os.environ.pop(name, None)

import typer
from typer.testing import CliRunner

PAGE = Path(__file__).resolve().parents[1] / "command-line.md"
OPENING = """\
# Command line

What `--help` prints, for every command. This page is generated (`make pages`).
"""


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every visible command, the outermost first."""
    yield path
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from commands(child, (*path, name))


def help_text(app: typer.Typer, path: tuple[str, ...]) -> str:
    """What a command prints when asked for help, without the frames around its groups of options."""
    result = CliRunner().invoke(app, [*path, "--help"], prog_name="sfumato", terminal_width=WIDTH)
    if result.exit_code:
        sys.exit(f"sfumato {' '.join(path)} --help failed:\n{result.output}")
    lines = []
    for line in result.output.splitlines():
        text = re.sub(r"^╭─ (.*?) ─+╮$", r"\1", line.strip())
        text = re.sub(r"^╰─+╯$", "", text)
        lines.append(re.sub(r"^│(.*)│$", r" \1", text).rstrip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def page(app: typer.Typer) -> str:
    """The whole page."""
    parts = [OPENING]
    for path in commands(typer.main.get_command(app)):
        title = " ".join(("sfumato", *path))
        parts.append(f"## {title}\n\n```text\n{help_text(app, path)}\n```\n")
    return "\n".join(parts)


def main() -> None:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page is not up to date")
    check = parser.parse_args().check
    from sfumato.cli.app import app

    wanted = page(app)
    if not check:
        PAGE.write_text(wanted, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != wanted:
        sys.exit("docs/command-line.md is not what --help prints; run `make pages` and commit the result")


if __name__ == "__main__":
    main()
