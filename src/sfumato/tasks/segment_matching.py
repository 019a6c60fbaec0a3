"""Do the segments that go with a word show its object, against the masks that the reader finds in the images?

A word or phrase is matched rightly if the parts that CLIP chose for it cover its object: intersection over union of at
least one half. Beside it stand the best choice that the same parts allow, which tells errors of the cut from errors of
the matching, and a part at random.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.explain import explain
from sfumato.games.players import Group, Player, players_of
from sfumato.metrics import bootstrap
from sfumato.models.model import Model
from sfumato.progress import Progress
from sfumato.registry import find
from sfumato.results.explanation import Explanation
from sfumato.results.hard_maps import mask_iou
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, Cost, Item, ModelFacts, NoOptions, Record, Records, task
from sfumato.studio.grammar import parsed
from sfumato.studio.reader import masks_of_words, read
from sfumato.studio.scenes import held_out_captions
from sfumato.tasks.explain import check_method
from sfumato.tasks.shared.captions import of_each_prompt
from sfumato.tasks.shared.scene_images import NOTHING_SHOWN, check_scene_size

RIGHT = 0.5
WAYS = ("regions", "saliency")
"""Ways to cut that need no other weights than the embedded ones."""

PLAYERS: tuple[Group, ...] = ("word", "phrase")
CHOICES = ("matched", "best there is", "at random")
Masks = NDArray[np.bool_]


@task(
    "segment_matching",
    question="Do the segments that go with a word or phrase show its object?",
    options=NoOptions,
    cost=Cost("four generations, two of them with gradients at three steps, for each image"),
    needs=("words",),
    prompts=Captions(held_out_captions, usual=100),
)
class SegmentMatching:
    """Overlap of the chosen parts with the object of each word and phrase that the image shows."""

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: NoOptions) -> Iterator[Item | Row]:
        """An item for each image of each row whose prompt is a caption of the grammar."""
        check_method(find("segments"), facts)
        check_scene_size("segment_matching", facts)
        return of_each_prompt(rows, parsed)

    def measure(self, model: Model, items: Sequence[Item], options: NoOptions, progress: Progress) -> Sequence[Record]:
        """Cut one image after the other in both ways, and match its parts with words and with phrases."""
        return [Record(rows=_rows(model, one, progress)) for one in items]

    def conclude(self, records: Records, options: NoOptions, about: Mapping[str, Any]) -> Finding:
        """The share of right matches and the mean overlap by cut, players and choice, with intervals over prompts.

        The intervals rest on every word and phrase, so their overlaps stay in memory: 24 bytes for each.
        """
        overlaps = {key: array("d") for key in itertools.product(WAYS, PLAYERS, CHOICES)}
        prompts: dict[tuple[str, str], list[str]] = {key: [] for key in itertools.product(WAYS, PLAYERS)}
        for item, record in records:
            for word in record.rows:
                way, group = word["cut by"], word["players"]
                prompts[way, group].append(item.about["caption"])
                for choice in CHOICES:
                    overlaps[way, group, choice].append(word[choice])
        rows: list[dict[str, Any]] = []
        for (way, group, choice), values in overlaps.items():
            if not values:
                continue
            cells = {"right": np.asarray(values) >= RIGHT, "IoU": np.asarray(values)}
            row: dict[str, Any] = {"cut by": way, "players": f"{group} ({len(values)})", "parts": choice}
            for measure, found in cells.items():
                row[measure] = bootstrap(found.astype(np.float64), groups=prompts[way, group])
            rows.append(row)
        return Finding("segment_matching", "", None, _sentence(rows, len(records)), rows, None, about)


def _rows(model: Model, item: Item, progress: Progress) -> list[dict[str, Any]]:
    """A row for each way to cut and each player whose object is in the image, with the overlap of every choice."""
    caption, rows = item.about["caption"], []
    draw = np.random.default_rng(item.request.seed)
    for way, group in itertools.product(WAYS, PLAYERS):
        found = explain(model, item.request, "segments", by=way, players=group, progress=progress)
        parts = found.tree["segments/parts"].to_dataset()["mask"].values
        best = found.tree["segments/matches"].to_dataset()["best"].values
        for place, player, truth in _truths(model, found, caption, group):
            chosen = (
                mask_iou(parts[best[place]].any(0), truth),
                max(mask_iou(mask, truth) for mask in _unions(parts)),
                mask_iou(parts[draw.integers(len(parts))], truth),
            )
            about = {"caption": caption, "cut by": way, "players": group, "player": player}
            rows.append(about | dict(zip(CHOICES, chosen, strict=True)))
    return rows


def _unions(parts: Masks) -> list[Masks]:
    """Every subset that matching may choose: one part or two."""
    return [*parts, *(one | other for one, other in itertools.combinations(parts, 2))]


def _truths(model: Model, found: Explanation, caption: str, group: Group) -> list[tuple[int, str, Masks]]:
    """The players that speak of an object that is there: their places, names and its pixels (y, x)."""
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
            rows.append((place, player.name, masks[spoken[-1]]))
    return rows


def _of_background(words: Sequence[str], player: Player) -> bool:
    """A background has no object, and neither has its colour."""
    last = player.words[-1]
    return any(words[index] == "background" for index in range(player.words[0], min(last + 2, len(words))))


def _sentence(rows: Sequence[Mapping[str, Any]], images: int) -> str:
    """The share of right matches by each cut and kind of player, next to that of a part at random."""
    if not rows:
        return NOTHING_SHOWN
    told = []
    for own, _, chance in zip(*[iter(rows)] * len(CHOICES), strict=True):
        told.append(f"{own['cut by']}, {own['players']} {own['right'].brief}, at random {chance['right'].brief}")
    return f"Right matches in {images:,} images: {'; '.join(told)}."
