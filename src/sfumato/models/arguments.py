"""Arguments of a denoiser's call: some have a row for each image and branch, some lie in dictionaries and lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sfumato.errors import RequestError

SHARED = frozenset({"img_ids", "txt_ids"})
"""Arguments that are not by rows, whatever their size."""


def of_rows(given: Any, batch: int, rows: slice, count: int) -> Any:
    """What of a call's arguments concerns some rows of its batch, repeated to so many; else the argument itself."""
    if isinstance(given, dict):
        return {name: value if name in SHARED else of_rows(value, batch, rows, count) for name, value in given.items()}
    if isinstance(given, list | tuple):
        return type(given)(of_rows(value, batch, rows, count) for value in given)
    if not isinstance(given, torch.Tensor) or given.ndim == 0 or given.shape[0] != batch:
        return given
    return repeated(given[rows], count, "recorded call")


def replaced(
    arguments: Mapping[str, Any], path: str, value: torch.Tensor, rows: Sequence[int] | None = None
) -> dict[str, Any]:
    """Arguments with one of them, or some of its rows, changed.

    Args:
        arguments: By name; they stay as they are.
        path: Which one; "a.b" is the entry b of the dictionary a. One that is not given stays so.
        value: What it becomes.
        rows: Only these of its rows; all.
    """
    first, _, rest = path.partition(".")
    old = arguments.get(first)
    if old is None:
        return dict(arguments)
    if rest:
        new: Any = replaced(old, rest, value, rows)
    elif rows is None:
        new = value.to(old)
    else:
        new = old.clone()
        new[rows] = value.to(old)
    return {**arguments, first: new}


def repeated(rows: torch.Tensor, count: int, what: str) -> torch.Tensor:
    """So many rows of one, or as they are.

    Raises:
        RequestError: There are neither 1 nor so many.
    """
    if rows.shape[0] == count:
        return rows
    if rows.shape[0] != 1:
        raise RequestError(f"the {what} has {rows.shape[0]} rows where {count} are needed; give 1 or {count}")
    return rows.expand(count, *rows.shape[1:])
