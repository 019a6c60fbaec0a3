"""Play the games on every map of explanations, with controls beside them, and sum up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import ModelError, OptionError, SfumatoError
from sfumato.generation.generate import generate
from sfumato.judging.checks import CheckResult, measured
from sfumato.judging.games import GAMES, POINTS, Curve, Game, check_distances, judge_of, perturbation_curves
from sfumato.judging.maps import Saliency, saliencies
from sfumato.metrics import Interval, bootstrap
from sfumato.metrics.controls import CONTROLS as KNOWN_CONTROLS
from sfumato.metrics.controls import control_map
from sfumato.models.fingerprint import weight_hash
from sfumato.models.model import Model
from sfumato.progress import Progress, silent
from sfumato.results.explanation import Explanation
from sfumato.saliency.recovering import Recovery, rows_within, steps_at
from sfumato.saliency.similarities import LOCAL_SSIM, similarity_name
from sfumato.similarity import Clip, clip_for
from sfumato.similarity.judges import notes_on, own_clip

CONTROLS = ("random", "centre")
CHECK = "games"
"""The name of the check that they are."""
MEMORY = 1000.0


@dataclass(frozen=True)
class PlayedCurve:
    """One curve and what it belongs to.

    Attributes:
        image: By number.
        step: Of the run.
        map: By name.
        curve: The curve.
        prompt: Of the image, by number, where several images are of one prompt; None where each has its own.
    """

    image: int
    step: int
    map: str
    curve: Curve
    prompt: int | None = None

    @property
    def group(self) -> int:
        """What is drawn whole: the prompt, or else the image."""
        return self.image if self.prompt is None else self.prompt


@dataclass(frozen=True)
class Verdict:
    """All curves of a judgement.

    Attributes:
        played: Every curve.
        skipped: Maps that a step lacks or that have no order there, and measures without a judge, each with the reason.
        notes: What a reader should know about the CLIP that judged.
    """

    played: tuple[PlayedCurve, ...]
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def chosen(self, game: str, measure: str) -> dict[str, list[PlayedCurve]]:
        """The curves of one game and measure, by map."""
        found: dict[str, list[PlayedCurve]] = {}
        for one in self.played:
            if one.curve.game == game and one.curve.measure == measure:
                found.setdefault(one.map, []).append(one)
        return found

    def pairs(self) -> list[tuple[str, str]]:
        """The games and measures that were played, in order."""
        return list(dict.fromkeys((one.curve.game, one.curve.measure) for one in self.played))

    def intervals(self, game: str, measure: str) -> dict[str, tuple[Interval, Interval]]:
        """Area and initial slope of every map, means over images and steps, images (or prompts) drawn whole."""
        return {
            name: (
                bootstrap([one.curve.auc for one in rows], groups=[one.group for one in rows]),
                bootstrap([one.curve.slope for one in rows], groups=[one.group for one in rows]),
            )
            for name, rows in self.chosen(game, measure).items()
        }

    def gains(self, game: str, measure: str, control: str) -> dict[str, Interval]:
        """By how much every map's area is better than that of a control on the same step of the same image.

        Positive is better, whichever way the game runs. Images (or prompts) are drawn whole. Empty where the control
        did not play.
        """
        gains = {}
        for name, pairs in self._pairs_with(game, measure, control).items():
            sign = 1 if pairs[0][0].curve.higher_is_better else -1
            areas = [sign * (one.curve.auc - other.auc) for one, other in pairs]
            gains[name] = bootstrap(areas, groups=[one.group for one, _ in pairs])
        return gains

    def measured(self) -> list[CheckResult]:
        """The area of every map next to that of each control, by game and measure."""
        return [
            measured(
                CHECK,
                f"area of {name}, {game} by {measure}",
                [one.curve.auc for one, _ in pairs],
                control,
                [other.auc for _, other in pairs],
                "above" if pairs[0][0].curve.higher_is_better else "below",
                groups=[one.group for one, _ in pairs],
            )
            for game, measure in self.pairs()
            for control in CONTROLS
            for name, pairs in self._pairs_with(game, measure, control).items()
            if name not in CONTROLS
        ]

    def _pairs_with(self, game: str, measure: str, control: str) -> dict[str, list[tuple[PlayedCurve, Curve]]]:
        """Every curve of a map with that of a control on the same step of the same image, by map."""
        found = self.chosen(game, measure)
        known = {(one.image, one.step): one.curve for one in found.get(control, [])}
        pairs = {
            name: [(one, known[one.image, one.step]) for one in rows if (one.image, one.step) in known]
            for name, rows in found.items()
            if name != control
        }
        return {name: some for name, some in pairs.items() if some}

    def mean_curves(self, game: str, measure: str) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Shares (point,) and curves (curve, point) of every map."""
        return {
            name: (rows[0].curve.shares, np.stack([one.curve.values for one in rows]))
            for name, rows in self.chosen(game, measure).items()
        }

    def curves(self) -> list[dict[str, Any]]:
        """Every curve as plain numbers."""
        return [
            {
                "image": one.image,
                "step": one.step,
                "map": one.map,
                "game": one.curve.game,
                "measure": one.curve.measure,
                "shares": one.curve.shares.round(5).tolist(),
                "values": one.curve.values.round(5).tolist(),
            }
            for one in self.played
        ]

    def rows(self) -> list[dict[str, Any]]:
        """A row for each game, measure and map, the best first."""
        table = []
        for game, measure in self.pairs():
            found = self.intervals(game, measure)
            gains = {control: self.gains(game, measure, control) for control in CONTROLS}
            better = self.chosen(game, measure)[next(iter(found))][0].curve.higher_is_better
            order = sorted(found, key=lambda name: -found[name][0].mean if better else found[name][0].mean)
            for name in order:
                area, slope = found[name]
                table.append(
                    {
                        "game": game,
                        "measure": measure,
                        "better": "higher" if better else "lower",
                        "map": name,
                        "area": area,
                        "slope": slope,
                    }
                    | {f"over {control}": own[name] for control, own in gains.items() if name in own}
                )
        return table


