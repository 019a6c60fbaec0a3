"""What all studies of word maps share: which prompts are asked, and what their numbers depend on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from sfumato.bounds import shown_path
from sfumato.errors import ModelError, RequestError, SfumatoWarning, Unreadable
from sfumato.mapped import METHOD, Mapped, mapped
from sfumato.models.model import Model
from sfumato.progress import Progress, silent
from sfumato.reading import read_text
from sfumato.request import Request


def read_prompts(file: str) -> tuple[str, ...]:
    """The prompts of a text file, one a line; empty lines are left out.

    Raises:
        RequestError: It cannot be read, is no text, or holds no prompt.
    """
    try:
        text = read_text(file)
    except Unreadable as error:
        raise RequestError(
            f"cannot read {shown_path(file)}: {error.reason}; expected a text file with one prompt a line"
        ) from error
    prompts = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not prompts:
        raise RequestError(
            f"{shown_path(file)} holds no prompt; write one a line, such as: a red circle left of a blue square"
        )
    return prompts


def asked(
    model: Model,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    method: str = METHOD,
    steps: int | None = None,
    progress: Progress = silent,
    **options: Any,
) -> list[Mapped]:
    """The images of prompts with the maps of their words; what was made before is taken from the cache.

    Raises:
        ModelError: The model reads no text.
    """
    _reads_text(model)
    if len(prompts) == 1:
        warnings.warn("one prompt gives no interval, so no finding can be confirmed", SfumatoWarning, stacklevel=2)
    requests = [Request(prompt, seed=seed, steps=steps) for prompt, seed in zip(prompts, seeds, strict=True)]
    return mapped(model, requests, method=method, progress=progress, **options)


def _reads_text(model: Model) -> None:
    if "words" not in model.features:
        raise ModelError(
            f"a study of words needs a model that reads text; {model.source.name} ({model.family}) reads none"
        )


def about(model: Model, found: Sequence[Mapped], **more: Any) -> dict[str, Any]:
    """What the numbers depend on."""
    first = found[0].request
    seeds = [one.request.seed for one in found]
    return {
        "model": model.source.name,
        "prompts": len(found),
        "seeds": f"{min(seeds)} to {max(seeds)}",
        "steps": first.steps,
        "scheduler": first.scheduler,
        "guidance": first.guidance,
    } | more
