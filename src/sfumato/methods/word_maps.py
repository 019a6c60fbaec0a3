"""Word maps as nodes of an explanation: which tokens to watch, and from the maps of tokens to those of words."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from sfumato.bounds import shown
from sfumato.errors import OptionError, RequestError
from sfumato.generation.recorders.reduce import GridMaps
from sfumato.generation.recorders.tapping import refuse_compiled
from sfumato.models.model import Model, Site
from sfumato.models.words import Tokens, Word
from sfumato.results.hard_maps import hard
from sfumato.results.images import centres, single
from sfumato.results.upscale import bicubic

Floats = npt.NDArray[np.float64]


def places(read: Iterable[Tokens]) -> list[int]:
    """Places of the context that any of the prompts fills."""
    return sorted({token.index for tokens in read for token in tokens.context})


def readable(model: Model, prompt: str) -> Tokens:
    """The tokens of a prompt that has words, or of what stands in its place.

    Raises:
        RequestError: The model reads words, and there are none.
    """
    tokens = model.tokens(prompt)
    if not tokens.words and "words" in model.features:
        raise RequestError(
            f"the prompt {shown(prompt)} has no words; write what the image shows, such as 'a red circle'"
        )
    return tokens


def check_steps(steps: tuple[int, ...] | None, count: int | None = None) -> None:
    """Refuse steps that are none, or beyond the steps of a run of so many; None stands for all.

    Raises:
        OptionError: The message says which.
    """
    if steps == ():
        raise OptionError("steps is empty; expected step numbers from 0, or None for all")
    if steps is not None and count is not None and max(steps) >= count:
        raise OptionError(f"steps has {max(steps)}; this run has steps 0 to {count - 1}")


def check_layers(given: str | None, name: str = "layers") -> None:
    """Refuse what is no regular expression.

    Args:
        given: What was given; None stands for all layers.
        name: How the message calls it.

    Raises:
        OptionError: The message says why.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # a set within a set, which Python will read otherwise
            re.compile(given or "")
    except (re.error, RecursionError, OverflowError, FutureWarning) as error:
        raise OptionError(f"{name} is {shown(given)}, no regular expression ({error}); try 'up_blocks'") from None


def text_sites(model: Model, layers: str | None) -> list[Site]:
    """Where the denoiser reads the text, but for the middle of a U-Net, in order of execution.

    Args:
        model: The model.
        layers: Only those whose names this regular expression finds.

    Raises:
        OptionError: None is left.
        CannotWatch: The denoiser is compiled.
    """
    refuse_compiled(model.denoiser)
    sites = [site for site in model.sites() if site.kind != "self" and site.place != "mid"]
    chosen = [site for site in sites if layers is None or re.search(layers, site.name)]
    if not chosen:
        raise OptionError(f"no layer matches {shown(layers)}; layers are: {', '.join(site.name for site in sites)}")
    return chosen


def mean_maps(grids: Mapping[tuple[int, int], GridMaps], latent: tuple[int, int]) -> Floats:
    """The mean over steps, layers and heads of all grids, upscaled to the latent's: (item, token, y, x)."""
    weight = sum(float(found.weights.sum()) for found in grids.values())
    total = sum(
        bicubic(np.einsum("islhtyx,slh->ityx", found.maps.astype(np.float64), found.weights), latent)
        for found in grids.values()
    )
    return np.asarray(total) / weight


def words_node(tokens: Tokens, maps: Floats, method: str, unit: str, threshold: float | None = None) -> xr.Dataset:
    """The maps of words: the mean over each word's tokens.

    Args:
        tokens: The words, and the tokens in the order of the maps.
        maps: (item, token, y, x).
        method: What made them.
        unit: Of the values.
        threshold: Also where a map reaches this share of its maximum.
    """
    at = {token.index: place for place, token in enumerate(tokens.context)}
    means = [mean(maps[:, [at[token] for token in word.tokens]]) for word in tokens.words]
    return maps_of_words(tokens.words, np.stack(means, axis=1), method, unit, threshold)


def maps_of_words(
    words: Sequence[Word], maps: npt.NDArray[Any], method: str, unit: str, threshold: float | None = None
) -> xr.Dataset:
    """The node ``words``.

    Args:
        words: Of the prompt, also those that were cut off.
        maps: (item, word, y, x), NaN for words that were cut off.
        method: What made them.
        unit: Of the values.
        threshold: Also where a map reaches this share of its maximum.
    """
    values = maps.astype(np.float32)
    data: dict[str, Any] = {"map": (("image", "word", "y", "x"), values)}
    if threshold is not None:
        data["hard"] = (("image", "word", "y", "x"), hard(values, threshold))
    coords = {
        "word": ("word", [w.text for w in words]),
        "occurrence": ("word", [w.occurrence for w in words]),
        "index": ("word", [w.index for w in words]),
        "pos": ("word", [w.pos for w in words]),
        "seen": ("word", [w.seen for w in words]),
        "y": ("y", centres(values.shape[-2])),
        "x": ("x", centres(values.shape[-1])),
    }
    attrs = {"method": method, "unit": unit} | ({} if threshold is None else {"threshold": threshold})
    return single(xr.Dataset(data, coords=coords, attrs=attrs))


def tokens_node(tokens: Tokens, maps: Floats, method: str, unit: str, *, normalised: bool = False) -> xr.Dataset:
    """The maps of tokens (item, token, y, x), with what each token is."""
    coords = {
        "token": ("token", [t.text for t in tokens.context]),
        "index": ("token", [t.index for t in tokens.context]),
        "word_index": ("token", [t.word for t in tokens.context]),
        "y": ("y", centres(maps.shape[-2])),
        "x": ("x", centres(maps.shape[-1])),
    }
    data = {"map": (("image", "token", "y", "x"), maps.astype(np.float32))}
    attrs = {"method": method, "unit": unit, "normalised": normalised}
    return single(xr.Dataset(data, coords=coords, attrs=attrs))


def mean(maps: Floats) -> Floats:
    """The mean over tokens (third axis from the end); NaN for a word without tokens."""
    if maps.shape[-3] == 0:
        return np.full((*maps.shape[:-3], *maps.shape[-2:]), np.nan)
    return np.asarray(maps.mean(-3))