def judge(
    model: Model,
    explanations: Sequence[Explanation],
    *,
    games: Sequence[Game] = GAMES,
    distances: Sequence[str] | None = None,
    at: Sequence[int] = (),
    points: int = POINTS,
    controls: Sequence[str] = CONTROLS,
    clip: str | None = None,
    memory: float = MEMORY,
    progress: Progress = silent,
) -> Verdict:
    """Generate the image of every explanation again and play the games on each of its maps.

    Args:
        model: The one that made them.
        explanations: Of one image each.
        games: Which.
        distances: See `sfumato.judging.games.DISTANCES`; without any, local_ssim, and features where there is a CLIP.
        at: Steps; without any, those that the explanation has maps of, or else a quarter, a half and three quarters.
        points: In how many parts places are taken away.
        controls: Maps that know nothing, played as well; names of `sfumato.metrics.controls.CONTROLS`.
        clip: Which CLIP gives features and the score with the prompt; by default see `sfumato.similarity.clip_for`.
        memory: Most memory for the feature maps of a batch, in MB.
        progress: Told about every game.

    Raises:
        OptionError: A game, distance, control, step or number of points is not possible.
        SfumatoError: An explanation holds no map, or is of another model.
        ModelError: A distance needs a CLIP and there is none.
    """
    if wrong := [game for game in games if game not in GAMES]:
        raise OptionError(f"there is no game {wrong[0]!r}; choose from: {', '.join(GAMES)}")
    if not games:
        raise OptionError(f"no game is chosen; choose from: {', '.join(GAMES)}")
    if unknown := [name for name in controls if name not in KNOWN_CONTROLS]:
        raise OptionError(f"there is no control {unknown[0]!r}; choose from: {', '.join(KNOWN_CONTROLS)}")
    distances = [similarity_name(name) for name in distances or ()]
    check_distances(distances)
    known = [saliencies(one) for one in explanations]
    for one in explanations:
        refuse_another(model, one)
    prompted = any(explanation.request.prompt for explanation in explanations)
    judged, skipped = _judge(model, clip, distances, scored=prompted)
    measured = distances or ((LOCAL_SSIM,) if judged is None else (LOCAL_SSIM, "features"))
    played: list[PlayedCurve] = []
    for number, (explanation, maps) in enumerate(zip(explanations, known, strict=True)):
        request = model.complete(explanation.request)
        steps = steps_at(model, request, at or _own_steps(maps))
        trace = generate(model, request, record=set(steps))
        rows = rows_within(model, request, memory)
        for place, step in enumerate(steps):
            recovery = Recovery(trace, step, rows=rows)
            measures = judge_of(recovery, request.prompt, judged, measured)
            wanted = {one.name: values for one in maps if (values := one.at(step, recovery.grid)) is not None}
            skipped += [f"{one.name} has no map at step {step}" for one in maps if one.name not in wanted]
            wanted |= {name: control_map(name, recovery.grid, request.seed, step) for name in controls}
            for done, (name, values) in enumerate(wanted.items()):
                progress(
                    "games",
                    (number * len(steps) + place) * len(wanted) + done,
                    len(explanations) * len(steps) * len(wanted),
                )
                if not np.ptp(values):
                    skipped.append(f"{name} is the same everywhere at step {step}")
                    continue
                for game in games:
                    played += [
                        PlayedCurve(number, step, name, curve)
                        for curve in perturbation_curves(recovery, values, game, measures, points)
                    ]
    progress("games", 1, 1)
    return Verdict(tuple(played), tuple(skipped), () if judged is None else tuple(notes_on(model, judged)))


def _judge(model: Model, given: str | None, wanted: Sequence[str], *, scored: bool) -> tuple[Clip | None, list[str]]:
    """The CLIP of the games, if one is there, and what is left out for want of it; ``scored`` if there are prompts.

    Raises:
        ModelError: A chosen distance needs one, or the given one cannot be read.
    """
    try:
        return clip_for(model, given, texts=True, option="a CLIP (--clip)"), []
    except ModelError as error:
        own = own_clip(model.pipeline)
        if given is not None or (own is None and set(wanted) - {LOCAL_SSIM}):
            raise
        lost = ["features"] * (own is None and not wanted) + ["the score with the prompt"] * scored
        return own, [f"{' and '.join(lost)}: {error}"] if lost else []


def _own_steps(maps: Sequence[Saliency]) -> tuple[int, ...]:
    return tuple(sorted({step for one in maps for step in one.steps or ()}))


def refuse_another(model: Model, explanation: Explanation) -> None:
    """Refuse a model with other weights than those that made an explanation.

    Raises:
        SfumatoError: It is another one.
    """
    told = explanation.provenance.get("weights_sha256")
    if told is not None and told != weight_hash(model.pipeline):
        raise SfumatoError(
            f"the explanation was made by {explanation.provenance.get('model')} with other weights than those of "
            f"{model.source.name}; give the model that made it with --model"
        )
