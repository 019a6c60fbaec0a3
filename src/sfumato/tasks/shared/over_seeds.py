"""One image over many seeds: the options, items and tables of tasks that repeat the same measurement for each seed."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import OptionError, RequestError
from sfumato.inputs.image import read_mask
from sfumato.inputs.schedule import MAX_STEPS
from sfumato.methods.masks import mask_of
from sfumato.models.notes import regions_of
from sfumato.option_values import COUNT, SEED
from sfumato.request import CompletedRequest, Request
from sfumato.runs.task import CompletedItem, Item, ModelFacts

if TYPE_CHECKING:
    from sfumato.models.model import Model

LABELS = ("0110", "0111")
PROMPTS = ("a red circle left of a blue square", "a green circle left of a blue square")
"""The usual condition and the usual other one, where nothing else is said."""
USUAL_REGION = "eyes"
OTHER = {"help": "The other label or prompt; a usual one of the model."}
"""Metadata of an option for a second condition."""


@dataclass(frozen=True)
class OverSeedsOptions:
    """Options of every task over seeds."""

    seeds: int = field(default=30, metadata=COUNT | {"help": "How many seeds."})
    seed: int = field(default=0, metadata=SEED | {"help": "The first of them."})
    prompt: str | None = field(default=None, metadata={"help": "What the images show; a usual prompt of the model."})
    label: str | None = field(default=None, metadata={"help": "Their label; 0110 where the model takes labels."})
    steps: int | None = field(
        default=None, metadata={"least": 1, "most": MAX_STEPS, "help": "Denoising steps; the model's own."}
    )
    scheduler: str | None = field(
        default=None, metadata={"help": "Such as ddpm, which the thesis takes in 1,000 steps; the model's own."}
    )
    guidance: float | None = field(default=None, metadata={"help": "Guidance scale; the model's own."})


@dataclass(frozen=True)
class FollowingOptions(OverSeedsOptions):
    """Options of tasks that follow a part of the image."""

    mask: str | None = field(
        default=None,
        metadata={
            "disk": "file",
            "help": "The part that is followed: a region that the model names, or a black and white PNG; the eyes or "
            "the middle.",
        },
    )


def first_request(model: Model | ModelFacts, options: OverSeedsOptions) -> Request:
    """The request of the first seed; what is not given is usual, or the model's own."""
    if "label" in model.features:
        usual = Request(label=LABELS[0])
    else:
        usual = Request(PROMPTS[0] if "words" in model.features else "")
    names = ("prompt", "label", "steps", "scheduler", "guidance")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    return usual.with_(seed=options.seed, **given)


def items_of(facts: ModelFacts, options: OverSeedsOptions, about: Mapping[str, Any] | None = None) -> Iterator[Item]:
    """An item for each seed.

    Args:
        facts: About the model.
        options: Of the task.
        about: What else all measurements depend on.
    """
    request = first_request(facts, options)
    for number in range(options.seeds):
        yield Item(request.with_(seed=options.seed + number), about or {})


def other_of(model: Model | ModelFacts, options: OverSeedsOptions, given: str | None) -> str:
    """The label or prompt that is compared with that of the request; a usual one where none is given.

    Raises:
        OptionError: Both are the same.
    """
    request = first_request(model, options)
    own = request.label or request.prompt
    if given is not None and given == own:
        raise OptionError(f"other is {given!r}, as in the request; give another")
    first, second = LABELS if "label" in model.features else PROMPTS
    return given or (first if own == second else second)


def followed_in_plan(facts: ModelFacts, options: FollowingOptions) -> dict[str, Any]:
    """The part of the image that is followed, as items hold it: a region by its name, a picture by its pixels.

    Raises:
        OptionError: The picture cannot be used as a mask.
    """
    given = options.mask
    if given is None:
        return {}
    if given in facts.regions:
        return {"region": given}
    try:
        mask = read_mask(given, (facts.height, facts.width))
    except RequestError as error:
        raise OptionError(str(error)) from error
    return {"mask": b64encode(zlib.compress(np.packbits(mask).tobytes())).decode("ascii")}


def followed_in(model: Model, item: CompletedItem) -> NDArray[np.bool_]:
    """The part of the image that an item follows, (y, x) of the image's size, true inside."""
    if "mask" not in item.about:
        return followed(model, item.request, item.about.get("region"))
    height, width = item.request.height, item.request.width
    bits = np.frombuffer(zlib.decompress(b64decode(item.about["mask"])), np.uint8)
    return np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)


def followed(model: Model, request: CompletedRequest, given: str | None) -> NDArray[np.bool_]:
    """A part of the image of a request, (y, x), true inside.

    Args:
        model: The model.
        request: Whose image.
        given: A region or a file; by default the eyes where the model names them, else the middle.

    Raises:
        OptionError: It is neither.
    """
    if given is not None:
        return mask_of(model, request, given)
    if USUAL_REGION in regions_of(model.pipeline):
        return mask_of(model, request, USUAL_REGION)
    height, width = request.height, request.width
    middle = np.zeros((height, width), bool)
    middle[height * 3 // 8 : height * 5 // 8, width * 3 // 8 : width * 5 // 8] = True
    return middle


def sampling_of_seeds(requests: Sequence[Request], about: Mapping[str, Any]) -> dict[str, Any]:
    """What the numbers depend on, for the caption of the table.

    Args:
        requests: Those that were measured; they differ in the seed alone.
        about: What the engine knows of the run.
    """
    first, seeds = requests[0], [one.seed for one in requests]
    return {
        **about,
        "condition": first.label or first.prompt or "none",
        "seeds": f"{min(seeds)} to {max(seeds)}",
        "steps": first.steps,
        "scheduler": first.scheduler,
        "guidance": first.guidance,
    }


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
