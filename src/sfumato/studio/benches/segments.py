"""Do the segments that go with a word show its object? Studio prompts, against the masks that the reader finds.

A word or phrase is matched rightly if the parts that CLIP chose for it cover its object: intersection over union of at
least one half. Beside it stand the best choice that the same parts allow, which tells errors of the cut from errors of
the matching, and a part at random.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.bounds import checked_int
from sfumato.errors import OptionError
from sfumato.explain import explain
from sfumato.games.players import Group, Player, players_of
from sfumato.metrics import bootstrap
from sfumato.models.model import Model
from sfumato.option_values import COUNT
from sfumato.progress import Progress, silent
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.rows import plain_rows
from sfumato.studio.reader import masks_of_words, read
from sfumato.studio.scenes import held_out_captions

RIGHT = 0.5
WAYS = ("regions", "saliency")
"""Ways to cut that need no other weights than the embedded ones."""

PLAYERS: tuple[Group, ...] = ("word", "phrase")
CHOICES = ("matched", "best there is", "at random")
Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class SegmentsBench:
    """How often the parts of a word show its object.

    Attributes:
        model: Name of the model.
        prompts: How many prompts were explained.
        overlaps: Per (way to cut, kind of player, who chose): the intersections over union, one per word or phrase.
        captions: Per the same: the prompt that each belongs to.
    """

    model: str
    prompts: int
    overlaps: Mapping[tuple[str, str, str], Sequence[float]]
    captions: Mapping[tuple[str, str, str], Sequence[str]]

    @property
    def title(self) -> str:
        """One line for people."""
        return f"segments on {self.prompts} held-out prompts of {self.model}, against the reader's masks"

    def rows(self) -> list[dict[str, Any]]:
        """One row per way to cut, kind of player and choice: right matches and overlap, with intervals."""
        rows = []
        for (way, group, choice), overlaps in self.overlaps.items():
            captions = self.captions[way, group, choice]
            cells = {"right": np.asarray(overlaps) >= RIGHT, "IoU": np.asarray(overlaps)}
            row: dict[str, Any] = {"cut by": way, "players": f"{group} ({len(overlaps)})", "parts": choice}
            for measure, values in cells.items():
                row[measure] = bootstrap(values.astype(np.float64), groups=captions)
            rows.append(row)
        return rows

    def to_json(self) -> str:
        """Everything as JSON text."""
        scores = [
            {"by": way, "players": group, "parts": choice, "IoU": [*values]}
            for (way, group, choice), values in self.overlaps.items()
        ]
        about = {"model": self.model, "prompts": self.prompts}
        return json.dumps(about | {"rows": plain_rows(self.rows()), "scores": scores}, indent=2)


def bench_segments(model: Model, prompts: int = 100, *, seed: int = 0, progress: Progress = silent) -> SegmentsBench:
    """Cut the images of held-out prompts, match their parts with words and phrases, and judge the matches.

    Counted are words and phrases of objects that the reader finds in the image.

    Args:
        model: A model of the scenes.
        prompts: How many prompts, balanced over the kinds of caption.
        seed: Prompt i starts from seed ``seed + i``.
        progress: Told about every prompt.

    Raises:
        OptionError: No prompts are asked for, or no object of them is in the images.
    """
    checked_int("prompts", prompts, **COUNT, error=OptionError)
    overlaps: dict[tuple[str, str, str], list[float]] = {}
    captions: dict[tuple[str, str, str], list[str]] = {}
    draw = np.random.default_rng(seed)
    for number, caption in enumerate(held_out_captions(prompts)):
        progress("prompts", number, prompts)
        request = Request(caption, seed=seed + number)
        for way, group in itertools.product(WAYS, PLAYERS):
            found = explain(model, request, "segments", by=way, players=group, progress=progress)
            parts = found.tree["segments/parts"].to_dataset()["mask"].values
            best = found.tree["segments/matches"].to_dataset()["best"].values
            for place, truth in _truths(model, found, caption, group):
                chosen = {
                    "matched": overlap(parts[best[place]].any(0), truth),
                    "best there is": max(overlap(mask, truth) for mask in _unions(parts)),
                    "at random": overlap(parts[draw.integers(len(parts))], truth),
                }
                for choice in CHOICES:
                    overlaps.setdefault((way, group, choice), []).append(chosen[choice])
                    captions.setdefault((way, group, choice), []).append(caption)
    progress("prompts", prompts, prompts)
    if not overlaps:
        raise OptionError(
            "the images show none of the prompts' objects, so nothing can be scored; train the model longer"
        )
    return SegmentsBench(model.source.name, prompts, overlaps, captions)


def overlap(one: Masks, other: Masks) -> float:
    """Intersection over union of two masks; 0 if both are empty."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 0.0


def _unions(parts: Masks) -> list[Masks]:
    """Every subset that matching may choose: one part or two."""
    return [*parts, *(one | other for one, other in itertools.combinations(parts, 2))]


def _truths(model: Model, found: Explanation, caption: str, group: Group) -> list[tuple[int, Masks]]:
    """The players that speak of an object that is there: their places and its pixels."""
    words, masks, present = masks_of_words(caption, read(np.asarray(found.image)))
    tokens = model.tokens(caption)
    rows = []
    for place, player in enumerate(players_of(tokens, group)):
        spoken = [
            index
            for index in player.words
            if present[index] and tokens.words[index].pos in ("noun", "adj") and not _of_background(words, player)
        ]
        if spoken:
            rows.append((place, masks[spoken[-1]]))
    return rows


def _of_background(words: Sequence[str], player: Player) -> bool:
    """A background has no object, and neither has its colour."""
    last = player.words[-1]
    return any(words[index] == "background" for index in range(player.words[0], min(last + 2, len(words))))
