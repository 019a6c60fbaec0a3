"""Commands that installed packages add to ``sfumato``: listed by their entry points, imported when they are used."""

from __future__ import annotations

import warnings
from collections import UserDict
from collections.abc import MutableMapping, Sequence
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from sfumato.errors import SfumatoError, SfumatoWarning

ENTRY_POINTS = "sfumato.commands"
APART = {"train": "./training"}
"""Commands of Sfumato itself that are packages of their own, each with its folder in the repository."""


class Commands(TyperGroup):
    """The commands of Sfumato, then those of installed packages, none of which can take the name of another."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._own: dict[str, Any] = {}
        super().__init__(*args, **kwargs)

    @property
    def commands(self) -> MutableMapping[str, Any]:
        """All commands by name; that of a package is imported when it is taken out."""
        return _Imported(self._own | self._installed)

    @commands.setter
    def commands(self, value: MutableMapping[str, Any]) -> None:
        self._own = dict(value)

    @cached_property
    def _installed(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: (entry.name, entry.value)):
            other = found.setdefault(entry.name, entry)
            if other is not entry and other.value != entry.value:
                first, second = other.value, entry.value
                warnings.warn(
                    f"two packages offer the command {entry.name!r}, {first} and {second}; the first one is taken",
                    SfumatoWarning,
                    stacklevel=2,
                )
        return {name: entry for name, entry in found.items() if name not in self._own}

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all commands."""
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name.

        Raises:
            SfumatoError: It is that of a package of Sfumato that is not installed.
        """
        if cmd_name in self._own:  # most calls end here and look for no package
            return self._own[cmd_name]
        if cmd_name in self._installed:
            return _Listed(self._installed[cmd_name])
        if cmd_name in APART:
            where = f"in a copy of the repository: pip install {APART[cmd_name]}"
            raise SfumatoError(f"sfumato {cmd_name} is in a package of its own; {where}")
        return None


class _Imported(UserDict[str, Any]):
    """Commands by name; an entry point among them is imported when it is taken out."""

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        return _loaded(found) if isinstance(found, EntryPoint) else found


class _Listed(TyperCommand):
    """The line of an installed command in the list, which the summary of its package is; calling it imports it."""

    def __init__(self, entry: EntryPoint) -> None:
        super().__init__(entry.name, callback=None, help=entry.dist.metadata["Summary"] if entry.dist else None)
        self._entry = entry

    def make_context(self, info_name: str | None, args: Sequence[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the command itself.

        Raises:
            SfumatoError: It cannot be imported.
        """
        return _loaded(self._entry).make_context(info_name, list(args), parent, **extra)


def _loaded(entry: EntryPoint) -> Any:
    """The command that an entry point names: a `typer.Typer`, whose only command or whose group it is.

    Raises:
        SfumatoError: It cannot be imported, or is something else.
    """
    try:
        found = entry.load()
    except Exception as error:
        raise SfumatoError(f"the command {entry.name!r} ({entry.value}) cannot be loaded: {error}") from error
    if not isinstance(found, typer.Typer):
        raise SfumatoError(f"the command {entry.name!r} ({entry.value}) is no typer.Typer but {type(found).__name__}")
    return typer.main.get_command(found)
