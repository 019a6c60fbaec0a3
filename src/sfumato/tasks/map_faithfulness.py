"""Which word maps show the truth, and what they cost: every method that maps words, on generated and on drawn scenes.

Three truths, none of which needs a label by hand: the exact mask of the object that a word speaks of (and its outline,
since that is where a shape is decided), and the change of the image when the word is left out of the prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from sfumato.caching.cache import Cache, default_folder
from sfumato.caching.images import Generator
from sfumato.errors import OptionError
from sfumato.information.calibrating import load_calibration as load_weights
from sfumato.judging.removal import VISIBLE, difference
from sfumato.metrics import Interval, average_precision, bootstrap, iou, pointing, rank_correlation
from sfumato.metrics.controls import control_map
from sfumato.models.model import Model
from sfumato.models.words import without
from sfumato.option_values import COUNT
from sfumato.plots.studies import scatter_sheet
from sfumato.progress import Progress
from sfumato.registry import find
from sfumato.request import Request
from sfumato.results.upscale import bicubic, resized
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, CompletedItem, Cost, Item, ModelFacts, Record, Records, task
from sfumato.studio.grammar import parsed
from sfumato.studio.scenes import held_out_captions, scene_of
from sfumato.studio.word_masks import MaskedWord, masked_words
from sfumato.tasks.explain import check_method
from sfumato.tasks.shared.captions import of_each_prompt
from sfumato.tasks.shared.contenders import SAMPLES, Contender, contenders, found_by, timed
from sfumato.tasks.shared.scene_images import NOTHING_SHOWN, check_scene_size
from sfumato.tasks.shared.word_maps import Mapped, with_nan
from sfumato.writing.json_text import json_value

AT = 300
"""Drawn scenes are noised to this timestep for methods that look once."""
BAND = 3
"""The outline of an object are the pixels so near to its edge."""
CONTROLS = ("random", "smooth random", "centre")
MEASURES = ("AP", "AP, outline of nouns", "pointing", "mIoU@0.4", "agreement with removal")
SCENES = ("generated", "drawn")
TIMED = "timed"
"""What items are about that show how long every contender takes."""
Rows = Sequence[Mapping[str, Any]]
Times = Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class MapFaithfulnessOptions:
    """Options of the task."""

    samples: int = field(
        default=SAMPLES, metadata=COUNT | {"least": 2, "help": "Noise samples of the information maps."}
    )
    calibration: str | None = field(
        default=None,
        metadata={
            "disk": "file",
            "help": "Also compare attention weighed by this file, from sfumato run calibration.",
        },
    )
    only: tuple[str, ...] = field(
        default=(), metadata={"help": "Compare only this contender, such as daam; may be repeated."}
    )
    scenes: tuple[str, ...] = field(
        default=SCENES, metadata={"choices": SCENES, "help": "Images that are looked at; may be repeated."}
    )
    rounds: int = field(
        default=0,
        metadata=COUNT | {"least": 0, "help": "Prompts that are explained again to see how long that takes."},
    )

    def __post_init__(self) -> None:
        """Check the names of the contenders."""
        names = [one.name for one in contenders(self.samples, self.calibration)]
        if unknown := [name for name in self.only if name not in names]:
            raise OptionError(f"{unknown[0]!r} does not compete; choose from: {', '.join(names)}")

    @property
    def competing(self) -> tuple[Contender, ...]:
        """Those that are compared."""
        known = contenders(self.samples, self.calibration)
        return tuple(one for one in known if not self.only or one.name in self.only)


@task(
    "map_faithfulness",
    question="Which word maps show the truth: masks, outlines, and what changes without the word?",
    options=MapFaithfulnessOptions,
    cost=Cost(
        "an explanation by each contender for each image, drawn and generated, and a generation without each word"
    ),
    needs=("words",),
    prompts=Captions(held_out_captions, usual=24),
    shard=1,
)
class MapFaithfulness:
    """Every method that maps words next to uninformative maps, on each prompt generated once and drawn once.

    Counted are nouns, colours, sizes, textures and numerals whose object the image shows.
    """

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: MapFaithfulnessOptions) -> Iterator[Item | Row]:
        """An item for each kind of scenes of each image, and for each prompt whose time is taken."""
        for one in options.competing:
            check_method(find(one.method), facts)
        check_scene_size("map_faithfulness", facts)
        return _items(rows, options)

    def measure(
        self, model: Model, items: Sequence[CompletedItem], options: MapFaithfulnessOptions, progress: Progress
    ) -> Sequence[Record]:
        """Map the words of a batch by every contender and compare with the truths."""
        records: dict[int, Record] = {}
        for kind in (*SCENES, TIMED):
            chosen = {place: one for place, one in enumerate(items) if one.about["scenes"] == kind}
            if not chosen:
                continue
            work = _timed if kind == TIMED else _judged
            found = work(model, list(chosen.values()), options, progress)
            records |= dict(zip(chosen, found, strict=True))
        return [records[place] for place in range(len(items))]

    def conclude(self, records: Records, options: MapFaithfulnessOptions, about: Mapping[str, Any]) -> Finding:
        """Means over words by scenes and map with intervals over prompts, cost, and a picture of one against the other.

        The intervals rest on every word, so the measures of all of them stay in memory.
        """
        rows: list[dict[str, Any]] = []
        times: dict[str, list[tuple[float, float]]] = {}
        for item, record in records:
            if item.about["scenes"] == TIMED:
                for row in record.rows:
                    times.setdefault(row["map"], []).append((row["seconds"], row["times plain"]))
                continue
            for row in record.rows:
                rows.append(with_nan(row))
        if not rows:
            return Finding("map_faithfulness", "", None, NOTHING_SHOWN, [], None, about)
        about = {**about, "samples": options.samples, "gains over daam": json_value(gains(rows))}
        return Finding("map_faithfulness", "", None, _sentence(rows), table(rows, times), figure(rows), about)


def maps_of(rows: Rows) -> list[str]:
    """Names of methods and controls, in the order of the rows."""
    return list(dict.fromkeys(str(row["map"]) for row in rows))


def score(rows: Rows, scenes: str, name: str, measure: str) -> Interval:
    """One cell: a mean over words with its interval over prompts."""
    chosen = [one for one in rows if one["scenes"] == scenes and one["map"] == name]
    return bootstrap([one[measure] for one in chosen], groups=[one["caption"] for one in chosen])


def gain(rows: Rows, name: str, other: str, measure: str, scenes: str = "generated") -> Interval:
    """How much more one map has than another, word by word: the mean difference with its interval over prompts.

    Two means may have intervals that overlap although one map is better at nearly every word, since words differ
    more than maps do. The differences of the same words do not know that.
    """
    values: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in rows:
        if row["scenes"] == scenes and row["map"] in (name, other):
            key = row["caption"], row["seed"], row["place"]
            values.setdefault(key, {})[row["map"]] = row[measure]
    pairs = {key: both for key, both in values.items() if len(both) == 2}
    return bootstrap([both[name] - both[other] for both in pairs.values()], groups=[key[0] for key in pairs])


def gains(rows: Rows, over: str = "daam") -> list[dict[str, Any]]:
    """One row for each kind of scenes and method: what it has more than another in every measure."""
    found: list[dict[str, Any]] = []
    names = maps_of(rows)
    for scenes in SCENES if over in names else ():
        for name in names:
            if name == over or name in CONTROLS:
                continue
            cells = {measure: gain(rows, name, over, measure, scenes) for measure in MEASURES}
            found.append({"scenes": scenes, "map": name} | cells)
    return found


def table(rows: Rows, times: Times) -> list[dict[str, Any]]:
    """One row for each kind of scenes and map.

    Args:
        rows: One for each word and map.
        times: Of each contender, seconds and multiples of the plain generation of each prompt that was timed.
    """
    found = []
    for scenes in SCENES:
        for name in maps_of(rows):
            row: dict[str, Any] = {"scenes": scenes, "map": name}
            for measure in MEASURES:
                row[measure] = score(rows, scenes, name, measure)
            calls = _calls(rows, scenes, name)
            row["calls"] = None if calls is None else round(calls)
            if times:
                known = times.get(name) if scenes == "generated" else None
                seconds, times_plain = (None, None) if known is None else np.median(known, axis=0).tolist()
                row["seconds"] = None if seconds is None else round(seconds, 2)
                row["times plain"] = None if times_plain is None else round(times_plain, 2)
            found.append(row)
    return found


def figure(rows: Rows) -> Image.Image:
    """Truth against cost: calls of the denoiser beside the generation, and three measures."""
    panels = {}
    for scenes, measure in (("generated", "AP"), ("drawn", "AP"), ("generated", "agreement with removal")):
        points = {}
        for name in maps_of(rows):
            if (calls := _calls(rows, scenes, name)) is not None:
                points[name] = calls, score(rows, scenes, name, measure)
        panels[f"{measure}, {scenes} scenes"] = points
    return scatter_sheet(panels, "rows of the denoiser in addition to the generation")


def _calls(rows: Rows, scenes: str, name: str) -> float | None:
    calls = [one["calls"] for one in rows if one["scenes"] == scenes and one["map"] == name]
    return float(np.mean(calls)) if calls else None


def _items(rows: Iterable[Row], options: MapFaithfulnessOptions) -> Iterator[Item | Row]:
    used: dict[str, Any] = {}
    if options.calibration is not None:
        load_weights(options.calibration)
        used["calibration"] = hashlib.sha256(Path(options.calibration).read_bytes()).hexdigest()
    count = 0
    for one in of_each_prompt(rows, parsed):
        if isinstance(one, Row):
            yield one
            continue
        caption, request = one.about["caption"], one.request
        if "generated" in options.scenes:
            yield Item(request, {**one.about, **used, "scenes": "generated"}, one.row)
        if "drawn" in options.scenes:
            scene: Any = scene_of(caption, request.seed).image
            plain: dict[str, Any] = {"steps": None, "scheduler": None, "schedule": None}
            drawn = request.with_(image=scene, invert="noise", at=AT, **plain)
            yield Item(drawn, {**one.about, **used, "scenes": "drawn"}, one.row)
        if count < options.rounds:
            yield Item(request, {**one.about, **used, "scenes": TIMED}, one.row)
        count += 1


def _judged(
    model: Model, items: Sequence[CompletedItem], options: MapFaithfulnessOptions, progress: Progress
) -> list[Record]:
    """A row for each word and map of each item, all of one kind of scenes."""
    generator = Generator(model, Cache(default_folder()))
    requests = [one.request for one in items]
    changes = [_changes(model, one.request, generator) if one.about["scenes"] == "generated" else {} for one in items]
    rows: list[list[dict[str, Any]]] = [[] for _ in items]
    for place, contender in enumerate(options.competing):
        found = found_by(model, requests, contender, progress)
        for number, (item, (made, calls)) in enumerate(zip(items, found, strict=True)):
            rows[number] += _rows(item, made, contender.name, calls, changes[number], with_controls=place == 0)
    return [Record(rows=own) for own in rows]


def _rows(
    item: Item, made: Mapped, name: str, calls: int, changes: Mapping[int, NDArray[np.float64]], *, with_controls: bool
) -> Iterator[dict[str, Any]]:
    """The measures of a contender's maps, and of uninformative ones with the first one's."""
    caption, seed = item.about["caption"], item.request.seed
    for word in masked_words(caption, made.image, made.maps):
        change = changes.get(word.place)
        about = {"caption": caption, "seed": seed, "scenes": item.about["scenes"]}
        about |= {"place": word.place, "word": word.word, "kind": word.kind}
        yield about | {"map": name, "calls": calls} | _scores(word, word.heat, change)
        grid = (word.heat.shape[0], word.heat.shape[1])
        for control in CONTROLS if with_controls else ():
            heat = control_map(control, grid, seed, word.place)
            yield about | {"map": control, "calls": 0} | _scores(word, heat, change)


def _timed(
    model: Model, items: Sequence[CompletedItem], options: MapFaithfulnessOptions, progress: Progress
) -> list[Record]:
    """A row for each contender with its time, one prompt after the other."""
    records = []
    for item in items:
        about = {"caption": item.about["caption"], "scenes": TIMED}
        found = timed(model, item.request, options.competing, progress)
        rows = [about | {"map": name, "seconds": each, "times plain": plain} for name, (each, plain) in found.items()]
        records.append(Record(rows=rows))
    return records


def _changes(model: Model, request: Request, generator: Generator) -> dict[int, NDArray[np.float64]]:
    """How the image (y, x) changes without each word, by its place; words without effect are left out."""
    words = model.tokens(request.prompt).words
    texts = [request.prompt, *(without(request.prompt, [word]) for word in words)]
    whole, *others = (one.pixels for one in generator([request.with_(prompt=text) for text in texts]))
    changes = {word.index: difference(other, whole) / 255 for word, other in zip(words, others, strict=True)}
    return {place: change for place, change in changes.items() if change.max() > VISIBLE}


def _scores(item: MaskedWord, heat: NDArray[Any], change: NDArray[np.float64] | None) -> dict[str, float]:
    """Every measure of one map of one word; NaN where it does not apply."""
    height, width = item.truth.shape
    fine = np.asarray(bicubic(heat, (height, width)), np.float64)
    outline = ndimage.binary_dilation(item.truth, iterations=BAND) & ~ndimage.binary_erosion(
        item.truth, iterations=BAND, border_value=1
    )
    agreement = float("nan")
    if change is not None:
        agreement = rank_correlation(np.asarray(heat, np.float64), resized(change, (heat.shape[0], heat.shape[1])))
    return {
        "AP": average_precision(fine, item.truth),
        "AP, outline of nouns": average_precision(fine, outline) if item.kind == "nouns" else float("nan"),
        "pointing": pointing(fine, item.truth),
        "mIoU@0.4": iou(fine, item.truth, 0.4),
        "agreement with removal": agreement,
    }


def _sentence(rows: Rows) -> str:
    """The method with the best masks and the one that agrees most with removal, next to the best uninformative map."""
    told = []
    scenes = next(one for one in SCENES if any(row["scenes"] == one for row in rows))
    for measure in ("AP", "agreement with removal") if scenes == "generated" else ("AP",):
        found = {name: score(rows, scenes, name, measure) for name in maps_of(rows)}
        for names in ([name for name in found if name not in CONTROLS], CONTROLS):
            best = max(names, key=lambda name: float(np.nan_to_num(found[name].mean, nan=-1)))
            told.append(f"{measure} {found[best].brief} by {best}")
    return f"Best on {scenes} scenes, methods and then uninformative maps: {'; '.join(told)}."
