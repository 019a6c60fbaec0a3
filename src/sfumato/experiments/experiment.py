"""What an experiment is: a function of a model and seeds that gives a figure, a table and one sentence."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.bounds import checked_int
from sfumato.cache import Cache, default_folder
from sfumato.errors import OptionError
from sfumato.findings import one_by_one, remembered
from sfumato.masks import mask_of
from sfumato.models.model import Model
from sfumato.models.notes import regions_of
from sfumato.option_values import COUNT
from sfumato.progress import Progress
from sfumato.registry import HasFeatures
from sfumato.request import Request
from sfumato.runs.finding import Finding

NAMES = ("localisation", "ablation", "artifact", "divergence", "switch")


@dataclass(frozen=True)
class Setting:
    """What an experiment is run with.

    Attributes:
        model: The model.
        requests: Completed requests of one image, one for each seed; they differ in the seed alone.
        other: The other label or prompt, for experiments that compare two.
        mask: The part of the image that is followed, (y, x) bool of the image's size.
        progress: Told about every seed.
        cache: Keeps what was computed for a seed, so a run that was killed goes on.
    """

    model: Model
    requests: tuple[Request, ...]
    other: str
    mask: NDArray[np.bool_]
    progress: Progress
    cache: Cache

    def each(
        self, name: str, work: Callable[[Request], Mapping[str, NDArray[Any]]], **about: Any
    ) -> list[dict[str, NDArray[Any]]]:
        """What ``work`` gives for every request, taken from the cache where it was computed before."""
        told = partial(self.progress, "seeds")
        return remembered(self.model, name, self.requests, one_by_one(work), self.cache, told, **about)


def setting(
    model: Model, seeds: int, *, first: int = 0, request: Request | None = None, other: str | None = None,
    mask: Any = None, progress: Progress, cache: Cache | None = None,
) -> Setting:  # fmt: skip
    """Prepare a run.

    Args:
        model: The model.
        seeds: How many.
        first: The first one.
        request: Prompt or label, steps, scheduler; by default the usual one.
        other: The other label or prompt.
        mask: See `sfumato.masks.mask_of`; by default the eyes where the model names them, else the middle.
        progress: Told about every seed.
        cache: Where results of a seed are kept; the library's own.

    Raises:
        OptionError: The number of seeds or the mask cannot be used.
    """
    checked_int("seeds", seeds, **COUNT, error=OptionError)
    done = model.complete((request or usual_request(model)).with_(seed=first, images=1))
    if mask is None:
        size = (int(done.height or 0), int(done.width or 0))
        mask = "eyes" if "eyes" in regions_of(model.pipeline) else _middle(size)
    return Setting(
        model,
        tuple(done.with_(seed=first + number) for number in range(seeds)),
        other or _another(model, done),
        mask_of(model, done, mask),
        progress,
        cache or Cache(default_folder()),
    )


def usual_request(model: HasFeatures) -> Request:
    """What a model is asked for unless something else is said: a label, a prompt, or nothing, as it takes them."""
    if "label" in model.features:
        return Request(label="0110")
    return Request("a red circle left of a blue square" if "words" in model.features else "")


def _another(model: Model, request: Request) -> str:
    """A label or prompt beside that of a request."""
    labels, prompts = ("0111", "0110"), ("a green circle left of a blue square", "a red circle left of a blue square")
    known = labels if "label" in model.features else prompts
    return known[1] if (request.label or request.prompt) == known[0] else known[0]


def over_time(times: NDArray[np.float64], values: NDArray[np.float64], places: Iterable[int]) -> list[dict[str, float]]:
    """Rows of a table: mean normalised SSIM and spread over seeds at some places of (step,) and (seed, step)."""
    return [
        {
            "timestep": float(times[p]),
            "normalised ssim": float(values[:, p].mean()),
            "sd over seeds": float(values[:, p].std()),
        }
        for p in dict.fromkeys(places)
    ]


def experiment(name: str) -> Callable[[Setting], Finding]:
    """The experiment of a name.

    Raises:
        OptionError: There is none; the message lists all.
    """
    if name not in NAMES:
        raise OptionError(f"there is no experiment {name!r}; choose from: {', '.join(NAMES)}")
    found: Callable[[Setting], Finding] = importlib.import_module(f"sfumato.experiments.{name}").run
    return found


def about(given: Setting) -> dict[str, Any]:
    """What the numbers depend on, for the table's caption."""
    first = given.requests[0]
    return {
        "model": given.model.source.name,
        "condition": first.label or first.prompt or "none",
        "seeds": f"{first.seed} to {given.requests[-1].seed}",
        "steps": first.steps,
        "scheduler": first.scheduler,
        "guidance": first.guidance,
    }


def _middle(size: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(size, bool)
    mask[size[0] * 3 // 8 : size[0] * 5 // 8, size[1] * 3 // 8 : size[1] * 5 // 8] = True
    return mask
