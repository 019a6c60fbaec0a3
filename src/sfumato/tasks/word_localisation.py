"""How well word maps find the objects that the words name, against exact masks of the embedded scenes."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.explain import explain
from sfumato.inputs.schedule import MAX_STEPS
from sfumato.metrics import CONTROLS, Interval, bootstrap, find_metric, localisation_scores
from sfumato.metrics.controls import control_map
from sfumato.metrics.registry import checked_metrics
from sfumato.models.model import Model
from sfumato.progress import Progress
from sfumato.registry import find
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, Cost, Item, ModelFacts, Record, Records, task
from sfumato.studio.grammar import parsed
from sfumato.studio.scenes import held_out_captions, scene_of
from sfumato.studio.word_masks import MaskedWord, masked_words
from sfumato.tasks.explain import check_method
from sfumato.tasks.shared.captions import of_each_prompt
from sfumato.tasks.shared.scene_images import NOTHING_SHOWN, check_scene_size
from sfumato.tasks.shared.word_maps import costs_of_maps, mapped_in, or_nan

KINDS = ("all", "nouns", "colours", "others")
AFTERWARDS = "ovam"
"""The method that takes its words apart from the prompt."""


@dataclass(frozen=True)
class WordLocalisationOptions:
    """Options of the task."""

    method: str = field(default="daam", metadata={"help": "A method that maps words; see: sfumato methods."})
    at: int | None = field(
        default=None,
        metadata={
            "least": 1,
            "most": MAX_STEPS - 1,
            "help": "Explain drawn scenes, noised to this timestep, instead of generated images.",
        },
    )
    metrics: tuple[str, ...] = field(
        default=(), metadata={"help": "A metric of maps, such as AP; may be repeated. By default all of them."}
    )

    def __post_init__(self) -> None:
        """Complete and check the metrics."""
        object.__setattr__(self, "metrics", checked_metrics(self.metrics, "map"))


@task(
    "word_localisation",
    question="How well do word maps find the objects that the words name?",
    options=WordLocalisationOptions,
    cost=Cost("an explanation by the method for each image (daam: one generation)", costs_of_maps),
    needs=("words",),
    version=2,
    prompts=Captions(held_out_captions, usual=100),
)
class WordLocalisation:
    """Scores of every word's map, next to those of maps that know nothing of the prompt."""

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: WordLocalisationOptions) -> Iterator[Item | Row]:
        """An item for each image of each row whose prompt is a caption of the grammar."""
        check_method(find(options.method), facts)
        check_scene_size("word_localisation", facts)
        return _items(rows, options)

    def measure(
        self, model: Model, items: Sequence[Item], options: WordLocalisationOptions, progress: Progress
    ) -> Sequence[Record]:
        """Explain a batch and score the words whose object is in the image."""
        found = images_and_maps(model, items, options.method, progress)
        return [
            Record(
                rows=[
                    _row(word, one.about["caption"], one.request.seed, options)
                    for word in masked_words(one.about["caption"], image, maps)
                ]
            )
            for one, (image, maps) in zip(items, found, strict=True)
        ]

    def conclude(self, records: Records, options: WordLocalisationOptions, about: Mapping[str, Any]) -> Finding:
        """The mean of every metric over words, by kind of word, with intervals over prompts.

        A bootstrap interval rests on every value, so the scores of all words stay in memory: 8 bytes for each number.
        """
        maps = (options.method, *CONTROLS)
        scores = _Scores([f"{name}.{metric}" for name in maps for metric in options.metrics])
        for item, record in records:
            for row in record.rows:
                scores.add(row, item.about["caption"])
        about = {**about, "method": options.method, "at": options.at, "words": scores.words, "dropped": scores.dropped}
        if not scores.words:
            return Finding("word_localisation", "", None, NOTHING_SHOWN, [], None, about)
        rows: list[dict[str, Any]] = []
        for kind in KINDS:
            count = scores.count(kind)
            for name in maps if count else ():
                cells = {metric: scores.mean(f"{name}.{metric}", kind) for metric in options.metrics}
                rows.append({"words": f"{kind} ({count})", "map": name} | cells)
        sentence = _sentence(rows[: len(maps)], len(records), scores.words, options)
        return Finding("word_localisation", "", None, sentence, rows, None, about)


