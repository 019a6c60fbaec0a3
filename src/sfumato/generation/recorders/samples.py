"""The noisy samples of a generation: x at every step, before the denoiser sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from sfumato.generation.context import GenerationContext
from sfumato.models import noise

Take = Callable[[int, torch.Tensor], None]
"""Told the step and the samples (item, channel, y, x) at its beginning."""


class Samples:
    """A watcher that hands on the samples, once for each step; the last one is the trace's final latent.

    Args:
        take: Told each step's samples.
    """

    def __init__(self, take: Take) -> None:
        self._take = take
        self._seen = -1

    def install(self, run: GenerationContext) -> None:
        """Register a hook before the denoiser."""
        run.hooks.before(run.model.denoiser, lambda module, args, kwargs: self._see(run, module, args, kwargs))

    def _see(self, run: GenerationContext, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if run.clock.step == self._seen:
            return
        self._seen = run.clock.step
        rows = run.rows("conditional")
        if rows is None:
            return
        given = run.model.spatial(noisy_input(args, kwargs)[rows], run.requests[0])
        scale = noise.input_scale(run.model.pipeline.scheduler, run.clock.timestep)
        self._take(run.clock.step, given[:, : run.model.channels].detach() / scale)


def noisy_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """The denoiser's noisy input, whatever it is called."""
    given = args[0] if args else kwargs.get("sample", kwargs.get("hidden_states"))
    assert isinstance(given, torch.Tensor)
    return given
