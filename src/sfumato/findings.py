"""Work on many requests that is done once for each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.cache import Cache, digest
from sfumato.models.identity import identity, said
from sfumato.models.model import Model
from sfumato.registry import Method
from sfumato.request import Request

KIND = "experiments"

Work = Callable[[Sequence[Request]], Sequence[Mapping[str, NDArray[Any]]]]
"""From some requests to named arrays for each."""


def one_by_one(work: Callable[[Request], Mapping[str, NDArray[Any]]]) -> Work:
    """Work on single requests as work on several."""
    return lambda requests: [work(request) for request in requests]


def remembered(
    model: Model,
    name: str,
    requests: Sequence[Request],
    work: Work,
    cache: Cache,
    told: Callable[[int, int], None],
    *,
    batch: int = 1,
    methods: Sequence[Method] = (),
    **about: Any,
) -> list[dict[str, NDArray[Any]]]:
    """What ``work`` gives for every request, taken from the cache where it was computed before.

    Args:
        model: What the result depends on, beside the request.
        name: Of the work.
        requests: Completed.
        work: Is given up to `batch` requests whose result is not known yet.
        cache: Keeps each result as soon as its batch is done.
        told: Told how many requests are done, of how many.
        batch: How many requests are worked on together.
        methods: Those by which the work explains; a result is of their version.
        about: What else the result depends on.
    """
    known = {"model": identity(model), "methods": {method.name: method.version for method in methods}}
    keys = [digest({"experiment": name, "request": request.key} | known | about) for request in requests]
    found: dict[str, dict[str, NDArray[Any]]] = {}
    waiting: dict[str, Request] = {}

    def work_off() -> None:
        made = work(list(waiting.values())) if waiting else ()
        for key, entry in zip(waiting, made, strict=True):
            found[key] = {part: np.asarray(value) for part, value in entry.items()}
            cache.put(KIND, key, found[key])
        waiting.clear()

    for number, (key, request) in enumerate(zip(keys, requests, strict=True)):
        if key not in found and key not in waiting:
            entry = cache.get(KIND, key)
            if entry is None:
                waiting[key] = request
            else:
                found[key] = entry
        if len(waiting) == batch or number + 1 == len(requests):
            work_off()
        told(number + 1 - len(waiting), len(requests))
    return [found[key] for key in keys]


def settings_of(options: Any) -> dict[str, Any]:
    """All options of a method for the key of the cache, defaults included; a file by its content."""
    given = {one.name: getattr(options, one.name) for one in fields(options)}
    files = {
        name: hashlib.sha256(Path(value).read_bytes()).hexdigest()
        for name, value in given.items()
        if isinstance(value, str | Path) and Path(value).is_file()
    }
    return said(given | files)