def images_and_maps(
    model: Model, items: Sequence[Item], method: str, progress: Progress
) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """The image (y, x, 3) of each item with the maps (word, y, x) of its caption, in the order of the words."""
    if method == AFTERWARDS:
        found = [explain(model, one.request, method, text=[one.about["caption"]], progress=progress) for one in items]
    else:
        found = explain(model, [one.request for one in items], method, batch=len(items), progress=progress)
    return [(each.image, each.maps) for each in (mapped_in(model, one) for one in found)]


def _items(rows: Iterable[Row], options: WordLocalisationOptions) -> Iterator[Item | Row]:
    for one in of_each_prompt(rows, parsed):
        if isinstance(one, Row) or options.at is None:
            yield one
            continue
        caption, seed = one.about["caption"], one.request.seed
        scene: Any = scene_of(caption, seed).image
        prompt = "" if options.method == AFTERWARDS else caption
        yield replace(one, request=one.request.with_(prompt=prompt, image=scene, invert="noise", at=options.at))


def _row(word: MaskedWord, caption: str, seed: int, options: WordLocalisationOptions) -> dict[str, Any]:
    """A word with the scores of its map and of the uninformative baselines; without any where it cannot be judged."""
    row: dict[str, Any] = {"caption": caption, "word": word.word, "index": word.place, "kind": word.kind}
    if not word.truth.any() or np.isnan(word.heat).any():
        return row
    height, width = word.truth.shape
    maps = {options.method: np.asarray(word.heat, np.float64)}
    maps |= {name: control_map(name, (height, width), seed, word.place) for name in CONTROLS}
    for name, heat in maps.items():
        scores = localisation_scores(heat, word.truth, options.metrics)
        row |= {f"{name}.{metric}": value for metric, value in scores.items()}
    return row


class _Scores:
    """The scores of all words by column, with the kind and the prompt of each word.

    Args:
        columns: Of the rows, such as "daam.AP".
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.dropped = 0
        self._values = {name: array("d") for name in columns}
        self._kinds, self._prompts = array("b"), array("q")
        self._numbers: dict[str, int] = {}

    @property
    def words(self) -> int:
        """How many words were scored."""
        return len(self._kinds)

    def add(self, row: Mapping[str, Any], prompt: str) -> None:
        """Take the row of a word; one that could not be judged is counted as dropped."""
        if all(row.get(name) is None for name in self._values):
            self.dropped += 1
            return
        for name, values in self._values.items():
            values.append(or_nan(row[name]))
        self._kinds.append(KINDS.index(row["kind"]))
        self._prompts.append(self._numbers.setdefault(prompt, len(self._numbers)))

    def count(self, kind: str) -> int:
        """How many words of a kind were scored."""
        return int(self._chosen(kind).sum())

    def mean(self, column: str, kind: str) -> Interval:
        """The mean of a column over the words of a kind, with its interval over prompts."""
        chosen = self._chosen(kind)
        return bootstrap(np.asarray(self._values[column])[chosen], groups=np.asarray(self._prompts)[chosen].tolist())

    def _chosen(self, kind: str) -> NDArray[np.bool_]:
        kinds = np.asarray(self._kinds)
        return np.ones(len(kinds), bool) if kind == "all" else kinds == KINDS.index(kind)


def _sentence(rows: Sequence[Mapping[str, Any]], images: int, words: int, options: WordLocalisationOptions) -> str:
    """AP, or the first metric, of the method next to that of the best uninformative baseline, over all words."""
    own, *baselines = rows
    metric = find_metric("AP" if "AP" in options.metrics else options.metrics[0])
    sign = 1 if metric.better == "higher" else -1
    best = max(baselines, key=lambda row: np.nan_to_num(sign * float(row[metric.name].mean), nan=-np.inf))
    what = f"{images:,} images" if options.at is None else f"{images:,} drawn scenes, noised to timestep {options.at}"
    return (
        f"{words:,} words of {what}: {metric.name} of {options.method} {own[metric.name].brief}, of the best "
        f"uninformative baseline ({best['map']}) {best[metric.name].brief}, against the masks that the reader finds."
    )
