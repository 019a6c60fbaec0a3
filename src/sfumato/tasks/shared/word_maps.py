"""What tasks of word maps share: the maps of a batch, the thresholds of a sweep, and what their numbers depend on."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import SfumatoWarning
from sfumato.explain import explain
from sfumato.models.model import Model
from sfumato.models.words import Word
from sfumato.progress import Progress
from sfumato.registry import find
from sfumato.request import CompletedRequest, Request
from sfumato.results.explanation import Explanation
from sfumato.results.upscale import bicubic
from sfumato.runs.prompts import Row
from sfumato.runs.task import Item, ModelFacts
from sfumato.tasks.explain import check_method, costs_of, of_each_image
from sfumato.tasks.shared.parsing import Parser, parser_of, tagger_for
from sfumato.tasks.shared.scene_images import OTHER

METHOD = "daam"
TAUS = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))
"""Thresholds of a sweep, relative to each map's maximum."""


@dataclass(frozen=True)
class Mapped:
    """One generated image and the maps of its prompt's words.

    Attributes:
        request: The completed request.
        image: (y, x, 3) uint8.
        words: Of the prompt, in order; those that the tokenizer cut off have ``seen`` false.
        maps: (word, y, x) on the method's grid; NaN for a word that the model did not see.
    """

    request: Request
    image: NDArray[np.uint8]
    words: tuple[Word, ...]
    maps: NDArray[np.float32]

    @property
    def seen(self) -> list[int]:
        """Places of the words that have a map."""
        return [word.index for word in self.words if word.seen]

    def fine(self, word: int) -> NDArray[np.float64]:
        """The map of a word at the size of the image (y, x), bicubic."""
        height, width = self.image.shape[:2]
        return np.asarray(bicubic(self.maps[word], (height, width)), np.float64)


@dataclass(frozen=True)
class WordMapOptions:
    """Options of tasks of word maps."""

    method: str = field(default=METHOD, metadata={"help": "A method that maps words; see: sfumato methods."})


@dataclass(frozen=True)
class TaggedOptions(WordMapOptions):
    """Options of tasks that read parts of speech or heads of words."""

    tagger: str = field(
        default="auto",
        metadata={
            "disk": "model",
            "help": "Source of parts of speech and heads: lexicon, or the name or folder of a spaCy model; auto takes "
            "the lexicon for captions of the scenes, else spaCy where it is installed.",
        },
    )


class HasMethod(Protocol):
    """Options with a method that maps words."""

    @property
    def method(self) -> str:
        """Its name."""
        ...


def costs_of_maps(model: Model, request: CompletedRequest, items: int, options: HasMethod) -> list[str]:
    """What the method costs, for each image."""
    return costs_of(model, request, [(find(options.method), {})], f"each of {items:,} images")


def costs_of_paired_maps(model: Model, request: CompletedRequest, items: int, options: HasMethod) -> list[str]:
    """What the method costs, for each pair of images."""
    return costs_of(model, request, [(find(options.method), {})], f"both images of each of {items:,} pairs")


def tagged_items(facts: ModelFacts, rows: Iterable[Row], options: TaggedOptions) -> Iterator[Item]:
    """An item for each image of each row; all prompts together decide which tagger reads them.

    Raises:
        ModelError: The method needs what the model does not have.
        OptionError: The tagger cannot be used.
    """
    check_method(find(options.method), facts)
    prompts = [row.request.prompt for row in rows if row.request is not None]
    tagger = tagger_for(options.tagger, prompts)
    about = {"tagger": tagger, "tags": parser_of(tagger, prompts).name}
    for item in of_each_image(rows):
        yield replace(item, about=about)


@lru_cache(maxsize=2)
def parser_named(tagger: str) -> Parser:
    """The parser of a tagger's name; a spaCy model is loaded once for all batches."""
    return parser_of(tagger, ())


def mapped_in(model: Model, found: Explanation) -> Mapped:
    """The image of an explanation with the maps of its prompt's words.

    Args:
        model: The one that made it.
        found: Of one image, by a method that makes the node ``words``.
    """
    return Mapped(
        found.request,
        np.asarray(found.image.convert("RGB")),
        model.tokens(found.request.prompt).words,
        _in_order(found.words),
    )


def _in_order(words: Any) -> NDArray[np.float32]:
    """The maps in the order of the prompt."""
    order = np.argsort(words["index"].values)
    return np.asarray(words["map"].transpose("word", "y", "x").values[order], np.float32)


def measured_maps(model: Model, items: Sequence[Item], method: str, progress: Progress) -> list[Mapped]:
    """The image of each item of a batch with the maps of its prompt's words."""
    requests = [one.request for one in items]
    found = explain(model, requests, method, batch=len(requests), progress=progress)
    return [mapped_in(model, explanation) for explanation in found]


def requests_of_pairs(items: Sequence[Item]) -> list[Request]:
    """The two requests of each pair of prompts, which differ in the prompt alone."""
    return [one for item in items for one in (item.request, item.request.with_(prompt=item.about[OTHER]))]


def measured_pairs(model: Model, items: Sequence[Item], method: str, progress: Progress) -> list[tuple[Mapped, Mapped]]:
    """The two images of each pair of a batch with their maps, as many images at once as there are pairs."""
    found = explain(model, requests_of_pairs(items), method, batch=len(items), progress=progress)
    made = [mapped_in(model, explanation) for explanation in found]
    return list(zip(made[::2], made[1::2], strict=True))


def or_nan(value: float | None) -> float:
    """NaN for what JSON holds as null: a number that is not defined."""
    return float("nan") if value is None else value


def with_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose undefined numbers are NaN."""
    return {name: or_nan(value) if value is None else value for name, value in row.items()}


def warn_of_one(count: int) -> None:
    """Say that one prompt gives no interval."""
    if count == 1:
        warnings.warn("one prompt gives no interval, so no finding can be confirmed", SfumatoWarning, stacklevel=3)


class Sampling:
    """How the images of a run were generated, gathered request by request."""

    def __init__(self) -> None:
        self._last: Request | None = None
        self._lowest = self._highest = 0
        self._count = 0

    def add(self, request: Request, *, prompts: int = 1) -> None:
        """Take the request of one more image, or of several whose prompts alone differ."""
        first = self._last is None
        self._lowest = request.seed if first else min(self._lowest, request.seed)
        self._highest = request.seed if first else max(self._highest, request.seed)
        self._last = request
        self._count += prompts

    @property
    def about(self) -> dict[str, Any]:
        """Number of prompts, seeds, steps, scheduler and guidance."""
        if self._last is None:
            return {}
        return {
            "prompts": self._count,
            "seeds": f"{self._lowest} to {self._highest}",
            "steps": self._last.steps,
            "scheduler": self._last.scheduler,
            "guidance": self._last.guidance,
        }
