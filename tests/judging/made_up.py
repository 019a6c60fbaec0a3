"""Explanations whose maps are given, of prompts as a tiny model reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sfumato.metrics.controls import control_map
from sfumato.models.words import names
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.images import centres, image_node
from sfumato.results.meaning import Meaning
from tests.methods.steps import model_of

GRID = (8, 12)
SIZE = (16, 24)
PROMPT = "red cat, dog left"
REQUEST = Request(PROMPT, seed=2, steps=2, guidance=4.0, height=SIZE[0], width=SIZE[1])
GREY = np.full((*SIZE, 3), 20, np.uint8)

Maps = Mapping[str, NDArray[Any]]


def pattern(number: int, grid: tuple[int, int] = GRID) -> NDArray[np.float64]:
    """A map from 0 to 1 that has nothing to do with those of other numbers."""
    made = control_map("random", grid, 5, number)
    return (made - made.min()) / np.ptp(made)


def patterns(prompt: str = PROMPT) -> dict[str, NDArray[np.float64]]:
    """A map for every word that the model sees, by name."""
    words = [word for word in model_of("text").tokens(prompt).words if word.seen]
    return {name: pattern(number) for number, name in enumerate(names(words))}


def explained(
    maps: Maps | None = None,
    request: Request = REQUEST,
    *,
    pixels: NDArray[np.uint8] = GREY,
    more: Mapping[str, xr.Dataset] | None = None,
) -> Explanation:
    """An explanation by word maps; a word of the prompt without a map has NaN, as one that was not seen."""
    maps = patterns(request.prompt) if maps is None else maps
    words = model_of("text").tokens(request.prompt).words
    grid = next(iter(maps.values())).shape
    values = [maps.get(name, np.full(grid, np.nan)) for name in names(words)]
    node = word_node([word.text for word in words], values, [word.occurrence for word in words])
    nodes = {"/image": image_node([pixels], [request.seed]), "/words": node, **(more or {})}
    return Explanation(xr.DataTree.from_dict(nodes), request, {"method": "daam", "options": {}})


def word_node(texts: Sequence[str], values: Sequence[NDArray[Any]], occurrences: Sequence[int]) -> xr.Dataset:
    """The node ``words``."""
    stacked = np.stack(list(values)).astype(np.float32)
    return xr.Dataset(
        {"map": (("word", "y", "x"), stacked)},
        coords={
            "word": ("word", np.array(texts, object)),
            "occurrence": ("word", list(occurrences)),
            "index": ("word", list(range(len(texts)))),
            "pos": ("word", np.array(["x"] * len(texts), object)),
            "seen": ("word", np.isfinite(stacked).all((1, 2))),
            "y": centres(stacked.shape[1]),
            "x": centres(stacked.shape[2]),
        },
        attrs={"method": "daam", "unit": "mean attention probability"},
    )


def stepped(maps: Sequence[NDArray[Any]], request: Request = REQUEST, name: str = "saliency/mine") -> Explanation:
    """An explanation by one map for each step."""
    data = xr.Dataset(
        {"map": (("step", "y", "x"), np.stack(list(maps)).astype(np.float32), Meaning("map").attrs)},
        coords={"step": list(range(len(maps)))},
    )
    nodes = {"/image": image_node([GREY], [request.seed]), f"/{name}": data}
    return Explanation(xr.DataTree.from_dict(nodes), request, {"method": "daam", "options": {}})


def shared(worths: Mapping[str, float], request: Request = REQUEST) -> Explanation:
    """An explanation by words as players; their shares are those of the sum of their worths, if that is above 0."""
    values = np.array(list(worths.values()), np.float64)
    shares = values / values.sum() if values.sum() > 0 else np.full(len(values), np.nan)
    data = xr.Dataset(
        {
            "phi": ("player", values, Meaning("importance").attrs),
            "share": ("player", shares, Meaning("share").attrs),
            "error": ("player", values * 0, Meaning("error").attrs),
        },
        coords={"player": ("player", np.array(list(worths), object))},
    )
    nodes = {"/image": image_node([GREY], [request.seed]), "/shapley/word_importance": data}
    return Explanation(xr.DataTree.from_dict(nodes), request, {"method": "shapley", "options": {}})
