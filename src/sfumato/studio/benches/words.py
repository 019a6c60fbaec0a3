"""Table 1: how well word maps find the objects that the words speak of, on studio prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sfumato.bounds import checked_int
from sfumato.errors import OptionError
from sfumato.mapped import Mapped, mapped
from sfumato.metrics import LocalisationTable, localisation_table
from sfumato.models.lexicon import pos
from sfumato.models.model import Model
from sfumato.option_values import COUNT
from sfumato.progress import Progress, silent
from sfumato.request import Request
from sfumato.studio.reader import masks_of_words, read
from sfumato.studio.scenes import held_out_captions, scene_of
from sfumato.studio.shapes import COLOURS, SHAPES

KINDS = ("all", "nouns", "colours", "others")


@dataclass(frozen=True)
class Item:
    """One word of one generated image: its place, its map, the pixels it speaks of, and its kind."""

    caption: str
    place: int
    word: str
    kind: str
    heat: npt.NDArray[np.float32]
    truth: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class WordBench:
    """Localisation of a method and the controls, over all words and by kind of word."""

    model: str
    method: str
    prompts: int
    tables: dict[str, LocalisationTable]
    at: int | None = None

    @property
    def title(self) -> str:
        """One line for people."""
        images = f"{self.prompts} held-out prompts of {self.model}"
        if self.at is not None:
            images = f"{self.prompts} drawn scenes, noised to timestep {self.at} for {self.model}"
        return f"{self.method} on {images}, against the reader's masks"

    def rows(self) -> list[dict[str, Any]]:
        """One row for each kind of word and each method or control: every metric with its interval."""
        found: list[dict[str, Any]] = []
        for kind, table in self.tables.items():
            for name in table.methods:
                cells = {metric: table.score(name, metric) for metric in table.metrics}
                found.append({"words": f"{kind} ({table.items})", "map": name} | cells)
        return found

    def to_json(self) -> str:
        """Everything as JSON text."""
        tables = {kind: table.to_dict() for kind, table in self.tables.items()}
        return json.dumps(
            {
                "model": self.model,
                "method": self.method,
                "prompts": self.prompts,
                "at": self.at,
                "tables": tables,
            },
            indent=2,
        )


def bench_words(
    model: Model,
    prompts: int = 100,
    *,
    method: str = "daam",
    at: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> WordBench:
    """Explain held-out prompts and score every word's map against what the reader finds in the generated image.

    Counted are nouns, colours, sizes, textures and numerals whose object the image shows; a word whose object is
    absent (the model drew something else) has no truth and is left out.

    Args:
        model: A model of the scenes.
        prompts: How many prompts, balanced over the kinds of caption.
        method: A method that makes the node ``words``. With "ovam" and `at` the model gets no prompt.
        at: Instead of generating, look at drawn scenes of the prompts, noised to this timestep.
        seed: Prompt i starts from seed ``seed + i``.
        progress: Told about every prompt.

    Raises:
        OptionError: No prompts are asked for, or no word of them is in the images.
    """
    checked_int("prompts", prompts, **COUNT, error=OptionError)
    items = collect(model, held_out_captions(prompts), method=method, at=at, seed=seed, progress=progress)
    if not items:
        raise OptionError(
            "the images show none of the prompts' objects, so nothing can be scored; train the model longer"
        )
    tables = {}
    for kind in KINDS:
        chosen = [item for item in items if kind in ("all", item.kind)]
        if chosen:
            tables[kind] = localisation_table(
                {method: [item.heat for item in chosen]},
                [item.truth for item in chosen],
                groups=[item.caption for item in chosen],
            )
    return WordBench(model.source.name, method, prompts, tables, at)


def collect(
    model: Model,
    captions: Sequence[str],
    *,
    method: str = "daam",
    at: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Item]:
    """Explain captions of the grammar and pair every word's map with the pixels it speaks of."""
    requests = [_request(caption, seed + i, method, at) for i, caption in enumerate(captions)]
    if method == "ovam":  # is told the words apart from the prompt
        found = []
        for number, (request, caption) in enumerate(zip(requests, captions, strict=True)):
            found += mapped(model, [request], method=method, text=[caption])
            progress("prompts", number + 1, len(captions))
    else:
        found = mapped(model, requests, method=method, progress=progress)
    return [item for caption, one in zip(captions, found, strict=True) for item in items_of(caption, one)]


def items_of(caption: str, found: Mapped) -> list[Item]:
    """The words of a caption whose object the image shows, each with its map and the pixels that it speaks of."""
    words, masks, present = masks_of_words(caption, read(found.image))
    return [
        Item(caption, place, word, _kind(word), found.maps[place], masks[place])
        for place, word in enumerate(words)
        if present[place] and pos(word) in ("noun", "adj", "num") and _is_of_object(words, place)
    ]


def _request(caption: str, seed: int, method: str, at: int | None) -> Request:
    """The caption as a prompt, or none where its words are asked afterwards; of a drawn scene where ``at`` is given."""
    prompt = "" if method == "ovam" and at is not None else caption
    if at is None:
        return Request(prompt, seed=seed)
    picture: Any = scene_of(caption, seed).image
    return Request(prompt, seed=seed, image=picture, invert="noise", at=at)


def _is_of_object(words: Sequence[str], place: int) -> bool:
    """Not the background or its colour: they speak of where no object is, which is another question."""
    return words[place] != "background" and (place + 1 == len(words) or words[place + 1] != "background")


def _kind(word: str) -> str:
    if word in COLOURS:
        return "colours"
    return "nouns" if any(word.startswith(shape) for shape in SHAPES) else "others"
