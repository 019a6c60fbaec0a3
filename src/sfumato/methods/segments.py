"""Segments: which part of the image goes with which word? After Gupta and Kanoria 2024, section 3.2.

The image is cut into parts by colour, by what the prompt moves, or by SAM, and CLIP compares what is left of the image
when only some parts show with each word or phrase of the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import xarray as xr

from sfumato.errors import ModelError, OptionError
from sfumato.games.players import Group, players_of
from sfumato.generation.generate import generate
from sfumato.generation.trace import Trace
from sfumato.methods.costs import runs
from sfumato.models.model import Model
from sfumato.option_values import STEPS
from sfumato.progress import Progress
from sfumato.registry import method
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.results.images import centres
from sfumato.results.meaning import Meaning
from sfumato.segments import Segment, match, ranked, regions, sam_segments
from sfumato.segments.matching import MARGIN
from sfumato.segments.saliency import Kind, boosted, clusters, saliency
from sfumato.similarity import Clip, clip_for
from sfumato.similarity.judges import JUDGED, notes_on

Way = Literal["regions", "saliency", "sam"]
WAYS: tuple[Way, ...] = ("regions", "saliency", "sam")


@dataclass(frozen=True)
class SegmentsOptions:
    """Options of ``segments``."""

    by: Way = field(default="regions", metadata={"help": "regions of even colour, saliency of the prompt, or SAM"})
    sam_model: str | None = field(
        default=None, metadata={"disk": "model", "help": "folder or hub id of a SamModel, for by=sam"}
    )
    saliency: Kind = field(default="gradient", metadata={"help": "gradient, smoothgrad or integrated, for by=saliency"})
    steps: tuple[int, ...] | None = field(
        default=None, metadata=STEPS | {"help": "steps whose saliency is taken; three across the run"}
    )
    clusters: int = field(
        default=6,
        metadata={"least": 1, "most": 1000, "help": "clusters of saliency, colour and place, for by=saliency"},
    )
    most: int = field(
        default=10, metadata={"least": 1, "most": 1000, "help": "most segments that are kept, by size and quality"}
    )
    together: int = field(
        default=2, metadata={"least": 1, "most": 1000, "help": "most segments that a word may go with"}
    )
    margin: float = field(
        default=MARGIN,
        metadata={
            "least": 1,
            "most": 100,
            "help": "side of what CLIP is shown, as a multiple of the longer side of the part",
        },
    )
    players: Group = field(default="word", metadata={"help": "what is matched: word, or phrase"})
    clip_model: str | None = field(default=None, metadata={"disk": "model", "help": JUDGED})

    def __post_init__(self) -> None:
        """Check what the options mean together."""
        if self.by == "sam" and not self.sam_model:
            raise OptionError("by='sam' needs sam_model: a folder or a hub id such as 'facebook/sam-vit-base'")
        if self.steps == ():
            raise OptionError("steps is empty; give step numbers from 0")


def _cost(model: Model, request: CompletedRequest, options: SegmentsOptions) -> str:
    if options.by != "saliency":
        return f"{runs(model, request)}, no extra call"
    passes = 1 if options.saliency == "gradient" else 8
    several = len(options.steps) if options.steps is not None else 3
    return f"{runs(model, request)} and {2 * passes * several} calls with gradients"


@method(
    "segments",
    summary="Which part of the image goes with which word? Segments matched with words by CLIP",
    options=SegmentsOptions,
    needs=("words", "replay"),
    cost=_cost,
    paper="Gupta and Kanoria 2024, Adapting Interpretability Techniques to Generative Image Diffusion Models",
)
def segments(
    model: Model, requests: Sequence[CompletedRequest], options: SegmentsOptions, progress: Progress
) -> list[Explanation]:
    """Cut the first image of every request and match its parts with the words."""
    clip = clip_for(model, options.clip_model, texts=True)
    return [_explained(model, request, options, clip, progress) for request in requests]


def _explained(
    model: Model, request: CompletedRequest, options: SegmentsOptions, clip: Clip, progress: Progress
) -> Explanation:
    if request.images != 1:
        raise OptionError("segments cuts one image at a time; ask for one image, or explain each seed by itself")
    players = players_of(model.tokens(request.prompt), options.players)
    trace = generate(model, request, record=options.by == "saliency", progress=progress)
    pixels = np.asarray(trace.images[0].convert("RGB"))
    maps: dict[int, Any] = {}
    if options.by == "regions":
        cut = regions(pixels)
    elif options.by == "sam":
        cut = sam_segments(pixels, options.sam_model or "")
    else:
        maps = _maps(trace, request, options, progress)
        cut = clusters(pixels, list(maps.values()), options.clusters)
    kept = ranked(cut, options.most)
    if not kept:
        raise ModelError(f"no segment was found by {options.by}; choose another way with the option by")
    texts = [request.prompt[player.spans[0][0] : player.spans[-1][1]].strip(" ,.;:!?") for player in players]
    matches = match(pixels, kept, texts, clip, together=options.together, margin=options.margin)
    names = [player.name for player in players]
    nodes = {
        "segments/parts": _parts(kept, matches.neutral, pixels, options),
        "segments/matches": xr.Dataset(
            {
                "similarity": (("segment", "player"), matches.similarity),
                "best": (("player", "segment"), matches.best),
                "score": ("player", matches.score),
            },
            coords={"player": ("player", names), "pos": ("player", _pos(model, request, players))},
            attrs={"method": "segments", "similarity": f"clip ({clip.source})"},
        ),
    }
    if maps:
        grid = next(iter(maps.values())).shape
        nodes["segments/saliency"] = xr.Dataset(
            {
                "map": (("step", "y", "x"), np.stack(list(maps.values())).astype(np.float32), Meaning("map").attrs),
                "boosted": (("row", "column", "channel"), boosted(pixels, list(maps.values()))),
            },
            coords={
                "step": ("step", list(maps)),
                "y": ("y", centres(grid[0])),
                "x": ("x", centres(grid[1])),
                "channel": ("channel", ["R", "G", "B"]),
            },
            attrs={"method": "segments", "kind": options.saliency},
        )
    return trace.explanation(0, nodes, {"notes": notes_on(model, clip)})


def _maps(trace: Trace, request: CompletedRequest, options: SegmentsOptions, progress: Progress) -> dict[int, Any]:
    last = trace.model.steps(request) - 1
    chosen = options.steps or tuple(dict.fromkeys(round(last * share) for share in (0.2, 0.5, 0.8)))
    if max(chosen) > last:
        raise OptionError(f"steps has {max(chosen)}; this run has steps 0 to {last}")
    maps = {}
    for done, step in enumerate(chosen):
        progress("saliency", done, len(chosen))
        maps[step] = saliency(trace, step, options.saliency)
    progress("saliency", len(chosen), len(chosen))
    return maps


def _parts(kept: Sequence[Segment], neutral: Any, pixels: Any, options: SegmentsOptions) -> xr.Dataset:
    return xr.Dataset(
        {
            "mask": (("segment", "y", "x"), np.stack([one.mask for one in kept])),
            "area": ("segment", [one.area for one in kept]),
            "quality": ("segment", [one.quality for one in kept]),
            "neutral": ("segment", neutral),
            "colour": (("segment", "channel"), np.stack([pixels[one.mask].mean(0).astype(np.uint8) for one in kept])),
        },
        coords={"segment": ("segment", list(range(1, len(kept) + 1))), "channel": ("channel", ["R", "G", "B"])},
        attrs={"method": "segments", "by": options.by},
    )


def _pos(model: Model, request: CompletedRequest, players: Sequence[Any]) -> list[str]:
    """The part of speech of each player: of its last word that is no punctuation mark."""
    words = model.tokens(request.prompt).words
    return [
        next((words[place].pos for place in reversed(player.words) if words[place].pos != "punct"), "punct")
        for player in players
    ]
