"""What the command line prints: results to standard output; notes, progress and errors to standard error."""

from __future__ import annotations

import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from sfumato.progress import Progress, silent
from sfumato.writing.json_text import json_text

LINE = 500
NEWS_EVERY = 30.0
DIRECTIONS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def shown(text: str, limit: int = LINE) -> str:
    """A text on one line, safe for a terminal.

    White space becomes single spaces. Control characters, unpaired surrogates and characters that turn the writing
    direction are written as escapes, and the middle of a text longer than ``limit`` is left out.
    """
    line = "".join(c if _harmless(c) else _written_out(c) for c in " ".join(text.split()))
    if len(line) > limit:
        head = (limit - 5) * 2 // 3
        line = f"{line[:head]} ... {line[head + 5 - limit :]}"
    return line


def say(text: str = "") -> None:
    """Print one line of the result."""
    print(shown(text))


def note(text: str) -> None:
    """Print one line that is not part of the result, such as a note or an error."""
    print(shown(text), file=sys.stderr)


def print_json(value: Any, *, line: bool = False) -> None:
    """Print JSON that any terminal and any reader takes: NaN and infinity become null.

    Args:
        value: See `sfumato.writing.json_text.json_value`; what JSON cannot say becomes text.
        line: On a single line, at once and in ASCII, for a program that reads line by line.
    """
    ascii_only = line or (sys.stdout.encoding or "ascii").lower().replace("-", "") != "utf8"
    print(json_text(value, indent=None if line else 2, ascii_only=ascii_only, default=str), flush=line)


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", right: Sequence[str] = ()
) -> None:
    """Print a compact table; the columns named in ``right`` are aligned to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if title:
        say(title)
    console = _console(sys.stdout)
    ruled = box.Box("    \n    \n -- \n" + "    \n" * 5, ascii=True) if console.options.ascii_only else box.SIMPLE_HEAD
    table = Table(box=ruled, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(cell)) for cell in row))
    console.print(table)


@contextmanager
def progress_shown(*, news: bool = False) -> Iterator[Progress]:
    """Show progress as bars on a terminal, elsewhere as nothing or (``news``) as a line every half minute."""
    console = _console(sys.stderr)
    if not console.is_terminal:
        yield _news() if news else silent
        return
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn("line"),  # plain ASCII; shows that the work goes on where a step takes long
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # what is said meanwhile appears above the bar if it goes to the same terminal, else where it was sent
    with Bars(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(shown(what), total=total)
            bars.update(tasks[what], completed=done, total=total, visible=done < total)

        yield show


def _news() -> Progress:
    last = time.monotonic()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= NEWS_EVERY:
            last = time.monotonic()
            note(f"{what} {done}/{total}")

    return tell


def _console(stream: TextIO) -> Any:
    from rich.console import Console

    return Console(file=stream, markup=False, emoji=False, highlight=False)


def _harmless(char: str) -> bool:
    return unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"} and char not in DIRECTIONS


def _written_out(char: str) -> str:
    return char.encode("ascii", "backslashreplace").decode() if not char.isascii() else f"\\x{ord(char):02x}"
