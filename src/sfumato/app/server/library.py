"""Saved explanations of a folder that was given when the page was opened; visitors name them by id, never by path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sfumato.app.server.folders import DEEPEST, id_of, newest, subfolders, with_id
from sfumato.app.server.runs import holds_run
from sfumato.app.server.visitors import MOST_BYTES
from sfumato.errors import SfumatoError
from sfumato.results.explanation import Explanation
from sfumato.results.opening import open as open_explanation
from sfumato.results.store import NAME


@dataclass(frozen=True)
class Saved:
    """A saved explanation.

    Attributes:
        id: A digest of its place in the folder.
        name: Its place in the folder, for people.
        path: Where it lies.
        when: Seconds since 1970 when it was written.
    """

    id: str
    name: str
    path: Path
    when: float


def saved_in(folder: Path) -> Sequence[Saved]:
    """What a folder holds, the newest first, at most 200; links are not followed."""
    found = []
    for place in _explanations(folder, DEEPEST):
        name = place.relative_to(folder).as_posix().removesuffix(f"/{NAME}").removesuffix(".zarr")
        if name in ("", NAME, "."):
            name = folder.name
        try:
            found.append(Saved(id_of(place.relative_to(folder).as_posix()), name, place, place.stat().st_mtime))
        except OSError:  # it went away meanwhile
            continue
    return newest(found)


def saved(folder: Path, id: str) -> Saved:  # noqa: A002
    """What a folder holds under an id.

    Raises:
        Gone: It is not there.
    """
    return with_id(saved_in(folder), id, "saved result")


def opened(one: Saved) -> Explanation:
    """A saved explanation, read into memory.

    Raises:
        SfumatoError: It is damaged, or too large for the page.
    """
    found = open_explanation(one.path)
    if found.tree.nbytes > MOST_BYTES:
        size, most = found.tree.nbytes / 1e6, MOST_BYTES / 1e6
        raise SfumatoError(f"{one.name} takes {size:.0f} MB, the page shows {most:.0f}; open its report.html")
    return found.load()


def _explanations(folder: Path, deep: int) -> Iterator[Path]:
    if holds_run(folder):  # its maps are no explanation
        return
    for one in subfolders(folder):
        if (one / "zarr.json").is_file():
            yield one
        elif deep > 1:
            yield from _explanations(one, deep - 1)
