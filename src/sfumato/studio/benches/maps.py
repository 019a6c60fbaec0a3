"""Which word maps show the truth, and what they cost: every method that maps words, on generated and on drawn scenes.

Three truths, none of which needs a label by hand: the exact mask of the object that a word speaks of (and its outline,
since that is where a shape is decided), and the change of the image when the word is left out of the prompt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from sfumato.bounds import checked_int
from sfumato.cache import Cache, default_folder
from sfumato.errors import OptionError
from sfumato.generations import Generator
from sfumato.judging.removal import VISIBLE, difference
from sfumato.metrics import Interval, average_precision, bootstrap, iou, pointing, rank_correlation
from sfumato.metrics.controls import control_map
from sfumato.metrics.structure import resized
from sfumato.models.model import Model
from sfumato.models.words import without
from sfumato.option_values import COUNT
from sfumato.plots.studies import scatter_sheet
from sfumato.progress import Progress, silent
from sfumato.request import Request
from sfumato.results.rows import plain_rows
from sfumato.results.upscale import bicubic
from sfumato.studio.benches.contenders import Time, contenders, found_by, timed
from sfumato.studio.scenes import held_out_captions, scene_of
from sfumato.studio.word_masks import MaskedWord, masked_words

SAMPLES = 48
AT = 300
"""Drawn scenes are noised to this timestep for methods that look once."""
BAND = 3
"""The outline of an object are the pixels so near to its edge."""
ROUNDS = 5
CONTROLS = ("random", "smooth random", "centre")
MEASURES = ("AP", "AP, outline of nouns", "pointing", "mIoU@0.4", "agreement with removal")
SCENES = ("generated", "drawn")


@dataclass(frozen=True)
class MapBench:
    """Scores of every method and control.

    Attributes:
        model: Its name.
        prompts: How many of each kind of scenes.
        samples: Of the information maps.
        items: A row for each word and map.
        times: What each method takes, by its name.
    """

    model: str
    prompts: int
    samples: int
    items: Sequence[Mapping[str, Any]]
    times: Mapping[str, Time] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """One line for people."""
        return f"word maps on {self.prompts} held-out prompts of {self.model}, generated and drawn"

    @property
    def maps(self) -> list[str]:
        """Names of methods and controls."""
        return list(dict.fromkeys(str(item["map"]) for item in self.items))

    def score(self, scenes: str, name: str, measure: str) -> Interval:
        """One cell: a mean over words with its interval over prompts."""
        chosen = [one for one in self.items if one["scenes"] == scenes and one["map"] == name]
        return bootstrap([one[measure] for one in chosen], groups=[one["prompt"] for one in chosen])

    def gain(self, name: str, other: str, measure: str, scenes: str = "generated") -> Interval:
        """How much more one map has than another, word by word: the mean difference with its interval over prompts.

        Two means may have intervals that overlap although one map is better at nearly every word, since words differ
        more than maps do. The differences of the same words do not know that.
        """
        values: dict[tuple[Any, ...], dict[str, float]] = {}
        for item in self.items:
            if item["scenes"] == scenes and item["map"] in (name, other):
                key = item["prompt"], item["place"]
                values.setdefault(key, {})[item["map"]] = item[measure]
        pairs = {key: both for key, both in values.items() if len(both) == 2}
        return bootstrap([both[name] - both[other] for both in pairs.values()], groups=[key[0] for key in pairs])

    def gains(self, over: str = "daam") -> list[dict[str, Any]]:
        """One row for each kind of scenes and method: what it has more than another in every measure."""
        found: list[dict[str, Any]] = []
        for scenes in SCENES if over in self.maps else ():
            for name in self.maps:
                if name == over or name in CONTROLS:
                    continue
                cells = {measure: self.gain(name, over, measure, scenes) for measure in MEASURES}
                found.append({"scenes": scenes, "map": name} | cells)
        return found

    def rows(self) -> list[dict[str, Any]]:
        """One row for each kind of scenes and map."""
        found = []
        for scenes in SCENES:
            for name in self.maps:
                row: dict[str, Any] = {"scenes": scenes, "map": name}
                for measure in MEASURES:
                    row[measure] = self.score(scenes, name, measure)
                chosen = [one for one in self.items if one["scenes"] == scenes and one["map"] == name]
                row["calls"] = round(float(np.mean([one["calls"] for one in chosen]))) if chosen else None
                known = self.times.get(name) if scenes == "generated" else None
                row["seconds"] = None if known is None else round(known.seconds, 2)
                row["times plain"] = None if known is None else round(known.plain, 2)
                found.append(row)
        return found

    def to_json(self) -> str:
        """Everything as JSON text."""
        about = {"model": self.model, "prompts": self.prompts, "samples": self.samples}
        items = [{key: _or_none(value) for key, value in item.items()} for item in self.items]
        tables = {"rows": plain_rows(self.rows()), "gains over daam": plain_rows(self.gains())}
        return json.dumps(about | tables | {"items": items}, indent=1)

    def figure(self) -> Image.Image:
        """Truth against cost: calls of the denoiser beside the generation, and three measures."""
        panels = {}
        for scenes, measure in (("generated", "AP"), ("drawn", "AP"), ("generated", "agreement with removal")):
            points = {}
            for name in self.maps:
                chosen = [one for one in self.items if one["scenes"] == scenes and one["map"] == name]
                if chosen:
                    points[name] = float(np.mean([one["calls"] for one in chosen])), self.score(scenes, name, measure)
            panels[f"{measure}, {scenes} scenes"] = points
        return scatter_sheet(panels, "rows of the denoiser beside the generation")


def bench_maps(
    model: Model,
    prompts: int = 24,
    *,
    samples: int = SAMPLES,
    calibration: str | None = None,
    only: Sequence[str] = (),
    scenes: Sequence[str] = SCENES,
    rounds: int = ROUNDS,
    steps: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> MapBench:
    """Map the words of held-out prompts by every method and compare with three truths.

    Counted are nouns, colours, sizes, textures and numerals whose object the image shows.

    Args:
        model: A model of the scenes.
        prompts: How many, generated once and drawn once.
        samples: Noise samples of the information maps.
        calibration: Also compare attention weighed by this file.
        only: Names of the contenders to compare; all.
        scenes: Which of "generated" and "drawn".
        rounds: How many prompts are explained again to see how long that takes; 0 for none.
        steps: Denoising steps; the model's own.
        seed: Prompt i starts from seed ``seed + i``.
        progress: Told about every prompt of every method.

    Raises:
        OptionError: A number is not possible, or a contender is unknown.
    """
    for name, value in (("prompts", prompts), ("samples", samples)):
        checked_int(name, value, 2, COUNT["most"], OptionError)
    checked_int("rounds", rounds, 0, COUNT["most"], OptionError)
    competing = contenders(samples, calibration)
    if unknown := [name for name in only if name not in {one.name for one in competing}]:
        raise OptionError(f"{unknown[0]!r} does not compete; choose from: {', '.join(one.name for one in competing)}")
    competing = tuple(one for one in competing if not only or one.name in only)
    captions = held_out_captions(prompts)
    made = [Request(caption, seed=seed + number, steps=steps) for number, caption in enumerate(captions)]
    drawn = [_drawn(caption, seed + number) for number, caption in enumerate(captions)]
    asked = {name: requests for name, requests in zip(SCENES, (made, drawn), strict=True) if name in scenes}
    changes = _changes(model, made, progress) if "generated" in asked else {}
    items: list[dict[str, Any]] = []
    for one in competing:
        for kind, requests in asked.items():
            found = found_by(model, requests, one, progress)
            for caption, request, (images, calls) in zip(captions, requests, found, strict=True):
                for item in masked_words(caption, images.image, images.maps):
                    change = changes.get((caption, item.place)) if kind == "generated" else None
                    about = {"scenes": kind, "prompt": caption, "place": item.place}
                    about |= {"word": item.word, "kind": item.kind}
                    items.append(about | {"map": one.name, "calls": calls} | _scores(item, item.heat, change))
                    if one is competing[0]:
                        grid = (item.heat.shape[0], item.heat.shape[1])
                        items += [
                            about
                            | {"map": name, "calls": 0}
                            | _scores(item, control_map(name, grid, request.seed, item.place), change)
                            for name in CONTROLS
                        ]
    return MapBench(model.source.name, prompts, samples, items, timed(model, made[:rounds], competing, progress))


def _drawn(caption: str, seed: int) -> Request:
    picture: Any = scene_of(caption, seed).image
    return Request(caption, seed=seed, image=picture, invert="noise", at=AT)


def _changes(
    model: Model, requests: Sequence[Request], progress: Progress
) -> dict[tuple[str, int], NDArray[np.float64]]:
    """How the image changes without each word, by caption and place of the word; words without effect are left out."""
    generator = Generator(model, Cache(default_folder()))
    found = {}
    for number, request in enumerate(requests):
        words = model.tokens(request.prompt).words
        texts = [request.prompt, *(without(request.prompt, [word]) for word in words)]
        whole, *others = (one.pixels for one in generator([request.with_(prompt=text) for text in texts]))
        for word, other in zip(words, others, strict=True):
            change = difference(other, whole)
            if change.max() > VISIBLE:
                found[request.prompt, word.index] = change
        progress("images without a word", number + 1, len(requests))
    return found


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


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
