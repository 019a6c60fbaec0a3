"""The command line. Nothing heavy is imported before a command needs it, so that ``--help`` is quick."""

from sfumato.cli.entry import main

__all__ = ["main"]
