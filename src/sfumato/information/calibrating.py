"""Calibrated attention: weights over layers, heads and parts of the run, so that attention maps predict information.

Plain DAAM gives every step, layer and head one weight. Fitted once for each model, without any label, to information
maps of some hundred prompts, non-negative weights turn one generation into an estimate of what many calls measure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from sfumato.bounds import shown
from sfumato.errors import OptionError, Unreadable
from sfumato.reading import read_json

FORMAT = "sfumato-calibration-1"
GROUPS = 5
"""Equal parts of the run; the steps of one share their weights."""
FOLDS = 5
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Penalties that are tried, as shares of the mean squared length of the features."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """Non-negative weights of attention maps.

    Attributes:
        layers: Their names.
        weights: (group, layer, head), 0 for heads that a layer does not have; the sum is 1.
        about: What it was fitted to, and how well it predicts what it has not seen.
    """

    layers: tuple[str, ...]
    weights: Floats
    about: Mapping[str, Any] = field(default_factory=dict)

    def of(self, step: int, count: int, layer: str, heads: int) -> Floats:
        """The weights of the heads of a layer at a step of a run with `count` steps: (head,).

        Raises:
            OptionError: The layer is unknown, or has another number of heads.
        """
        if layer not in self.layers or heads > self.weights.shape[2]:
            raise OptionError(
                f"the calibration knows no layer {layer!r} of {heads} heads: it was made for another model"
            )
        found: Floats = self.weights[group_of(step, count, len(self.weights)), self.layers.index(layer), :heads]
        return found

    def to_json(self) -> str:
        """As JSON text, which `load` reads from a file."""
        rows = {name: self.weights[:, place].round(8).tolist() for place, name in enumerate(self.layers)}
        content = {"format": FORMAT, "about": dict(self.about), "weights": rows}
        return json.dumps(content, indent=1) + "\n"


def load_calibration(path: str) -> Calibration:
    """Read a calibration.

    Raises:
        OptionError: The file cannot be read, or is none.
    """
    try:
        found = read_json(path)
    except Unreadable as error:
        raise OptionError(
            f"cannot read the calibration {shown(path)}: {error.reason}; make one: sfumato run calibration"
        ) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise OptionError(f"{shown(path)} is no calibration; make one: sfumato run calibration")
    rows: Any = found.get("weights")
    about: Any = found.get("about")
    try:
        weights = np.array(list(rows.values()), np.float64).transpose(1, 0, 2)  # (group, layer, head)
        whole = bool(weights.size and np.isfinite(weights).all() and (weights >= 0).all() and isinstance(about, dict))
    except (AttributeError, TypeError, ValueError):
        whole = False
    if not whole:
        raise OptionError(
            f"the calibration {shown(path)} is damaged: expected for every layer the same number of parts of the run, "
            "each with as many weights of 0 or more; make it again: sfumato run calibration"
        )
    return Calibration(tuple(rows), weights, about)


def group_of(step: int, count: int, groups: int) -> int:
    """The part of the run that a step belongs to."""
    return min(groups - 1, step * groups // max(1, count))


@dataclass
class Sums:
    """What a fit needs of the words of one prompt: products of features and targets, summed over places.

    Attributes:
        products: (feature, feature).
        targets: (feature,).
        energy: Of the targets.
    """

    products: Floats
    targets: Floats
    energy: float


def sums_of(features: Floats, target: Floats) -> Sums:
    """Sums over the words and places of a prompt, every word weighed by its target.

    A map's target is the square root of the information at each place, divided by its root mean square: a word's
    order of places counts, not how much it tells; words that tell more count more.

    Args:
        features: (feature, word, y, x).
        target: Information (word, y, x), in nats.
    """
    roots = np.sqrt(np.clip(target, 0, None))
    size = np.sqrt((roots**2).mean((1, 2)))  # (word,)
    weight = np.sqrt(size / size.sum()) if size.sum() > 0 else size
    scaled = np.divide(roots, size[:, None, None], out=np.zeros_like(roots), where=size[:, None, None] > 0)
    mean = features.mean((2, 3), keepdims=True).mean(0, keepdims=True)
    shown = np.divide(features, mean, out=np.zeros_like(features), where=mean > 0)
    rows = (shown * weight[None, :, None, None]).reshape(len(features), -1)
    wanted = (scaled * weight[:, None, None]).ravel()
    return Sums(rows @ rows.T, rows @ wanted, float(wanted @ wanted))


def fitted_weights(sums: Sequence[Sums], ridge: float) -> Floats:
    """Non-negative least squares with a penalty on the squares of the weights: (feature,).

    Args:
        sums: Of some prompts.
        ridge: The penalty, as a share of the mean squared length of the features.
    """
    products: Floats = np.sum([one.products for one in sums], axis=0)
    targets: Floats = np.sum([one.targets for one in sums], axis=0)
    count = len(products)
    penalised = products + ridge * np.trace(products) / count * np.eye(count)
    root = np.linalg.cholesky(penalised)  # |A w - b|^2 = |R' w - R^-1 A'b|^2 + a constant
    weights, _ = nnls(root.T, np.linalg.solve(root, targets), maxiter=50 * count)
    return np.asarray(weights)


def explained_energy(sums: Sequence[Sums], weights: Floats) -> float:
    """The share of the targets' energy that weighed features explain."""
    energy = sum(one.energy for one in sums)
    left = sum(one.energy - 2 * weights @ one.targets + weights @ one.products @ weights for one in sums)
    return float(1 - left / energy) if energy else float("nan")


def folds_of(prompts: Sequence[str]) -> list[int]:
    """The fold of each image: those of one prompt are in the same one, since weights that saw one know the others.

    Raises:
        OptionError: There are fewer prompts than folds.
    """
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
    check_folds(len(places))
    return [places[prompt] % FOLDS for prompt in prompts]


def check_folds(count: int) -> None:
    """Refuse so few different prompts that they cannot be divided.

    Raises:
        OptionError: There are fewer prompts than folds.
    """
    if count < FOLDS:
        raise OptionError(f"{count} prompts are too few to be divided into {FOLDS} parts; give {FOLDS} or more")


def cross_validated(sums: Sequence[Sums], folds: Sequence[int]) -> tuple[float, dict[float, float]]:
    """The penalty that predicts unseen prompts best, and how well each one does; `folds` has the fold of each image."""
    scores = {}
    for ridge in RIDGES:
        found = []
        for fold in range(FOLDS):
            own = [one for one, part in zip(sums, folds, strict=True) if part == fold]
            found.append(explained_energy(own, fitted_without(sums, ridge, fold, folds)))
        scores[ridge] = float(np.mean(found))
    return max(scores, key=lambda ridge: scores[ridge]), scores


def fitted_without(sums: Sequence[Sums], ridge: float, fold: int, folds: Sequence[int]) -> Floats:
    """Weights fitted to every image but those of one fold."""
    return fitted_weights([one for one, part in zip(sums, folds, strict=True) if part != fold], ridge)
