"""Which maps of an explanation can be judged, whatever method made them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sfumato.errors import SfumatoError
from sfumato.results.explanation import Explanation
from sfumato.results.meaning import GRID, IMAGE, STEP, Declared, declared, heat_of
from sfumato.results.upscale import resized


@dataclass(frozen=True)
class Saliency:
    """The maps of one node.

    Attributes:
        name: As ``Declared.title``, without the parent of all saliencies.
        maps: (step, y, x), or (1, y, x) for a map of the whole run.
        steps: Of each map; None for a map of the whole run.
    """

    name: str
    maps: NDArray[np.float64]
    steps: tuple[int, ...] | None

    def at(self, step: int, grid: tuple[int, int]) -> NDArray[np.float64] | None:
        """The map of a step on a grid; None where there is none."""
        if self.steps is not None and step not in self.steps:
            return None
        found: NDArray[np.float64] = self.maps[0 if self.steps is None else self.steps.index(step)]
        if found.shape == grid:
            return found
        low, spread = float(found.min()), float(np.ptp(found))
        return np.asarray(low + spread * resized((found - low) / (spread or 1.0), grid))


def saliencies(explanation: Explanation) -> list[Saliency]:
    """Every array that is a map of the image, or one for each step; those of its words or other labels are summed.

    Raises:
        SfumatoError: There is none.
    """
    if explanation.request.images != 1:
        raise SfumatoError(f"this explanation has {explanation.request.images} images; select one of them first")
    found = []
    for one in declared(explanation.tree, "map"):
        maps = _reduced(one)
        if maps.sizes["y"] > 1:
            steps = tuple(maps[STEP].values.tolist()) if STEP in maps.dims else None
            values: NDArray[Any] = maps.values
            name = one.title.removeprefix("saliency/")
            found.append(Saliency(name, np.abs(values.astype(np.float64)).reshape(-1, *values.shape[-2:]), steps))
    if not found:
        nodes = ", ".join(explanation.tree.children)
        raise SfumatoError(f"this explanation holds no map of the image; its nodes are: {nodes}")
    return found


def _reduced(one: Declared) -> xr.DataArray:
    """A map over (step, y, x) or (y, x): the sum over labels, but for those with NaN, which were not seen."""
    maps = heat_of(one.array).isel({IMAGE: 0}, missing_dims="ignore")
    for dim in one.labels:
        seen = maps.notnull().all([other for other in maps.dims if other != dim])
        maps = maps.isel({dim: seen.values}).sum(dim)
    return maps.transpose(STEP, *GRID, missing_dims="ignore")


def named_maps(explanation: Explanation) -> dict[str, NDArray[np.float64]]:
    """What can be compared with another explanation of the kind, by name, each (y, x).

    The maps of the words; else the worths of words as players, as one line; else the maps of other nodes, by step.
    Worths, since there are no shares where worths do not sum to more than 0, as with random weights.

    Raises:
        SfumatoError: There is neither.
    """
    found: dict[str, NDArray[np.float64]] = {}
    if "words" in explanation.tree.children:
        words = explanation.words
        for place in np.argsort(words["index"].values):
            one = words.isel(word=place)
            if one["seen"]:
                name = _named(str(one["word"].values), int(one["occurrence"]))
                found[name] = one["map"].transpose("y", "x").values.astype(np.float64)
        found = {name: values for name, values in found.items() if np.isfinite(values).all()}
    if found:
        return found
    for method in explanation.importance_methods:
        return {"worths": np.array([[float(row["phi"]) for row in explanation.importance_rows(method)]])}
    for one_node in saliencies(explanation):
        for place, step in enumerate(one_node.steps or (None,)):
            found[one_node.name + ("" if step is None else f", step {step}")] = one_node.maps[place]
    return found


def shares_of(explanation: Explanation) -> dict[str, float]:
    """The share of every word in the sum of all word maps, or by the first method over words as players."""
    if "words" in explanation.tree.children:
        rows = [row for row in explanation.summary()["words"] if row["share"] is not None]
        return {_named(row["word"], row["occurrence"]): float(row["share"]) for row in rows}
    for method in explanation.importance_methods:
        rows = explanation.importance_rows(method)
        if all(row["share"] is not None for row in rows):
            return {row["player"]: float(row["share"]) for row in rows}
    return {}


def _named(word: str, occurrence: int) -> str:
    return word + (f"#{occurrence}" if occurrence > 1 else "")
