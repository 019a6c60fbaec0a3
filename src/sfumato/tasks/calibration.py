"""Fit the weights of attention maps to information maps, once for a model, without any label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.errors import RequestError
from sfumato.explain import explain
from sfumato.information.calibrating import (
    FOLDS,
    GROUPS,
    Calibration,
    Sums,
    check_folds,
    cross_validated,
    fitted_weights,
    fitted_without,
    folds_of,
    group_of,
    sums_of,
)
from sfumato.metrics import bootstrap, lies, rank_correlation, verdict_of
from sfumato.models.fingerprint import weight_hash
from sfumato.models.model import Model
from sfumato.models.words import Word
from sfumato.option_values import COUNT
from sfumato.plots.studies import panels_sheet
from sfumato.progress import Progress
from sfumato.registry import find
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.results.upscale import bicubic
from sfumato.runs.finding import Finding
from sfumato.runs.prompts import Row
from sfumato.runs.task import Captions, CompletedItem, Cost, Item, ModelFacts, Record, Records, task
from sfumato.tasks.explain import check_method, costs_of, of_each_image
from sfumato.tasks.shared.captions import drawn_captions
from sfumato.tasks.shared.word_maps import Sampling, mapped_in

FILE = "calibration.json"
SAMPLES = 32
BUDGET = 4000.0
"""MB that the attention maps of one image may take while they are read."""
AGREEMENT = "rank agreement with information"
SOURCE = "Weights of layers, heads and steps that are fitted to information make attention agree with it."
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CalibrationOptions:
    """Options of the task."""

    samples: int = field(
        default=SAMPLES, metadata=COUNT | {"least": 2, "help": "Noise samples of each information map."}
    )


def _costs(model: Model, request: CompletedRequest, items: int, options: CalibrationOptions) -> list[str]:
    """What both methods cost, for each image."""
    each = [(find("information"), {"samples": options.samples}), (find("daam"), {})]
    return costs_of(model, request, each, f"each of {items:,} images")


@task(
    "calibration",
    question="Which weights of layers, heads and steps make attention predict information, and how well?",
    options=CalibrationOptions,
    cost=Cost("an explanation by information and one by daam (a generation each) for each image", _costs),
    needs=("words",),
    prompts=Captions(drawn_captions, usual=100, named="the embedded scenes' captions, none held out"),
    shard=8,
)
class AttentionCalibration:
    """Attention by layer, head and part of the run, fitted to information of the same words.

    The penalty is chosen by cross-validation over prompts, and every number that is reported is of prompts that the
    weights behind it have not seen. The weights of all prompts are in ``calibration.json``, for ``daam``.
    """

    def plan(self, facts: ModelFacts, rows: Iterable[Row], options: CalibrationOptions) -> Iterator[Item]:
        """An item for each image of each row.

        Raises:
            OptionError: There are fewer prompts than parts of the cross-validation.
        """
        for name in ("daam", "information"):
            check_method(find(name), facts)
        prompts = set[str]()
        for one in of_each_image(rows):
            prompts.add(one.request.prompt)
            if len(prompts) == FOLDS:
                break
        check_folds(len(prompts))
        return of_each_image(rows)

    def measure(
        self, model: Model, items: Sequence[CompletedItem], options: CalibrationOptions, progress: Progress
    ) -> Sequence[Record]:
        """Information of a batch, then attention prompt by prompt, whose maps are larger."""
        requests = [one.request for one in items]
        samples = options.samples
        told = explain(model, requests, "information", batch=len(requests), progress=progress, samples=samples)
        return [_record(model, one, progress) for one in told]

    def conclude(self, records: Records, options: CalibrationOptions, about: Mapping[str, Any]) -> Finding:
        """The weights, and how well plain and calibrated attention agree with information.

        Of each image its sums stay in memory; its maps are read twice.
        """
        if not len(records):
            return _too_few(0, about)
        _, first = next(iter(records))
        layers, heads = first.values["layers"], first.arrays["heads"]
        sampling, sums, prompts = Sampling(), list[Sums](), list[str]()
        for item, record in records:
            sampling.add(item.request)
            prompts.append(item.request.prompt)
            sums.append(sums_of(*_features_and_target(record, layers)))
        if (count := len(set(prompts))) < FOLDS:
            return _too_few(count, about)
        folds = folds_of(prompts)
        ridge, scores = cross_validated(sums, folds)
        weights = fitted_weights(sums, ridge)
        unseen = [fitted_without(sums, ridge, fold, folds) for fold in range(FOLDS)]
        plain = np.tile(heads.astype(np.float64).ravel(), GROUPS)
        before, after = [], []
        for fold, (_, record) in zip(folds, records, strict=True):
            features, target = _features_and_target(record, layers)
            before.append(_agreement(plain, features, target))
            after.append(_agreement(unseen[fold], features, target))
        facts = sampling.about | {
            "prompts": count,
            "images": len(prompts),
            "samples": options.samples,
            "ridge": ridge,
            "folds": FOLDS,
            "explained": round(scores[ridge], 4),
            "weights_sha256": first.values["weights_sha256"],
        }
        shares = (weights / (weights.sum() or 1.0)).reshape(GROUPS, *heads.shape)
        made = Calibration(tuple(layers), shares, {"model": about["model"]} | facts)
        bars = {"plain": bootstrap(before, groups=prompts), "calibrated": bootstrap(after, groups=prompts)}
        gain = bootstrap(np.subtract(after, before), groups=prompts)
        rows = [
            {"maps": "plain attention", AGREEMENT: bars["plain"]},
            {"maps": "calibrated, unseen prompts", AGREEMENT: bars["calibrated"]},
            {"maps": "gain", AGREEMENT: gain},
        ]
        sentence = (
            f"On prompts that the weights have not seen, calibrated attention agrees {gain} more with information than "
            f"plain attention (rank correlation, words weighed by their nats); {int((weights > 0).sum())} of "
            f"{weights.size} weights are above 0."
        )
        return Finding(
            "calibration",
            SOURCE,
            verdict_of(lies(gain, above=0)),
            sentence,
            rows,
            panels_sheet({AGREEMENT: bars}),
            {**about, **facts},
            {FILE: made.to_json()},
        )


def _too_few(count: int, about: Mapping[str, Any]) -> Finding:
    sentence = f"{count} prompts have a result; weights need {FOLDS} or more."
    return Finding("calibration", SOURCE, "inconclusive", sentence, [], None, about)


def _record(model: Model, told: Explanation, progress: Progress) -> Record:
    """Information and attention of the words that the model sees, with a row for each.

    Raises:
        RequestError: It sees none.
    """
    one = mapped_in(model, told)
    words = [one.words[place] for place in one.seen]
    if not words:
        raise RequestError("the model sees no word of the prompt; expected one or more")
    features, layers, heads = attention_of(model, model.complete(told.request), words, progress)
    maps = one.maps[one.seen]
    nats = maps.astype(np.float64).sum((1, 2))
    return Record(
        {"layers": layers, "weights_sha256": weight_hash(model.pipeline)},
        {"features": features, "heads": heads},
        [{"word": word.text, "nats": float(count)} for word, count in zip(words, nats, strict=True)],
        {"information": maps},
    )


def attention_of(
    model: Model, request: CompletedRequest, words: Sequence[Word], progress: Progress
) -> tuple[NDArray[np.float16], list[str], NDArray[np.bool_]]:
    """Attention maps of words by part of the run.

    Returns:
        The maps in half precision (group, layer, head, word, y, x), the names of the layers, and which heads each of
        them has (layer, head).
    """
    found = explain(model, request, "daam", progress=progress, keep=("step", "layer", "head"), budget_mb=BUDGET)
    grids = [node.to_dataset() for node in found.tree["attention"].children.values()]
    layers = [name for data in grids for name in data["layer"].values.tolist()]
    heads = max(data.sizes["head"] for data in grids)
    size, count = model.latent_grid(request), model.steps(request)
    maps = np.zeros((GROUPS, len(layers), heads, len(words), *size), np.float16)
    present = np.zeros((len(layers), heads), np.bool_)
    first = 0
    for data in grids:
        values = data["map"].transpose("step", "layer", "head", "token", "y", "x").values
        weight = data["weight"].transpose("step", "layer", "head").values.sum(0)
        groups = np.array([group_of(step, count, GROUPS) for step in data["step"].values.tolist()])
        own = slice(first, first + data.sizes["layer"]), slice(data.sizes["head"])
        for group in set(groups.tolist()):
            maps[group, *own] = _of_words(values[groups == group].mean(0), found, words, size)
        present[own] = weight > 0
        first += data.sizes["layer"]
    return maps, layers, present


def _of_words(maps: NDArray[Any], found: Explanation, words: Sequence[Word], size: tuple[int, int]) -> Floats:
    """The mean over each word's tokens, at the latent's size: (layer, head, word, y, x)."""
    owners = found.tree["tokens"]["word_index"].values
    means = [np.clip(bicubic(maps[:, :, owners == word.index].mean(2), size), 0, None) for word in words]
    return np.stack(means, axis=2)


def _features_and_target(record: Record, layers: Sequence[str]) -> tuple[Floats, Floats]:
    """Attention (feature, word, y, x) by the layers as they are given, and information (word, y, x)."""
    order = [record.values["layers"].index(name) for name in layers]
    features = record.arrays["features"][:, order].astype(np.float64)
    return features.reshape(-1, *features.shape[3:]), record.maps["information"].astype(np.float64)


def _agreement(weights: Floats, features: Floats, target: Floats) -> float:
    """The rank correlation of weighed attention with information, words weighed by their nats; NaN without any."""
    maps = np.einsum("f,fwyx->wyx", weights, features)
    found = [rank_correlation(heat, wanted) for heat, wanted in zip(maps, target, strict=True)]
    told = target.sum((1, 2))
    return float(np.average(np.nan_to_num(found), weights=told)) if told.sum() else float("nan")
