"""Images of many prompts with the maps of their words, made in batches, each made once and kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.cache import Cache, default_folder
from sfumato.explain import BATCH, explain
from sfumato.findings import remembered, settings_of
from sfumato.models.model import Model
from sfumato.models.words import Word
from sfumato.progress import Progress, silent
from sfumato.registry import find
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.upscale import bicubic

METHOD = "daam"


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


def mapped(
    model: Model, requests: Sequence[Request], *, method: str = METHOD, progress: Progress = silent, **options: Any
) -> list[Mapped]:
    """Explain requests of one image each, or take their maps from the cache.

    Args:
        model: The model.
        requests: What to generate.
        method: One that makes the node ``words``.
        progress: Told about every prompt.
        options: Of the method.

    Raises:
        ModelError: The model cannot do what the method needs.
        UnknownMethod: There is no such method.
    """
    chosen = find(method)
    settings = settings_of(chosen.configure(options))
    asked = [model.complete(request) for request in requests]

    def work(part: Sequence[Request]) -> list[dict[str, NDArray[Any]]]:
        made = explain(model, part, method, batch=BATCH, progress=progress, **options)
        return [{"image": one.image, "maps": one.maps} for one in (mapped_in(model, found) for found in made)]

    cache, told = Cache(default_folder()), partial(progress, "prompts")
    about: dict[str, Any] = {"batch": BATCH, "methods": [chosen], "options": settings}
    entries = remembered(model, f"words by {method}", asked, work, cache, told, **about)
    return [
        Mapped(
            request,
            entry["image"],
            model.tokens(request.prompt).words,
            entry["maps"],
        )
        for request, entry in zip(asked, entries, strict=True)
    ]


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
