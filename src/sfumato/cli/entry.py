"""The entry point: runs a command and turns whatever goes wrong into one line and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import Any, TextIO

import typer

from sfumato.cli.console import note
from sfumato.cli.session import Session
from sfumato.errors import SfumatoError, SfumatoWarning

BAD_INPUT, INTERRUPTED, PIPE_CLOSED, BUG = 2, 130, 1, 1

# Errors of the operating system that no program can do anything about.
OF_THE_SYSTEM = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EIO,
    errno.ELOOP,
    errno.EMFILE,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.EPERM,
    errno.EROFS,
}

# Read by the libraries while they are imported: what they have to say is not what was asked for.
QUIET = {
    "DIFFUSERS_VERBOSITY": "error",
    "DISABLE_TELEMETRY": "YES",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_VERBOSITY": "error",
    "MPLBACKEND": "Agg",
    "TRANSFORMERS_VERBOSITY": "error",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name; by default those of the process.

    Returns:
        The exit code: 0, 2 after bad input, 130 after Ctrl-C, 1 when the reader of a pipe went away or after a bug.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    session = Session()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    with _any_text_can_be_printed(), _warnings_shown(session):
        out, err = sys.stdout, sys.stderr
        code = _guarded(given, session)
        sys.stdout, sys.stderr = out, err  # typer exchanges them when a pipe was closed
        try:
            out.flush()
        except BrokenPipeError:
            code = PIPE_CLOSED
        except OSError as error:
            if code == 0:
                note(f"error: cannot write to standard output: {error.strerror}")
            code = code or BAD_INPUT
        _drop_what_cannot_be_written(out, err)
    return code


def _guarded(arguments: list[str], session: Session) -> int:
    """Run a command; no exception leaves."""
    try:
        return _run(arguments, session)
    except KeyboardInterrupt:
        note(session.stopped)
        return INTERRUPTED
    except BrokenPipeError:
        return PIPE_CLOSED
    except SystemExit as end:  # typer and rich end the process so when a pipe was closed
        return BUG if isinstance(end.code, str) else end.code or 0
    except Exception as error:
        if session.debug:
            traceback.print_exception(error)
        line, code = _explained(error, arguments)
        note(f"error: {line}")
        return code


def _run(arguments: list[str], session: Session) -> int:
    try:
        code = _command().main(arguments, prog_name="sfumato", standalone_mode=False, obj=session)
    except typer.Abort:
        raise KeyboardInterrupt from None
    if code == INTERRUPTED:  # what typer makes of Ctrl-C
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


@cache
def _command() -> Any:
    """All commands as typer runs them; it reads every signature anew for each, and none of them changes."""
    from sfumato.cli.app import app

    return typer.main.get_command(app)


def _explained(error: Exception, arguments: Sequence[str]) -> tuple[str, int]:
    """The line for an error, and the exit code."""
    if isinstance(error, SfumatoError):
        return str(error), BAD_INPUT
    if isinstance(error, typer.TyperException):
        return f"{error.format_message().rstrip('.')}; see: {_command_path(arguments)} --help", BAD_INPUT
    if _is_out_of_memory(error):
        return "there is not enough memory for this; take a smaller --size or fewer --images", BAD_INPUT
    if isinstance(error, OSError) and error.errno in OF_THE_SYSTEM:
        what = f"cannot use {error.filename}" if error.filename else "cannot write to standard output"
        return f"{what}: {error.strerror}", BAD_INPUT
    if isinstance(error, ValueError) and "null byte" in str(error):
        return "the name of a file contains a NUL character; remove it", BAD_INPUT
    what = f"{type(error).__name__}: {error}"
    return f"{what} (this is a bug in Sfumato; run it again with --debug for the traceback)", BUG


def _command_path(arguments: Sequence[str]) -> str:
    """The words that name the command which was called: "sfumato studio score"."""
    command = _command()
    path = ["sfumato"]
    for word in arguments:
        if word not in getattr(command, "commands", {}):
            break
        command = command.commands[word]
        path.append(word)
    return " ".join(path)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


@contextmanager
def _any_text_can_be_printed() -> Iterator[None]:
    """Write out what a stream's encoding lacks, instead of failing in the middle of a result."""
    with ExitStack() as stack:
        for name in ("stdout", "stderr"):
            stream: Any = getattr(sys, name)
            if stream is None:  # the process was started with a closed stream
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.callback(setattr, sys, name, None)
                setattr(sys, name, nowhere)
            elif hasattr(stream, "reconfigure"):
                stack.callback(_reconfigure, stream, stream.errors)
                _reconfigure(stream, "backslashreplace")
        yield


def _reconfigure(stream: Any, errors: str) -> None:
    with suppress(OSError):  # it is flushed on the way
        stream.reconfigure(errors=errors)


@contextmanager
def _warnings_shown(session: Session) -> Iterator[None]:
    """Show Sfumato's own warnings as one line each; others only when debugging."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, SfumatoWarning):
                note(f"note: {message}")
            elif session.debug:
                print(warnings.formatwarning(message, category, filename, lineno, line), file=sys.stderr, end="")

        warnings.showwarning = show
        yield


def _drop_what_cannot_be_written(*streams: TextIO) -> None:
    """Let what is still buffered go nowhere if it must, so that the end of the process has nothing to say about it."""
    for stream in streams:
        try:
            stream.flush()
        except OSError:
            with suppress(OSError):  # a stream in memory has no number
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
