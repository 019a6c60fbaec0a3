"""What do the steps recover? Regions at the semantic and the detail level, words in the lead, attributes settled.

The three questions of Park et al. 2024, on prompts of two objects whose truth the reader finds in the final image.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sfumato.cache import Cache, default_folder
from sfumato.findings import one_by_one, remembered
from sfumato.metrics import Interval, bootstrap, lies, verdict_of
from sfumato.models.model import Model
from sfumato.plots.curves import bars_sheet, curves_sheet
from sfumato.progress import Progress, silent
from sfumato.request import Request
from sfumato.runs.finding import Finding
from sfumato.saliency.recovering import Recovery
from sfumato.studies.prompts import PARTS, by_part, relation_captions, word_scores
from sfumato.studio.grammar import expected
from sfumato.studio.reader import Reading, assign, read
from sfumato.trace import generate

LOW = 4.0
"""Standard deviation in pixels of the blur that divides low from high frequencies."""
NEAR = 8.0
"""An object is at its place when its centre is at most so many pixels from where it ends."""
ATTRIBUTES = ("position", "colour", "shape", "texture")
LEVELS = ("low, inside", "low, outside", "high, inside", "high, outside")


def study_steps(
    model: Model, prompts: int = 30, *, seed: int = 0, steps: int | None = None, progress: Progress = silent
) -> list[Finding]:
    """Follow the clean estimates of many prompts.

    Args:
        model: One that draws studio scenes.
        prompts: How many held-out prompts of two objects and a relation.
        seed: Of the first image; image i has ``seed + i``.
        steps: Denoising steps; the model's own.
        progress: Told about every prompt.

    Returns:
        A finding for each of the three questions.
    """
    captions = relation_captions(prompts)
    requests = [model.complete(Request(one, seed=seed + place, steps=steps)) for place, one in enumerate(captions)]
    cache, told = Cache(default_folder()), partial(progress, "prompts")
    entries = remembered(model, "steps", requests, one_by_one(partial(_followed, model)), cache, told)
    times = entries[0]["timestep"]
    about = {
        "model": model.source.name,
        "prompts": prompts,
        "seeds": f"{seed} to {seed + prompts - 1}",
        "steps": requests[0].steps,
        "scheduler": requests[0].scheduler,
        "guidance": requests[0].guidance,
    }
    return [_levels(entries, times, about), _words(entries, times, about), _settled(entries, times, about)]


def _followed(model: Model, request: Request) -> dict[str, NDArray[Any]]:
    """Energies (step, level) of each change, relevance (step, part), attributes as at the end (step, attribute)."""
    trace = generate(model, request, record=True)
    steps = sorted({call.step for call in trace.calls})
    pictures = [Recovery(trace, step).picture for step in steps]
    last = np.asarray(trace.images[0].convert("RGB"))
    reading = read(last)
    inside = (
        np.any([thing.mask for thing in reading.things], axis=0) if reading.things else np.zeros(last.shape[:2], bool)
    )
    energies = [_energy(one, other, inside) for one, other in zip(pictures, [*pictures[1:], last], strict=True)]
    led = [by_part(word_scores(trace, step), request.prompt, PARTS) for step in steps]
    return {
        "energy": np.array(energies),
        "relevance": np.array(led),
        "alike": np.array([_alike(read(one), reading, request.prompt) for one in pictures]),
        "timestep": np.array([trace.call(step).timestep for step in steps]),
    }


def _energy(one: NDArray[np.uint8], other: NDArray[np.uint8], inside: NDArray[np.bool_]) -> list[float]:
    """Mean squared change in low and in high frequencies, inside and outside the objects; NaN for an empty part."""
    change = (other.astype(np.float64) - one.astype(np.float64)) / 255
    low = ndimage.gaussian_filter(change, (LOW, LOW, 0))
    squares = [np.square(level).mean(-1) for level in (low, change - low)]
    return [float(level[part].mean()) if part.any() else np.nan for level in squares for part in (inside, ~inside)]


def _alike(now: Reading, end: Reading, caption: str) -> list[float]:
    """The share of the final image's promised objects that have each attribute already."""
    promised = expected(caption)
    pairs = [
        (None if first is None else now.things[first], end.things[second])
        for first, second in zip(assign(now, promised), assign(end, promised), strict=True)
        if second is not None
    ]
    if not pairs:
        return [np.nan] * len(ATTRIBUTES)
    found = [
        (0.0, 0.0, 0.0, 0.0)
        if one is None
        else (
            float(np.hypot(one.x - other.x, one.y - other.y) <= NEAR),
            float(one.colour == other.colour),
            float(one.shape == other.shape),
            float(one.texture == other.texture),
        )
        for one, other in pairs
    ]
    return [float(value) for value in np.mean(found, axis=0)]


