"""LIME over superpixels: which parts of the image make it match a phrase? (Ribeiro et al. 2016, arXiv 1602.04938).

Players are superpixels (SLIC, Achanta et al. 2012) or regions of even colour; a missing one is painted neutral grey.
The value is the cosine in CLIP between what is left of the image and a phrase, and a weighted linear model says what
each part adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from skimage.segmentation import slic

from sfumato.errors import OptionError
from sfumato.games.coalitions import Coalitions
from sfumato.games.estimators.surrogate import WIDTH
from sfumato.games.estimators.surrogate import lime as lime_plan
from sfumato.games.playing import play
from sfumato.generation.generate import generate
from sfumato.methods.costs import runs
from sfumato.models.model import Model
from sfumato.option_values import COALITIONS, PENALTIES, SEED, WIDTHS
from sfumato.progress import Progress
from sfumato.registry import method
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.results.images import centres
from sfumato.results.meaning import Meaning
from sfumato.segments import regions
from sfumato.segments.matching import NEUTRAL
from sfumato.similarity import Clip, clip_for
from sfumato.similarity.judges import JUDGED, notes_on

Way = Literal["superpixels", "regions"]
WAYS: tuple[Way, ...] = ("superpixels", "regions")


@dataclass(frozen=True)
class LimeImageOptions:
    """Options of ``lime_image``."""

    phrase: str | None = field(default=None, metadata={"help": "what the image is compared with; the prompt"})
    by: Way = field(default="superpixels", metadata={"help": "players: superpixels, or regions of even colour"})
    superpixels: int = field(
        default=48, metadata={"least": 2, "most": 10_000, "help": "about how many parts the image is cut into"}
    )
    budget: int = field(
        default=400, metadata=COALITIONS | {"least": 4, "help": "most coalitions, which cost no generation"}
    )
    width: float = field(
        default=WIDTH, metadata=WIDTHS | {"help": "of the kernel over the cosine distance of a coalition"}
    )
    ridge: float = field(default=0.01, metadata=PENALTIES | {"help": "penalty on squared weights"})
    draw: int = field(default=0, metadata=SEED | {"help": "seed of the coalitions"})
    clip_model: str | None = field(default=None, metadata={"disk": "model", "help": JUDGED})

    def __post_init__(self) -> None:
        """Check the phrase."""
        if self.phrase is not None and not self.phrase.strip():
            raise OptionError("phrase is empty; give what to look for, such as 'a red circle'")


@method(
    "lime_image",
    summary="Which parts of the image make it match a phrase? LIME over superpixels",
    options=LimeImageOptions,
    needs=(),
    cost=lambda model, request, options: f"{runs(model, request)} and {options.budget} images through CLIP",
    paper="Ribeiro et al. 2016, arXiv 1602.04938; with CLIP and a phrase: Gupta and Kanoria 2024",
)
def lime_image(
    model: Model, requests: Sequence[CompletedRequest], options: LimeImageOptions, progress: Progress
) -> list[Explanation]:
    """Explain the first image of every request."""
    clip = clip_for(model, options.clip_model, texts=True)
    return [_explained(model, request, options, clip, progress) for request in requests]


def superpixels(pixels: NDArray[np.uint8], count: int) -> NDArray[np.int_]:
    """Cut an image into about so many compact parts: (y, x) numbers from 0 without gaps."""
    labels = slic(pixels, n_segments=count, compactness=10, sigma=0.6, start_label=0, channel_axis=-1)
    found: NDArray[np.int_] = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    return found


def _of_regions(pixels: NDArray[np.uint8]) -> NDArray[np.int_]:
    """The number of the region of even colour that each pixel belongs to: (y, x)."""
    found: NDArray[np.int_] = np.argmax([one.mask for one in regions(pixels)], axis=0)
    return found


def painted(pixels: NDArray[np.uint8], labels: NDArray[np.int_], kept: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The image with all superpixels that are not kept in neutral grey."""
    return np.where(kept[labels][..., None], pixels, np.uint8(NEUTRAL))


def _explained(
    model: Model, request: CompletedRequest, options: LimeImageOptions, clip: Clip, progress: Progress
) -> Explanation:
    if request.images != 1:
        raise OptionError("lime_image explains one image at a time; explain each seed by itself")
    phrase = request.prompt if options.phrase is None else options.phrase
    trace = generate(model, request, progress=progress)
    pixels = np.asarray(trace.images[0].convert("RGB"))
    labels = superpixels(pixels, options.superpixels) if options.by == "superpixels" else _of_regions(pixels)
    count = int(labels.max()) + 1
    wanted = clip.texts([phrase])[0].double()

    def value(coalitions: Coalitions) -> NDArray[np.float64]:
        pictures = [painted(pixels, labels, row) for row in coalitions]
        return np.asarray((clip.images(pictures).double() @ wanted).cpu().numpy())

    draw = np.random.default_rng(options.draw)
    plan = lime_plan(count, max(options.budget, 2 * count), draw, width=options.width, ridge=options.ridge)
    played = play(value, plan, batch=32, progress=progress)
    estimate = played.estimate
    node = xr.Dataset(
        {
            "map": (("y", "x"), estimate.phi[labels].astype(np.float32), Meaning("map").attrs),
            "label": (("y", "x"), labels.astype(np.int32)),
            "phi": ("superpixel", estimate.phi),
        },
        coords={
            "superpixel": ("superpixel", list(range(count))),
            "y": ("y", centres(labels.shape[0])),
            "x": ("x", centres(labels.shape[1])),
        },
        attrs={
            "method": "lime_image",
            "phrase": phrase,
            "value": f"clip score ({clip.source})",
            "r2": estimate.r2,
            "coalitions": len(plan.coalitions),
            "full": estimate.full,
            "empty": estimate.empty,
        },
    )
    return trace.explanation(0, {"lime_image/parts": node}, {"notes": notes_on(model, clip)})
