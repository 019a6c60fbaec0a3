"""Information maps: how many nats does each word tell the model about each pixel?

A denoiser that was trained with squared error measures information: the squared difference of what it predicts with
and without a word, integrated over noise levels, is what the word tells it about the image, place by place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from sfumato.errors import OptionError
from sfumato.generation.generate import generate
from sfumato.generation.trace import Trace
from sfumato.information.estimating import Estimator, Sampled, along, sample
from sfumato.information.levels import LIMIT, Levels, levels_at, trained_levels
from sfumato.information.parts import ConditionQuery, Given, Players, asked_of
from sfumato.methods.costs import runs
from sfumato.methods.word_games import shares
from sfumato.methods.word_maps import maps_of_words
from sfumato.models.model import Model
from sfumato.option_values import BATCH, COUNT, INNER_SHARE, SEED, TIMESTEPS
from sfumato.progress import Progress
from sfumato.registry import method
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.results.images import centres, image_node, single
from sfumato.results.importance import half_width
from sfumato.results.meaning import IMPORTANCE, Meaning

NAME = "information"
OF = ("image", "trajectory")
INTERVALS = 12
"""Of log-SNR, in the node timing."""
Node = dict[str, Any]


@dataclass(frozen=True)
class InformationOptions:
    """Options of ``information``."""

    players: Players | None = field(
        default=None, metadata={"help": "word, phrase, label, or patch of a reference; as the model reads"}
    )
    given: Given = field(
        default="rest", metadata={"help": "rest: what a word adds to the others; empty: what it tells alone"}
    )
    of: str = field(
        default="image",
        metadata={"choices": OF, "help": "image: the final image, noised anew; trajectory: the run's own samples"},
    )
    samples: int = field(default=48, metadata=COUNT | {"help": "most noise samples"})
    until: float | None = field(
        default=None, metadata=INNER_SHARE | {"help": "stop at this standard error, as a share of the sum over words"}
    )
    at: tuple[int, ...] = field(
        default=(),
        metadata=TIMESTEPS | {"help": "timesteps to look at, such as 200,400,600; all, most where words tell most"},
    )
    estimator: Estimator = field(
        default="orthogonal", metadata={"help": "orthogonal, or standard, which is noisier and may be negative"}
    )
    pairs: tuple[str, ...] = field(
        default=(),
        metadata={"help": "pairs of words to take apart, such as red+circle: redundancy, uniqueness, synergy"},
    )
    seed: int = field(default=0, metadata=SEED | {"help": "of the noise; words share it"})
    rows: int = field(default=32, metadata=BATCH | {"help": "most rows of the denoiser's batch"})

    def __post_init__(self) -> None:
        """Check what the options mean together."""
        if self.samples < 2 and self.of == "image":
            raise OptionError("samples is 1; expected 2 or more, and 5 or more for an error")
        if self.of == "trajectory" and self.estimator == "standard":
            raise OptionError("the standard estimator needs the noise that was added; take of=image")


def _cost(model: Model, request: CompletedRequest, options: InformationOptions) -> str:
    contexts = len(asked_of(model, request, options.players, options.given, options.pairs).contexts.texts)
    looks = model.steps(request) if options.of == "trajectory" else options.samples
    return (
        f"{runs(model, request, request.images)}, then {looks * contexts * request.images:,} calls ({looks} noise "
        f"levels, {contexts} prompts each), in batches"
    )


@method(
    NAME,
    summary="How many nats does each word tell the model about each pixel? Predictions with and without it",
    options=InformationOptions,
    needs=("words or label or reference", "replay"),
    cost=_cost,
    paper="Kong et al. 2024, Interpretable Diffusion via Information Decomposition, arXiv 2310.07972",
)
def information(
    model: Model, requests: Sequence[CompletedRequest], options: InformationOptions, progress: Progress
) -> list[Explanation]:
    """Measure the information of every part of each request's condition, image by image."""
    return [_explained(model, request, options, progress) for request in requests]


def _explained(model: Model, request: CompletedRequest, options: InformationOptions, progress: Progress) -> Explanation:
    asked = asked_of(model, request, options.players, options.given, options.pairs)
    levels = None
    if options.of == "image":
        levels = levels_at(model, options.at) if options.at else trained_levels(model)
    traces, found = [], []
    for place in range(request.images):
        record = True if options.of == "trajectory" else (0,)
        trace = generate(model, request.of_image(place), record=record, progress=progress)
        traces.append(trace)
        found.append(_sampled(trace, asked, levels, options, progress))
    pixels = [np.asarray(trace.images[0].convert("RGB")) for trace in traces]
    nodes: dict[str, xr.Dataset] = {
        "image": image_node(pixels, request.seeds),
        f"{NAME}/word_importance": _importance(asked, found, options),
        f"{NAME}/maps": _maps(asked, found),
        f"{NAME}/timing": _timing(asked, found),
    }
    if (options.players or "word") == "word" and "words" in model.features:
        nodes["words"] = _words(model, request, asked, found)
    if asked.pairs:
        nodes[f"{NAME}/interactions_of_pairs"] = _pairs(asked, found)
    calls = {"denoiser_calls": sum(one.calls for one in found), "samples": [len(one.places) for one in found]}
    return Explanation(xr.DataTree.from_dict(nodes), request, {"information": calls})


def _sampled(
    trace: Trace, asked: ConditionQuery, levels: Levels | None, options: InformationOptions, progress: Progress
) -> Sampled:
    if levels is None:
        levels = levels_at(trace.model, [call.timestep for call in trace.calls])
        return along(trace, asked.contexts, levels, rows=options.rows, progress=progress)
    return sample(
        trace,
        _clean(trace),
        asked.contexts,
        levels,
        samples=options.samples,
        until=options.until,
        estimator=options.estimator,
        adapt=not options.at,
        seed=options.seed,
        rows=options.rows,
        progress=progress,
    )


