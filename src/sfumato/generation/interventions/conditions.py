"""Switching the prompt or the label in the middle of a generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sfumato.errors import ModelError, OptionError
from sfumato.generation.context import GenerationContext
from sfumato.models.arguments import replaced


@dataclass(frozen=True)
class SwitchCondition:
    """From some step on, the conditional branch reads another prompt or label.

    Args:
        to: The new prompt or label.
        steps: For every image of the batch, the first step at which it reads the new one; None for never. One number
            counts for all.
    """

    to: str
    steps: tuple[int | None, ...]

    def install(self, run: GenerationContext) -> None:
        """Register the change for one run.

        Raises:
            ModelError: The model has no condition, or the new one has another shape than the old.
        """
        name = run.model.condition
        if name is None:
            raise ModelError(f"{run.model.source.name} has no prompt or label that could be switched")
        if len(self.steps) not in (1, run.items):
            raise OptionError(f"{len(self.steps)} steps were given for {run.items} images; give one, or one for each")
        new = run.model.encode([self.to])
        pooled = run.model.pooled([self.to])
        steps = self.steps * run.items if len(self.steps) == 1 else self.steps

        def switch(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            now = [place for place, step in enumerate(steps) if step is not None and run.clock.step >= step]
            if not now:
                return None
            condition: torch.Tensor = kwargs[name]
            if condition.shape[1:] != new.shape[1:]:
                raise ModelError(
                    f"the new condition has the shape {tuple(new.shape[1:])}, the old one {tuple(condition.shape[1:])}"
                )
            rows = run.rows("conditional")
            if rows is None:
                return None
            chosen = [rows.start + place for place in now]
            changed = replaced(kwargs, name, new, chosen)
            for path, summary in pooled.items():
                changed = replaced(changed, path, summary, chosen)
            return args, changed

        run.hooks.before(run.model.denoiser, switch)
