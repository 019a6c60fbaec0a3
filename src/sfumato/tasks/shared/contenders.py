"""Who competes where maps are compared: methods that map words at once, word by word, or only the image as a whole."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize_local_mean

from sfumato.explain import explain
from sfumato.generation.generate import generate
from sfumato.models.model import Model
from sfumato.models.words import Word
from sfumato.progress import Progress, silent
from sfumato.request import CompletedRequest, Request
from sfumato.saliency.nodes import NODES
from sfumato.tasks.shared.word_maps import Mapped, mapped_in

Way = Literal["words", "text", "word", "image"]
"""All words at once; all at once as a text beside the prompt; word by word; or one map of the image for every word."""

JUDGED = ("noun", "adj", "num")
"""Kinds of words that a method is asked for, where it is asked word by word."""
SAMPLES = 48
"""Noise samples of the information maps."""
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
        word_option: The option that takes the word, where it is asked word by word.
        node: Of the maps, where they are not in the node ``words``.
    """

    name: str
    method: str
    options: Mapping[str, Any]
    way: Way = "words"
    word_option: str = ""
    node: str = ""


def contenders(samples: int, calibration: str | None = None) -> tuple[Contender, ...]:
    """What is compared.

    Args:
        samples: Noise samples of the information maps.
        calibration: A file of weights for attention, from `sfumato run calibration`.
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
    model: Model, requests: Sequence[CompletedRequest], one: Contender, progress: Progress = silent
) -> list[tuple[Mapped, int]]:
    """The maps of a contender for every prompt, with the rows of the denoiser beside the generation.

    Args:
        model: A model that reads words.
        requests: Completed, of one image each.
        one: The contender.
        progress: Told about every unit of work.
    """
    if one.way == "words":
        made = explain(model, requests, one.method, batch=len(requests), progress=progress, **one.options)
        return [(mapped_in(model, found), _rows_of_words(model, found.request, one)) for found in made]
    if one.way == "text":
        texts = [explain(model, each, one.method, text=[each.prompt], progress=progress) for each in requests]
        return [(mapped_in(model, found), 0) for found in texts]
    return [_word_by_word(model, one, each, progress) for each in requests]


def timed(
    model: Model, request: CompletedRequest, chosen: Sequence[Contender], progress: Progress = silent
) -> dict[str, tuple[float, float]]:
    """What each contender takes for a prompt: seconds with the generation, and how many times the plain generation.

    One follows the other, so that what else the machine does slows all of them alike; nothing comes from the cache.
    """
    started = time.perf_counter()
    generate(model, request)
    plain = time.perf_counter() - started
    found = {}
    for one in chosen:
        started = time.perf_counter()
        found_by(model, [request], one, progress)
        spent = time.perf_counter() - started
        found[one.name] = spent, spent / plain
    return found


def _rows_of_words(model: Model, request: Request, one: Contender) -> int:
    if one.method != "information":
        return 0
    words = len(model.tokens(request.prompt).words)
    return int(one.options["samples"]) * (words + 1 + (one.options.get("given") == "empty"))


def _word_by_word(model: Model, one: Contender, request: CompletedRequest, progress: Progress) -> tuple[Mapped, int]:
    """One map for every judged word, on the latent's grid; NaN for the others."""
    words = model.tokens(request.prompt).words
    size = model.latent_grid(request)
    maps = np.full((len(words), *size), np.nan, np.float32)
    calls = 0
    image: NDArray[np.uint8] | None = None
    for word in words if one.way == "word" else words[:1]:
        if one.way == "word" and (word.pos not in JUDGED or not word.seen):
            continue
        options = dict(one.options) | ({one.word_option: _word_as_option(one, word)} if one.way == "word" else {})
        found = explain(model, request, one.method, progress=progress, **options)
        node = found.tree[one.node].to_dataset()
        heat = node["map"].mean("step") if "step" in node["map"].dims else node["map"]
        maps[word.index if one.way == "word" else slice(None)] = resize_local_mean(heat.values, size)
        calls += int(node.attrs.get("denoiser_calls", 0))
        image = np.asarray(found.image.convert("RGB"))
    if image is None:  # no word was asked for, so no image was made
        image = np.asarray(generate(model, request).images[0].convert("RGB"))
    return Mapped(request, image, words, maps), calls


def _word_as_option(one: Contender, word: Word) -> str:
    """A word as the option takes it: by name, or as a phrase of its own."""
    return word.text if one.word_option == "phrase" else f"{word.text}#{word.occurrence}"
