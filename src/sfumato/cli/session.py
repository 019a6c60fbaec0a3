"""What the parts of one run of the command line share."""

from __future__ import annotations

from dataclasses import dataclass

import typer


@dataclass
class Session:
    """One run of the command line.

    Attributes:
        debug: Show tracebacks and all warnings.
        stopped: The line that is shown after Ctrl-C; it says what is left on disk.
    """

    debug: bool = False
    stopped: str = "stopped; nothing was written"


def session_of(context: typer.Context) -> Session:
    """The session that a command runs in."""
    session: Session = context.find_root().ensure_object(Session)
    return session
