"""Training data drawn in several processes, and the record of what they were drawn with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from sfumato.errors import Unreadable
from sfumato.reading import read_json

ABOUT = "data.json"
"""File with the settings that the data of a folder were drawn with."""

Drawn = TypeVar("Drawn")


def in_chunks(
    draw: Callable[..., Drawn], count: int, chunk: int, workers: int, *more: Any
) -> Iterator[tuple[slice, Drawn]]:
    """Draw items in chunks, in order.

    Args:
        draw: Draws the items from a first to before a last one: (first, last, *more). A function of a module.
        count: Of all items.
        chunk: Items that a process draws at a time.
        workers: Processes.
        more: Further arguments of `draw`.

    Yields:
        The places of a chunk, and what was drawn for it.
    """
    starts = range(0, count, chunk)
    stops = [min(start + chunk, count) for start in starts]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from zip(map(slice, starts, stops), pool.map(draw, starts, stops, *map(repeat, more)), strict=True)


def drawn_with(folder: Path) -> dict[str, Any] | None:
    """The settings that the data of a folder were drawn with, if it has any."""
    try:
        found: dict[str, Any] = read_json(folder / ABOUT)
    except Unreadable:
        return None
    return found
