"""Is a word worth by information what it is worth in a game? Nats against exact Shapley values, and what both cost.

A Shapley value asks for the image of every part of a prompt; information asks one image, noised again, how well it is
predicted with and without a word. Both are shares of a prompt's whole, so words of many prompts can be ranked
together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from sfumato.bounds import checked_int
from sfumato.cache import Cache, default_folder
from sfumato.errors import OptionError
from sfumato.games import plan, play
from sfumato.games.players import Player, players_of
from sfumato.games.values import PromptValue
from sfumato.generations import Generator
from sfumato.mapped import Mapped, mapped
from sfumato.metrics import Interval, bootstrap, rank_correlation
from sfumato.models.model import Model
from sfumato.option_values import COUNT
from sfumato.progress import Progress, silent
from sfumato.request import Request
from sfumato.results.rows import plain_rows
from sfumato.similarity import similarity
from sfumato.studio.benches.importance import short_captions
from sfumato.studio.shapes import BACKGROUNDS, COLOURS

SAMPLES = 48
TENTH = 10
"""Information is also tried with as many samples as make its calls this part of Shapley's."""
SIMILARITIES = ("clip", "latent")
"""What a word is worth in the game: how much more alike the image is with it, to CLIP and as a latent."""
KINDS = ("nouns", "colours", "nouns and colours", "all")
RESAMPLES = 1000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class WorthBench:
    """Shares of words by several methods, beside their exact Shapley values.

    Attributes:
        model: Its name.
        prompts: How many.
        steps: Of every generation.
        items: A row for each word: ``prompt``, ``word``, ``kind``, and its share by each method.
        calls: Rows of the denoiser that a prompt takes, of each method and each prompt.
    """

    model: str
    prompts: int
    steps: int
    items: Sequence[Mapping[str, Any]]
    calls: Mapping[str, Sequence[float]]

    @property
    def title(self) -> str:
        """One line for people."""
        return f"worth of words on {self.prompts} held-out prompts of {self.model}, {self.steps} steps, against Shapley"

    @property
    def methods(self) -> list[str]:
        """All but Shapley by CLIP, which they are compared with."""
        return [name for name in self.calls if name != _shapley("clip")]

    def agreement(self, name: str, kind: str, measure: str = "clip") -> Interval:
        """Spearman's correlation with the Shapley values over the words of a kind, with its interval over prompts."""
        rows = [one for one in self.items if kind == "all" or one["kind"] in kind]
        truth, values = ([one[column] for one in rows] for column in (_shapley(measure), name))
        return _pooled(truth, values, [one["prompt"] for one in rows])

    def within(self, name: str, measure: str = "clip") -> Interval:
        """The mean over prompts of Spearman's correlation over a prompt's words."""
        found = []
        for prompt in dict.fromkeys(one["prompt"] for one in self.items):
            rows = [one for one in self.items if one["prompt"] == prompt]
            found.append(rank_correlation([one[_shapley(measure)] for one in rows], [one[name] for one in rows]))
        return bootstrap(found)

    def rows(self) -> list[dict[str, Any]]:
        """One row for each method."""
        found = []
        for name in self.methods:
            row: dict[str, Any] = {"method": name}
            for kind in KINDS:
                row[kind] = self.agreement(name, kind)
            row["within a prompt"] = self.within(name)
            row["all, by latent"] = self.agreement(name, "all", "latent")
            row["calls"] = round(float(np.mean(self.calls[name])), 1)
            row["calls / Shapley's"] = round(float(np.sum(self.calls[name]) / np.sum(self.calls[_shapley("clip")])), 3)
            found.append(row)
        return found

    def to_json(self) -> str:
        """Everything as JSON text."""
        about = {"model": self.model, "prompts": self.prompts, "steps": self.steps}
        calls = {name: list(values) for name, values in self.calls.items()}
        tables = {"rows": plain_rows(self.rows()), "calls": calls, "items": list(self.items)}
        return json.dumps(about | tables, indent=1)


