"""Watchers and changes of the tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from sfumato.generation.context import GenerationContext
from sfumato.generation.recorders.attention import Attention
from sfumato.generation.recorders.tapping import tap_attention


@dataclass
class Seeing:
    """Calls a function for every attention call of some kinds."""

    see: Callable[[Attention, GenerationContext], None]
    kinds: tuple[str, ...] = ("cross",)

    def install(self, run: GenerationContext) -> None:
        sites = [site for site in run.model.sites() if site.kind in self.kinds]
        tap_attention(run, sites, lambda attention: self.see(attention, run))


@dataclass
class Keeping:
    """Keeps the probabilities of a branch: name of the site to one (row, head, query, key) for each call."""

    branch: str = "conditional"
    maps: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    grids: dict[str, tuple[int, int]] = field(default_factory=dict)

    def install(self, run: GenerationContext) -> None:
        Seeing(self._keep).install(run)

    def _keep(self, attention: Attention, run: GenerationContext) -> None:
        rows = run.rows(self.branch)
        if rows is None:
            return
        self.maps.setdefault(attention.site.name, []).append(attention.probabilities(rows).clone())
        self.grids[attention.site.name] = attention.grid


@dataclass
class Failing:
    """Registers hooks like a good watcher, then fails."""

    error: BaseException

    def install(self, run: GenerationContext) -> None:
        for module in run.model.denoiser.modules():
            run.hooks.before(module, lambda module, args, kwargs: None)
        raise self.error
