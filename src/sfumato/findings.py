"""Work on many requests that is done once for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.cache import Cache, digest
from sfumato.generations import identity
from sfumato.models.model import Model
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
        about: What else the result depends on.
    """
    known = identity(model)
    keys = [digest({"experiment": name, "model": known, "request": request.key} | about) for request in requests]
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
