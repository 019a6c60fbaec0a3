"""Concept relevance per step: which words led what a step made, through all attention layers?

Source: Park et al. 2024, "Explaining generative diffusion models via visual analysis": cross-attention mapping, and its
"correlation quantification", which is not defined in what is published. Here it is the rank correlation, over words,
between a step's relevance and what each word adds to the agreement of the final image with its prompt (CLIP).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sfumato.errors import ModelError, OptionError, RequestError
from sfumato.generation.generate import generate
from sfumato.generation.trace import Trace
from sfumato.methods.costs import runs
from sfumato.metrics import rank_correlation
from sfumato.models.model import Model
from sfumato.models.words import Word, without
from sfumato.option_values import MEGABYTES, STEPS
from sfumato.progress import Progress
from sfumato.registry import method
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.results.images import centres
from sfumato.results.meaning import Meaning
from sfumato.saliency.recovering import steps_at
from sfumato.saliency.relevance import relevance as of_step
from sfumato.similarity import Clip, clip_for
from sfumato.similarity.judges import JUDGED, notes_on


@dataclass(frozen=True)
class RelevanceOptions:
    """Options of ``relevance``."""

    at: tuple[int, ...] = field(default=(), metadata=STEPS | {"help": "steps (from 0); all"})
    budget: float = field(
        default=2000.0, metadata=MEGABYTES | {"help": "most memory that the attention of one step may take, in MB"}
    )
    clip_model: str | None = field(default=None, metadata={"disk": "model", "help": JUDGED})


def _steps(model: Model, request: CompletedRequest, options: RelevanceOptions) -> list[int]:
    return steps_at(model, request, options.at or range(model.steps(request)))


def _cost(model: Model, request: CompletedRequest, options: RelevanceOptions) -> str:
    count = len(_steps(model, request, options))
    return f"{runs(model, request)}, then {count} calls forwards and backwards at {count} steps"


@method(
    "relevance",
    summary="Which words led at each step? Relevance through all attention layers",
    options=RelevanceOptions,
    needs=("words", "cross-attention", "followed", "replay"),
    cost=_cost,
    paper="Park et al. 2024, Explaining generative diffusion models via visual analysis; rules: Chefer et al. 2021",
)
def relevance(
    model: Model, requests: Sequence[CompletedRequest], options: RelevanceOptions, progress: Progress
) -> list[Explanation]:
    """Follow the words of every request over its steps."""
    return [_explained(model, request, options, progress) for request in requests]


def _explained(model: Model, request: CompletedRequest, options: RelevanceOptions, progress: Progress) -> Explanation:
    if request.images != 1:
        raise OptionError("relevance follows one image; explain each seed by itself")
    words = [word for word in model.tokens(request.prompt).words if word.seen]
    if not words:
        raise RequestError("the prompt has no words to follow; write what the image shows, such as 'a red circle'")
    steps = _steps(model, request, options)
    clip, notes = _judge(model, options.clip_model)
    trace = generate(model, request, record=set(steps), progress=progress)
    maps = []
    for number, step in enumerate(steps):
        tokens = of_step(trace, step, budget=options.budget * 1e6)
        maps.append(np.stack([tokens[list(word.tokens)].sum(0).numpy() for word in words]))
        progress("steps", number + 1, len(steps))
    stacked = np.stack(maps)  # (step, word, y, x)
    scores = stacked.sum((-2, -1)).astype(np.float64)
    agreement = _agreement(trace, words, clip)
    height, width = stacked.shape[-2:]
    node = xr.Dataset(
        {
            "map": (("step", "word", "y", "x"), stacked.astype(np.float32), Meaning("map").attrs),
            "score": (("step", "word"), scores, Meaning("curve").attrs),
            "relative": (("step", "word"), _relative(scores)),
            "image_score": ("word", agreement),
            "correlation": ("step", [rank_correlation(row, agreement) for row in scores]),
        },
        coords={
            "step": ("step", steps),
            "timestep": ("step", [trace.call(step).timestep for step in steps]),
            "word": ("word", [word.text for word in words]),
            "occurrence": ("word", [word.occurrence for word in words]),
            "index": ("word", [word.index for word in words]),
            "pos": ("word", [word.pos for word in words]),
            "y": ("y", centres(height)),
            "x": ("x", centres(width)),
        },
        attrs={
            "method": "relevance",
            "unit": "relevance, summed over places",
            "judge": "none" if clip is None else f"clip ({clip.source})",
        },
    )
    return trace.explanation(0, {"relevance": node}, {"notes": notes})


def _judge(model: Model, given: str | None) -> tuple[Clip | None, list[str]]:
    """The CLIP of the agreement and what to note of it; none where nothing fits, since the maps need none.

    Raises:
        ModelError: One was given and cannot be read.
    """
    try:
        clip = clip_for(model, given, texts=True)
    except ModelError as error:
        if given is not None:
            raise
        return None, [f"the agreement with the prompt is left out: {error}"]
    return clip, notes_on(model, clip)


def _relative(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores (step, word) brought to 0 to 1 at every step."""
    low, spread = scores.min(1, keepdims=True), np.ptp(scores, axis=1, keepdims=True)
    return np.asarray((scores - low) / np.where(spread > 0, spread, 1))


def _agreement(trace: Trace, words: Sequence[Word], clip: Clip | None) -> NDArray[np.float64]:
    """What every word adds to the cosine, in CLIP, of the final image with the prompt: (word,); NaN without a CLIP."""
    if clip is None:
        return np.full(len(words), np.nan)
    prompt = trace.requests[0].prompt
    texts = [prompt, *(without(prompt, [one]) for one in words)]
    cosines = (clip.texts(texts) @ clip.images([np.asarray(trace.images[0].convert("RGB"))]).T)[:, 0].cpu()
    return np.asarray((cosines[0] - cosines[1:]).double().numpy())