def _levels(entries: list[dict[str, NDArray[Any]]], times: NDArray[np.float64], about: dict[str, Any]) -> Finding:
    energy = np.stack([entry["energy"] for entry in entries])  # (prompt, step, level)
    share = energy / np.nansum(energy, axis=1, keepdims=True)
    weights = share / np.nansum(share, axis=1, keepdims=True)
    centre = np.nansum(weights * times[None, :, None], axis=1)  # (prompt, level): mean timestep of the change
    later = bootstrap(centre[:, 0] - centre[:, 2])
    ratio = bootstrap(np.nanmean(energy[:, :, 0], axis=1) / np.nanmean(energy[:, :, 1], axis=1))
    detail = bootstrap(np.nanmean(energy[:, :, 2], axis=1) / np.nanmean(energy[:, :, 3], axis=1))
    rows = [
        {"level": name, "mean timestep of the change": bootstrap(centre[:, place])} for place, name in enumerate(LEVELS)
    ]
    sentence = (
        f"Inside the objects, low frequencies change {later} timesteps before high ones. Low frequencies change "
        f"{ratio} times as much inside the objects as outside, high ones {detail} times."
    )
    curves = {name: np.nan_to_num(share[:, :, place]) for place, name in enumerate(LEVELS)}
    figure = curves_sheet({"share of each level's change, by step": (times, curves)})
    source = "Early steps recover the semantic level (layout, low frequencies), late ones the details."
    return Finding("levels", source, verdict_of(lies(later, above=0)), sentence, rows, figure, about)


def _words(entries: list[dict[str, NDArray[Any]]], times: NDArray[np.float64], about: dict[str, Any]) -> Finding:
    led = np.stack([entry["relevance"] for entry in entries])  # (prompt, step, part)
    shown = [place for place in range(len(PARTS)) if led[:, :, place].any()]
    total = led[:, :, shown].sum(-1, keepdims=True)
    share = led[:, :, shown] / np.where(total > 0, total, 1)
    half = times >= times.max() / 2
    rows = [
        {
            "part": PARTS[part],
            "share, first half": bootstrap(share[:, half, place].mean(1)),
            "share, second half": bootstrap(share[:, ~half, place].mean(1)),
        }
        for place, part in enumerate(shown)
    ]
    moved = bootstrap(share[:, half, 0].mean(1) - share[:, ~half, 0].mean(1))
    whole = led[:, :, :3] / np.where(total > 0, total, 1)  # subject, relation, object
    margins = [bootstrap((whole[:, :, other] - whole[:, :, 1]).mean(1)) for other in (0, 2)]
    means = share.mean((0, 1))
    leader = PARTS[shown[int(means.argmax())]]
    sentence = (
        f"Over all steps the {leader} leads with {means.max():.0%} of the relevance; the relation has {margins[0]} "
        f"less than the subject and {margins[1]} less than the object. The subject's share is {moved} larger in the "
        "first half of the run than in the second."
    )
    curves: dict[str, NDArray[Any]] = {PARTS[part]: share[:, :, place] for place, part in enumerate(shown)}
    figure = curves_sheet({"share of each part's words in the relevance": (times, curves)})
    source = "Which words lead changes from step to step; the relation has the smallest share."
    verdict = verdict_of(*(lies(margin, above=0) for margin in margins))
    return Finding("words", source, verdict, sentence, rows, figure, about)


def _settled(entries: list[dict[str, NDArray[Any]]], times: NDArray[np.float64], about: dict[str, Any]) -> Finding:
    alike = np.stack([entry["alike"] for entry in entries])  # (prompt, step, attribute)
    alike = alike[~np.isnan(alike).any((1, 2))]
    # an attribute is settled from the step after the last one at which it was not yet as at the end
    open_ = alike < 1
    steps = alike.shape[1]
    last = np.where(open_.any(1), steps - open_[:, ::-1].argmax(1), 0)  # (prompt, attribute), in steps
    share = last / steps
    intervals = [bootstrap(share[:, place]) for place in range(len(ATTRIBUTES))]
    rows = [
        {"attribute": name, "settled after, as a share of the run": one}
        for name, one in zip(ATTRIBUTES, intervals, strict=True)
    ]
    order = sorted(range(len(ATTRIBUTES)), key=lambda place: intervals[place].mean)
    sentence = "Settled in this order: " + ", ".join(
        f"{ATTRIBUTES[place]} after {intervals[place].mean:.0%} of the run" for place in order
    )
    later = {(late, early): _later(share, late, early) for late in ("shape", "texture") for early in ATTRIBUTES[:2]}
    sentence += "".join(f"; {late} comes {gap} of the run after {early}" for (late, early), gap in later.items()) + "."
    figure = bars_sheet(ATTRIBUTES, share, "settled after this share of the run")
    source = "Position and colour are settled early, shape and texture late."
    verdict = verdict_of(*(lies(gap, above=0) for gap in later.values()))
    return Finding("settled", source, verdict, sentence, rows, figure, about)


def _later(share: NDArray[np.float64], late: str, early: str) -> Interval:
    """By how much of the run one attribute is settled after another, over prompts; shares are (prompt, attribute)."""
    return bootstrap(share[:, ATTRIBUTES.index(late)] - share[:, ATTRIBUTES.index(early)])
