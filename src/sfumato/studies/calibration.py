"""Fit the weights of attention maps to information maps, once for a model, without any label."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.cache import Cache, default_folder
from sfumato.explain import explain
from sfumato.findings import one_by_one, remembered
from sfumato.information.calibrating import (
    FOLDS,
    GROUPS,
    Calibration,
    cross_validated,
    fitted,
    group_of,
    out_of_fold,
    sums_of,
)
from sfumato.metrics import bootstrap, lies, rank_correlation, verdict_of
from sfumato.models.fingerprint import weight_hash
from sfumato.models.model import Model
from sfumato.plots.studies import panels_sheet
from sfumato.progress import Progress, silent
from sfumato.registry import find
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.upscale import bicubic
from sfumato.runs.finding import Finding
from sfumato.studies.asking import about, asked

SAMPLES = 32
BUDGET = 4000.0
"""MB that the attention maps of one image may take while they are read."""
SOURCE = "Weights of layers, heads and steps that are fitted to information make attention agree with it."


def calibrate(
    model: Model,
    prompts: Sequence[str],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    steps: int | None = None,
    progress: Progress = silent,
) -> tuple[Calibration, Finding]:
    """Explain prompts by attention, layer by layer and head by head, and by information; fit the one to the other.

    The penalty is chosen by cross-validation over prompts, and every number that is reported is of prompts that the
    weights behind it have not seen.

    Args:
        model: Any that reads words and can be replayed.
        prompts: What to generate; prompt i starts from ``seed + i``.
        samples: Noise samples of each information map.
        seed: Of the first prompt.
        steps: Denoising steps; the model's own.
        progress: Told about every prompt, twice.

    Returns:
        The weights, and the finding: rank agreement of plain and of calibrated attention with information.
    """
    seeds = range(seed, seed + len(prompts))
    informed = asked(model, prompts, seeds=seeds, method="information", steps=steps, progress=progress, samples=samples)
    requests = [one.request for one in informed]
    cache, told = Cache(default_folder()), partial(progress, "attention of prompts")
    work, daam = one_by_one(partial(_attention, model)), find("daam")
    kept = remembered(model, "attention by head", requests, work, cache, told, methods=[daam])
    layers = tuple(kept[0]["layers"].tolist())
    features = [one["features"].astype(np.float64) for one in kept]
    words = [one.seen for one in informed]
    targets = [one.maps[seen].astype(np.float64) for one, seen in zip(informed, words, strict=True)]
    shape = features[0].shape[:3]  # (group, layer, head)
    flat = [
        one[:, :, :, seen].reshape(-1, len(seen), *one.shape[-2:]) for one, seen in zip(features, words, strict=True)
    ]
    sums = [sums_of(feature, target) for feature, target in zip(flat, targets, strict=True)]
    ridge, scores = cross_validated(sums)
    weights = fitted(sums, ridge)
    heads = kept[0]["heads"]

    def agreement(number: int, given: NDArray[np.float64]) -> float:
        maps = np.einsum("f,fwyx->wyx", given, flat[number])
        found = [rank_correlation(heat, wanted) for heat, wanted in zip(maps, targets[number], strict=True)]
        told = targets[number].sum((1, 2))
        return float(np.average(np.nan_to_num(found), weights=told)) if told.sum() else float("nan")

    plain = (np.broadcast_to(heads, shape) > 0).astype(np.float64).ravel()
    before = [agreement(number, plain) for number in range(len(flat))]
    after = out_of_fold(sums, ridge, agreement)
    gain = bootstrap(np.subtract(after, before))
    rows = [
        {"maps": "plain attention", "rank agreement with information": bootstrap(before)},
        {"maps": "calibrated, unseen prompts", "rank agreement with information": bootstrap(after)},
        {"maps": "gain", "rank agreement with information": gain},
    ]
    sentence = (
        f"On prompts that the weights have not seen, calibrated attention agrees {gain} more with information than "
        f"plain attention (rank correlation, words weighed by their nats); {int((weights > 0).sum())} of "
        f"{weights.size} weights are above 0."
    )
    facts = about(model, informed, samples=samples, ridge=ridge, folds=FOLDS, explained=round(scores[ridge], 4))
    facts["weights_sha256"] = weight_hash(model.pipeline)
    figure = panels_sheet(
        {"rank agreement with information": {"plain": bootstrap(before), "calibrated": bootstrap(after)}}
    )
    total = weights.sum() or 1.0
    made = Calibration(layers, (weights / total).reshape(shape), facts)
    return made, Finding("calibration", SOURCE, verdict_of(lies(gain, above=0)), sentence, rows, figure, facts)


def _attention(model: Model, request: Request) -> dict[str, NDArray[Any]]:
    """Attention maps of words in half precision, by part of the run: (group, layer, head, word, y, x)."""
    found = explain(model, request, "daam", keep=("step", "layer", "head"), budget_mb=BUDGET)
    grids = [node.to_dataset() for node in found.tree["attention"].children.values()]
    layers = [name for data in grids for name in data["layer"].values.tolist()]
    heads = max(data.sizes["head"] for data in grids)
    tokens = model.tokens(request.prompt)
    size = model.latent_grid(request)
    maps = np.zeros((GROUPS, len(layers), heads, len(tokens.words), *size), np.float16)
    present = np.zeros((1, len(layers), heads))
    first = 0
    for data in grids:
        count = data.sizes["layer"]
        values = data["map"].transpose("step", "layer", "head", "token", "y", "x").values
        steps = data["step"].values.tolist()
        own = data.sizes["head"]
        for group in range(GROUPS):
            inside = [
                place for place, step in enumerate(steps) if group_of(step, model.steps(request), GROUPS) == group
            ]
            if inside:
                mean = values[inside].mean(0)  # (layer, head, token, y, x)
                maps[group, first : first + count, :own] = _of_words(mean, found, tokens.words, size)
        present[0, first : first + count, :own] = data["weight"].transpose("step", "layer", "head").values.sum(0) > 0
        first += count
    return {"features": maps, "layers": np.array(layers), "heads": present}


def _of_words(maps: NDArray[Any], found: Explanation, words: Sequence[Any], size: tuple[int, int]) -> NDArray[Any]:
    """The mean over each word's tokens, at the latent's size (layer, head, word, y, x); 0 for words not seen."""
    owners = found.tree["tokens"]["word_index"].values
    made = np.zeros((*maps.shape[:2], len(words), *size))
    for word in words:
        own = np.flatnonzero(owners == word.index)
        if len(own):
            made[:, :, word.index] = np.clip(bicubic(maps[:, :, own].mean(2), size), 0, None)
    return made
