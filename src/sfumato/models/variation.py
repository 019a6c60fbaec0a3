"""Noise between that of two seeds: a variation of an image is one whose noise is partly that of another seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from sfumato.request import CompletedRequest


@contextmanager
def varied(requests: Sequence[CompletedRequest]) -> Iterator[None]:
    """While open, everything that the generators of the requests' images draw is mixed with draws of other seeds.

    With the strength s of `Request.variation`, sqrt(1 - s^2) times the own draw plus s times the other one: of unit
    variance again. It holds for all noise of a run, whatever the pipeline draws first.

    Args:
        requests: Completed, of one batch; without variation, nothing happens.
    """
    if all(request.variation is None for request in requests):
        yield
        return
    with _Mixed(requests):
        yield


class _Mixed(TorchFunctionMode):
    """Sees ``torch.randn``, by which pipelines draw noise."""

    def __init__(self, requests: Sequence[CompletedRequest]) -> None:
        super().__init__()
        self._waiting: dict[int, list[tuple[int, float]]] = {}
        for request in requests:
            for place, seed in enumerate(request.seeds):
                other, strength = request.variation or (0, 0.0)
                self._waiting.setdefault(seed, []).append((other + place, strength))
        self._turn: dict[int, int] = {}
        self._known: dict[int, tuple[torch.Generator, torch.Generator, float]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        own = func(*args, **given)
        generator = given.get("generator")
        if func is not torch.randn or not isinstance(generator, torch.Generator):
            return own
        found = self._other(generator)
        if found is None:
            return own
        twin, strength = found
        return (1 - strength**2) ** 0.5 * own + strength * func(*args, **given | {"generator": twin})

    def _other(self, generator: torch.Generator) -> tuple[torch.Generator, float] | None:
        """The generator of the other seed; images with one seed take theirs in turn, as pipelines draw."""
        if id(generator) not in self._known:
            seed = generator.initial_seed()
            if seed not in self._waiting:
                return None
            turn = self._turn.get(seed, 0)
            self._turn[seed] = turn + 1
            other, strength = self._waiting[seed][turn % len(self._waiting[seed])]
            self._known[id(generator)] = generator, torch.Generator().manual_seed(other), strength
        return self._known[id(generator)][1:]
