"""Running the command line in this process, with its output taken byte by byte."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

from sfumato.cli import main


@dataclass(frozen=True)
class Finished:
    """A run that ended: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The only line on standard error, which says what was wrong with the input."""
        assert self.code == 2, self
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: "), self.err
        return lines[0]


def run(*arguments: str, encoding: str = "utf-8") -> Finished:
    """Run the command line; a traceback, wherever it is printed, fails the test."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    err = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(arguments))
    texts = [stream.buffer.getvalue().decode(encoding) for stream in (out, err)]  # type: ignore[attr-defined]
    finished = Finished(code, *texts)
    assert "Traceback" not in finished.out + finished.err, finished
    return finished
