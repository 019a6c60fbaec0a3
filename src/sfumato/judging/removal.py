"""Take a word out of the prompt, keep the seed: does the image change where the word's map says?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sfumato.caching.images import Generator
from sfumato.errors import SfumatoError
from sfumato.games.players import Player, players_of, remaining
from sfumato.judging.checks import Measured, alike, measured
from sfumato.metrics.controls import control_map
from sfumato.metrics.structure import resized
from sfumato.models.model import Model
from sfumato.progress import Progress, silent
from sfumato.results.explanation import Explanation

NODE = "removal"
VISIBLE = 4 / 255
"""A word without which no pixel changes by more than this is not counted: there is no change to point at."""


@dataclass(frozen=True)
class Removal:
    """What happened without each word.

    Attributes:
        words: The words, each with the punctuation behind it.
        images: Without each (word, y, x, 3) uint8.
        changes: Largest difference of a channel, from 0 to 1 (word, y, x).
        heats: The word's map (word, y, x) on its own grid.
        own: Rank correlation of a word's map with its change (word,).
        others: Mean rank correlation of the other words' maps with the same change (word,).
        centre: Rank correlation of a centred blob with the change (word,).
    """

    words: tuple[str, ...]
    images: NDArray[np.uint8]
    changes: NDArray[np.float64]
    heats: NDArray[np.float64]
    own: NDArray[np.float64]
    others: NDArray[np.float64]
    centre: NDArray[np.float64]

    def measured(self) -> list[Measured]:
        """Agreement with the change, against the other words' maps and against a centred blob."""
        number = "rank agreement of map and change"
        rows = [measured(NODE, number, list(self.own), "a blob in the middle", list(self.centre), "above")]
        if len(self.words) > 1:
            rows.insert(0, measured(NODE, number, list(self.own), "the other words' maps", list(self.others), "above"))
        return rows

    def node(self) -> xr.Dataset:
        """As a node of an explanation."""
        return xr.Dataset(
            {
                "change": (("word", "y", "x"), self.changes.astype(np.float32)),
                "map": (("word", "map_y", "map_x"), self.heats.astype(np.float32)),
                "pixels": (("word", "y", "x", "channel"), self.images),
                "agreement": ("word", self.own),
                "agreement_of_others": ("word", self.others),
                "agreement_of_centre": ("word", self.centre),
            },
            coords={"word": ("word", list(self.words)), "channel": ("channel", ["R", "G", "B"])},
        )


def removal(model: Model, explanation: Explanation, generator: Generator, progress: Progress = silent) -> Removal:
    """Make the image without each word and compare the change with the maps.

    Args:
        model: The one that made the explanation.
        explanation: Of one image, with word maps.
        generator: Makes the images and remembers them.
        progress: Told about every word.

    Raises:
        SfumatoError: There are no word maps, or no word to leave out.
    """
    request = model.complete(explanation.request)
    known = mapped(model, explanation)
    if not known:
        raise SfumatoError("no word of the prompt has a map, so none can be left out")
    players = players_of(model.tokens(request.prompt))
    kept, heats = [player for player, _ in known], [heat for _, heat in known]
    coalitions = np.array([[other != player for other in players] for player in kept])
    texts = remaining(request.prompt, players, coalitions)
    whole = np.asarray(explanation.image.convert("RGB"))
    images = []
    for number, text in enumerate(texts):
        images.append(generator([request.with_(prompt=text)])[0].pixels)
        progress("images without a word", number + 1, len(texts))
    changes = difference(np.stack(images), whole)
    heat = np.stack(heats).astype(np.float64)
    grid = (heat.shape[1], heat.shape[2])
    coarse = [resized(change, grid) for change in changes]
    blob = control_map("centre", grid, 0, 0)
    table = alike(coarse, heats)  # (word left out, map)
    table[changes.max((1, 2)) <= VISIBLE] = np.nan
    own = np.diag(table)
    others = np.array([_mean(np.delete(row, place)) for place, row in enumerate(table)])
    centre = alike(coarse, [blob])[:, 0]
    names = tuple(player.name for player in kept)
    return Removal(names, np.stack(images), changes, heat, own, others, centre)


def difference(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """The largest difference of a channel at each pixel of images (..., y, x, channel) of uint8, from 0 to 1."""
    return np.asarray(np.abs(one.astype(np.float64) - other).max(-1) / 255)


def mapped(model: Model, explanation: Explanation) -> list[tuple[Player, NDArray[np.float64]]]:
    """The words of the prompt that have maps, each with the punctuation behind it, and the mean of their maps (y, x).

    Words are known by text and occurrence: some methods map other words than those of the prompt.
    """
    if "words" not in explanation.tree.children:
        return []
    node = explanation.words
    names = zip(node["word"].values.tolist(), node["occurrence"].values.tolist(), strict=True)
    maps = {
        (text.casefold(), int(occurrence)): values
        for (text, occurrence), values in zip(names, node["map"].values.astype(np.float64), strict=True)
        if np.isfinite(values).all()
    }
    tokens = model.tokens(explanation.request.prompt)
    found = []
    for player in players_of(tokens) if any(word.seen for word in tokens.words) else ():
        words = [tokens.words[place] for place in player.words]
        words = [word for word in words if word.pos != "punct"] or words
        keys = [(word.text.casefold(), word.occurrence) for word in words]
        if all(key in maps for key in keys):
            found.append((player, np.mean([maps[key] for key in keys], axis=0)))
    return found


def _mean(values: NDArray[np.float64]) -> float:
    """Over those that are numbers; NaN where none is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
