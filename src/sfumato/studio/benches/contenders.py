"""Who competes in the bench of maps: methods that map words at once, word by word, or only the image as a whole."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize_local_mean

from sfumato.cache import Cache, default_folder
from sfumato.explain import explain
from sfumato.findings import one_by_one, remembered, settings_of
from sfumato.mapped import Mapped, mapped
from sfumato.models.model import Model
from sfumato.models.words import Word
from sfumato.progress import Progress, silent
from sfumato.registry import find
from sfumato.request import Request
from sfumato.saliency.nodes import NODES
from sfumato.trace import generate

Way = Literal["words", "text", "word", "image"]
"""All words at once; all at once as a text beside the prompt; word by word; or one map of the image for every word."""

JUDGED = ("noun", "adj", "num")
"""Kinds of words that a method is asked for, where it is asked word by word."""
MASKS = 100
"""Of DF-RISE, at each step."""
COALITIONS = 200
"""Of the superpixels of LIME, which go through CLIP."""


@dataclass(frozen=True)
class Contender:
    """A method with its options.

    Attributes:
        name: In the table.
        method: Its registered name.
        options: Of the method.
        way: How it comes to a map of a word.
        asks: The option that takes the word, where it is asked word by word.
        node: Of the maps, where they are not in the node ``words``.
    """

    name: str
    method: str
    options: Mapping[str, Any]
    way: Way = "words"
    asks: str = ""
    node: str = ""


@dataclass(frozen=True)
class Time:
    """What explaining one prompt takes.

    Attributes:
        seconds: Median over prompts, with the generation.
        plain: Median of how many times as long as the plain generation beside it.
    """

    seconds: float
    plain: float


def contenders(samples: int, calibration: str | None = None) -> tuple[Contender, ...]:
    """What is compared.

    Args:
        samples: Noise samples of the information maps.
        calibration: A file of weights for attention, from `sfumato calibrate`.
    """
    calibrated = (Contender("daam, calibrated", "daam", {"calibration": calibration}),) if calibration else ()
    return (
        Contender("daam", "daam", {}),
        *calibrated,
        Contender("ovam", "ovam", {}, "text"),
        Contender("information", "information", {"samples": samples}),
        Contender("information alone", "information", {"samples": samples, "given": "empty"}),
        Contender("df_cam of the word", "df_cam", {}, "word", "word", f"{NODES}/df_cam"),
        Contender("lime_image of the word", "lime_image", {"budget": COALITIONS}, "word", "phrase", "lime_image/parts"),
        Contender(
            "df_rise of the image",
            "df_rise",
            {"masks": MASKS, "branch": "conditional"},
            "image",
            node=f"{NODES}/df_rise",
        ),
        Contender("gradient of the image", "step_baselines", {"kinds": "gradient"}, "image", node=f"{NODES}/gradient"),
    )


def found_by(
    model: Model, requests: Sequence[Request], one: Contender, progress: Progress = silent
) -> list[tuple[Mapped, int]]:
    """The maps of a contender for every prompt, with the rows of the denoiser beside the generation.

    Args:
        model: A model that reads words.
        requests: Of one image each.
        one: The contender.
        progress: Told about every prompt.
    """
    if one.way == "words":
        found = mapped(model, requests, method=one.method, progress=progress, **one.options)
        return [(each, _rows_of_words(model, each.request, one)) for each in found]
    if one.way == "text":
        made = []
        for number, request in enumerate(requests):
            made += [(each, 0) for each in mapped(model, [request], method=one.method, text=[request.prompt])]
            progress("prompts", number + 1, len(requests))
        return made
    asked = [model.complete(request) for request in requests]
    cache, told = Cache(default_folder()), partial(progress, "prompts")
    work = one_by_one(partial(_asked, model, one))
    chosen = find(one.method)
    about: dict[str, Any] = {"methods": [chosen], "options": settings_of(chosen.configure(one.options))}
    kept = remembered(model, f"words by {one.method}, {one.way}", asked, work, cache, told, **about)
    return [
        (Mapped(request, entry["image"], model.tokens(request.prompt).words, entry["maps"]), int(entry["calls"]))
        for request, entry in zip(asked, kept, strict=True)
    ]


def timed(
    model: Model, requests: Sequence[Request], chosen: Sequence[Contender], progress: Progress
) -> dict[str, Time]:
    """How long each contender takes, with nothing taken from the cache; each prompt beside its plain generation.

    Args:
        model: The model.
        requests: Some prompts; each is generated and then explained by everyone, so that what else the machine does
            slows all of them alike.
        chosen: The contenders.
        progress: Told about every prompt.
    """
    seconds: dict[str, list[float]] = {one.name: [] for one in chosen}
    times: dict[str, list[float]] = {one.name: [] for one in chosen}
    for number, request in enumerate(model.complete(one) for one in requests):
        started = time.perf_counter()
        generate(model, request)
        plain = time.perf_counter() - started
        for one in chosen:
            started = time.perf_counter()
            _explained(model, one, request)
            spent = time.perf_counter() - started
            seconds[one.name].append(spent)
            times[one.name].append(spent / plain)
        progress("prompts timed", number + 1, len(requests))
    if not requests:
        return {}
    return {name: Time(float(np.median(seconds[name])), float(np.median(times[name]))) for name in seconds}


def _rows_of_words(model: Model, request: Request, one: Contender) -> int:
    if one.method != "information":
        return 0
    words = len(model.tokens(request.prompt).words)
    return int(one.options["samples"]) * (words + 1 + (one.options.get("given") == "empty"))


def _explained(model: Model, one: Contender, request: Request) -> None:
    """Explain a prompt as the bench does, for the time that it takes."""
    if one.way == "words":
        explain(model, request, one.method, **one.options)
    elif one.way == "text":
        explain(model, request, one.method, text=[request.prompt])
    else:
        _asked(model, one, request)


def _asked(model: Model, one: Contender, request: Request) -> dict[str, NDArray[Any]]:
    """One map for every judged word, on the latent's grid; NaN for the others."""
    words = model.tokens(request.prompt).words
    size = model.latent_grid(request)
    maps = np.full((len(words), *size), np.nan, np.float32)
    calls, image = 0, None
    for word in words if one.way == "word" else words[:1]:
        if one.way == "word" and (word.pos not in JUDGED or not word.seen):
            continue
        options = dict(one.options) | ({one.asks: _said(one, word)} if one.way == "word" else {})
        found = explain(model, request, one.method, **options)
        node = found.tree[one.node].to_dataset()
        heat = node["map"].mean("step") if "step" in node["map"].dims else node["map"]
        maps[word.index if one.way == "word" else slice(None)] = resize_local_mean(heat.values, size)
        calls += int(node.attrs.get("denoiser_calls", 0))
        image = np.asarray(found.image.convert("RGB"))
    if image is None:  # no word was asked for, so no image was made
        image = np.asarray(generate(model, request).images[0].convert("RGB"))
    return {"image": image, "maps": maps, "calls": np.array(calls)}


def _said(one: Contender, word: Word) -> str:
    """A word as the option takes it: by name, or as a phrase of its own."""
    return word.text if one.asks == "phrase" else f"{word.text}#{word.occurrence}"