def _clean(trace: Trace) -> torch.Tensor:
    """The latent without noise (1, channel, y, x): the run's final one, or that of a given image."""
    request = trace.requests[0]
    if request.invert is None:
        return trace.latents[:1]
    pixels = torch.from_numpy(np.array(trace.images[0].convert("RGB"))).permute(2, 0, 1)[None]
    with torch.no_grad():
        latent = trace.model.embed((pixels / 127.5 - 1).to(trace.latents))
    return latent


def _parts(asked: ConditionQuery, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What belongs to the parts, without the terms of pairs (term, ...)."""
    return values[: len(asked.parts)]


def _coords(asked: ConditionQuery) -> Node:
    return {"player": ("player", [part.name for part in asked.parts])}


def _importance(asked: ConditionQuery, found: Sequence[Sampled], options: InformationOptions) -> xr.Dataset:
    nats = np.stack([_parts(asked, one.totals) for one in found])  # (image, player)
    error = np.stack([_parts(asked, one.errors) for one in found])
    freedom = np.broadcast_to(np.array([one.freedom for one in found])[:, None], nats.shape)
    sums = np.array([one.sum_and_error(len(asked.parts))[1] for one in found])
    margin = np.where(np.isnan(freedom[:, 0]), 0.0, half_width(sums, freedom[:, 0]))
    parts = "patches" if asked.contexts.pictures else "words"
    given = f"given the other {parts}" if options.given == "rest" else "alone"
    if not asked.parts[0].words and not asked.contexts.pictures:
        given = "against no label or the other bit"
    data = {"phi": nats, "share": shares(nats, margin), "error": error, "freedom": freedom}
    return single(
        xr.Dataset(
            {name: (("image", "player"), values, IMPORTANCE[name].attrs) for name, values in data.items()}
            | {"bits": (("image", "player"), nats / math.log(2))},
            coords=_coords(asked),
            attrs={
                "method": NAME,
                "value": f"nats of information about the image, {given}",
                "estimator": f"the {options.estimator} estimator",
                "coalitions": len(asked.contexts.texts),
            },
        )
    )


def _maps(asked: ConditionQuery, found: Sequence[Sampled]) -> xr.Dataset:
    maps = np.stack([_parts(asked, one.maps) for one in found]).astype(np.float32)
    errors = np.stack([_parts(asked, one.map_errors) for one in found]).astype(np.float32)
    return single(
        xr.Dataset(
            {"nats": (("image", "player", "y", "x"), maps), "error": (("image", "player", "y", "x"), errors)},
            coords=_coords(asked) | {"y": ("y", centres(maps.shape[-2])), "x": ("x", centres(maps.shape[-1]))},
            attrs={"method": NAME, "unit": "nats per position"},
        )
    )


def _timing(asked: ConditionQuery, found: Sequence[Sampled]) -> xr.Dataset:
    """Nats of every part by interval of log-SNR, which runs from much noise to little."""
    edges = np.linspace(-LIMIT, LIMIT, INTERVALS + 1)
    values = np.stack([_parts(asked, one.over_levels(edges)) for one in found])
    return single(
        xr.Dataset(
            {"nats": (("image", "player", "log_snr"), values, Meaning("curve").attrs)},
            coords=_coords(asked) | {"log_snr": ("log_snr", (edges[1:] + edges[:-1]) / 2)},
            attrs={"method": NAME, "unit": f"nats per interval of {edges[1] - edges[0]:g} in log-SNR"},
        )
    )


def _words(model: Model, request: CompletedRequest, asked: ConditionQuery, found: Sequence[Sampled]) -> xr.Dataset:
    """The map of every word; NaN where the tokenizer cut it off."""
    words = model.tokens(request.prompt).words
    known = np.stack([one.maps for one in found])  # (image, term, y, x)
    maps = np.full((len(found), len(words), *known.shape[-2:]), np.nan)
    for number, part in enumerate(asked.parts):
        maps[:, part.words[0]] = known[:, number]
    return maps_of_words(words, maps, NAME, "nats per position")


def _pairs(asked: ConditionQuery, found: Sequence[Sampled]) -> xr.Dataset:
    """What two words tell each alone, twice, and only together: redundancy is the smaller one at each place."""
    names = [part.name for part in asked.parts]
    kinds = ("redundancy", "only the first", "only the second", "synergy")
    rows = []
    for one in found:
        maps, start = one.maps, len(asked.parts)
        own = []
        for number in range(len(asked.pairs)):
            first, second, both = maps[start + 3 * number : start + 3 * number + 3]
            shared = np.minimum(first, second)
            own.append(np.stack([shared, first - shared, second - shared, both - first - second + shared]))
        rows.append(np.stack(own))
    values = np.stack(rows).astype(np.float32)  # (image, pair, kind, y, x)
    return single(
        xr.Dataset(
            {
                "map_of_pair": (("image", "pair", "kind", "y", "x"), values),
                "nats": (("image", "pair", "kind"), values.sum((-2, -1), dtype=np.float64)),
            },
            coords={
                "pair": ("pair", [f"{names[a]} + {names[b]}" for a, b in asked.pairs]),
                "kind": ("kind", list(kinds)),
                "y": ("y", centres(values.shape[-2])),
                "x": ("x", centres(values.shape[-1])),
            },
            attrs={"method": NAME, "unit": "nats"},
        )
    )