def bench_worths(
    model: Model,
    prompts: int = 50,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    steps: int | None = None,
    progress: Progress = silent,
) -> WorthBench:
    """Weigh the words of held-out prompts by information, and by exact Shapley values.

    Args:
        model: A model of the scenes.
        prompts: How many, of at most 6 words.
        samples: Noise samples of the information; also tried is a number for which it takes a tenth of the calls.
        seed: Prompt i starts from seed ``seed + i``.
        steps: Denoising steps; the model's own.
        progress: Told about every prompt.

    Raises:
        OptionError: A number is not possible.
    """
    for name, value in (("prompts", prompts), ("samples", samples)):
        checked_int(name, value, 2, COUNT["most"], OptionError)
    generator = Generator(model, Cache(default_folder()))
    measures = {name: similarity(name, model) for name in SIMILARITIES}
    items: list[dict[str, Any]] = []
    calls: dict[str, list[float]] = {}
    captions = short_captions(model, prompts)
    for number, caption in enumerate(captions):
        progress("prompts", number, len(captions))
        request = model.complete(Request(caption, seed=seed + number, steps=steps))
        players = players_of(model.tokens(caption))
        one_image = model.steps(request) * len(model.branches(request).names)
        exact = plan(len(players), estimator="exact")
        found: dict[str, Floats] = {}
        cost: dict[str, float] = {}
        for name, measure in measures.items():
            game = PromptValue(generator, request, players, measure)
            found[_shapley(name)] = play(game, exact).estimate.phi
            cost[_shapley(name)] = len(exact.coalitions) * one_image
            if name == "clip":
                alone = plan(len(players), estimator="leave-one-out")
                found["leave one out"] = play(game, alone).estimate.phi
                cost["leave one out"] = len(alone.coalitions) * one_image
        words = len(model.tokens(caption).words)
        few = max(2, int((cost[_shapley("clip")] / TENTH - one_image) / (words + 1)))
        for label, given, count in (
            ("information", "rest", samples),
            ("information, a tenth of the calls", "rest", few),
            ("information alone", "empty", samples),
        ):
            (one,) = mapped(model, [request], method="information", samples=count, given=given)
            found[label] = _nats(one, players)
            cost[label] = one_image + count * (words + 1 + (given == "empty"))
        found["information, both ways"] = found["information"] + found["information alone"]
        cost["information, both ways"] = cost["information"] + cost["information alone"] - one_image
        (covered,) = mapped(model, [request], method="daam")
        found["daam, sum of the map"], cost["daam, sum of the map"] = _nats(covered, players), one_image
        shares = {name: _share(values) for name, values in found.items()}
        for place, player in enumerate(players):
            word = model.tokens(caption).words[player.words[0]]
            about = {"prompt": caption, "word": word.text, "kind": _kind(word.text, word.pos)}
            items.append(about | {name: float(values[place]) for name, values in shares.items()})
        for name, rows in cost.items():
            calls.setdefault(name, []).append(float(rows))
    progress("prompts", len(captions), len(captions))
    return WorthBench(model.source.name, len(captions), model.steps(request), items, calls)


def _shapley(measure: str) -> str:
    return f"shapley ({measure})"


def _nats(one: Mapped, players: Sequence[Player]) -> Floats:
    """The sum of the map of each player's word."""
    sums = one.maps.astype(np.float64).sum((1, 2))
    return np.array([sums[player.words[0]] for player in players])


def _share(values: Floats) -> Floats:
    """Of the prompt's whole; NaN where that is nothing."""
    total = np.abs(values).sum()
    return values / total if total > 0 else np.full(len(values), np.nan)


def _kind(word: str, pos: str) -> str:
    if word in COLOURS or word in BACKGROUNDS:
        return "colours"
    return "nouns" if pos == "noun" else "others"


def _pooled(truth: Sequence[float], values: Sequence[float], groups: Sequence[str]) -> Interval:
    """Spearman's correlation over all words, with an interval that draws whole prompts."""
    one, other = np.asarray(truth, np.float64), np.asarray(values, np.float64)
    known = np.isfinite(one) & np.isfinite(other)
    places = [np.flatnonzero(known & (np.array(groups) == group)) for group in dict.fromkeys(groups)]
    everything = np.concatenate(places) if places else np.array([], np.int64)
    chance = np.random.default_rng(0)
    drawn = [
        np.concatenate([places[place] for place in chance.integers(0, len(places), len(places))])
        for _ in range(RESAMPLES)
    ]
    found = [_spearman(one[at], other[at]) for at in drawn]
    low, high = np.nanquantile(found, [0.025, 0.975])
    return Interval(rank_correlation(one[everything], other[everything]), float(low), float(high), len(everything))


def _spearman(one: Floats, other: Floats) -> float:
    """As `rank_correlation`, without the test of significance, which takes most of its time."""
    if len(one) < 2 or not np.ptp(one) or not np.ptp(other):
        return float("nan")
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])
