"""Word gradients: which words does a score of the image lean on? One backward pass through the last steps.

The last steps are run again with the condition as a variable e (as DDIM steps, whatever the scheduler, with activation
checkpointing). Token k gets dS/de_k . (e_k - p_k), p being the condition of the empty prompt: the first-order answer to
replacing the token by padding. A word gets the sum of its tokens. Cheap, and blind to what is not local.

On image-to-image pipelines also for the pixels p of the image that the run starts from: dS/dp through the encoder and
all steps, as its length over the channels and as dS/dp . (p - mean colour).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
import xarray as xr
from torch.utils.checkpoint import checkpoint

from sfumato.errors import ModelError, NonFinite, OptionError
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
from sfumato.results.meaning import IMPORTANCE, Meaning
from sfumato.similarity import Clip, clip_for
from sfumato.similarity.judges import JUDGED, notes_on

Target = Literal["clip", "similarity", "brightness"]
TARGETS: tuple[Target, ...] = ("clip", "similarity", "brightness")
Of = Literal["words", "pixels"]
OF: tuple[Of, ...] = ("words", "pixels")
LUMINANCE = (0.2126, 0.7152, 0.0722)
HALF_WAY = 0.5
Score = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class WordGradientsOptions:
    """Options of ``word_gradients``."""

    of: Of = field(
        default="words", metadata={"help": "what is judged: words, or pixels of the image that the run starts from"}
    )
    target: Target = field(
        default="clip", metadata={"help": "clip (score with a text), similarity (to the image) or brightness"}
    )
    text: str | None = field(
        default=None, metadata={"help": "what the image is scored with, for target=clip; the prompt"}
    )
    region: tuple[float, ...] = field(
        default=(0.0, 0.0, 1.0, 1.0),
        metadata={
            "least": 0,
            "most": 1,
            "longest": 4,
            "help": "top, left, bottom, right as shares of the image, for target=brightness",
        },
    )
    through: int = field(
        default=3, metadata=STEPS | {"help": "how many of the last steps gradients go through; 0 for all"}
    )
    players: Group = field(default="word", metadata={"help": "what is judged: word, or phrase"})
    clip_model: str | None = field(default=None, metadata={"disk": "model", "help": JUDGED})

    def __post_init__(self) -> None:
        """Check what the options mean together."""
        if self.of == "pixels" and self.target == "similarity":
            raise OptionError(
                "the similarity is largest at the image itself, so pixels have no gradient; take target='clip'"
            )
        if self.text is not None and self.target != "clip":
            raise OptionError(f"text is given, but target={self.target!r} compares with no text; take target='clip'")
        top, left, bottom, right = (*self.region, *[0.0] * 4)[:4]
        if len(self.region) != 4 or not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
            raise OptionError(
                f"region is {self.region}; expected top, left, bottom, right as shares, such as 0,0,0.5,1"
            )


def _cost(model: Model, request: CompletedRequest, options: WordGradientsOptions) -> str:
    steps = model.steps(request)
    through = steps if options.through == 0 or options.of == "pixels" else min(options.through, steps)
    calls = 2 * through * len(model.branches(request).names)
    return f"{runs(model, request)}, then {through} steps forwards, again and backwards (up to {calls} calls)"


@method(
    "word_gradients",
    summary="Which words does a score of the image lean on? Gradient times embedding, through the last steps",
    options=WordGradientsOptions,
    needs=("words", "replay"),
    cost=_cost,
    paper="gradient times input: Shrikumar et al. 2017, arXiv 1704.02685; here on words and through the sampler",
)
def word_gradients(
    model: Model, requests: Sequence[CompletedRequest], options: WordGradientsOptions, progress: Progress
) -> list[Explanation]:
    """Judge the words of every request by one backward pass."""
    clip = None
    if options.target != "brightness":
        clip = clip_for(model, options.clip_model, texts=options.target == "clip", instead="target=brightness")
    return [_explained(model, request, options, clip, progress) for request in requests]


def _explained(
    model: Model, request: CompletedRequest, options: WordGradientsOptions, clip: Clip | None, progress: Progress
) -> Explanation:
    if request.images != 1:
        raise OptionError("word_gradients judges one image at a time; explain each seed by itself")
    if "mask" in model.features:
        raise ModelError(
            "word_gradients makes the last steps again without what an inpainting pipeline does between them; take a "
            "text-to-image or image-to-image pipeline"
        )
    if options.of == "pixels":
        return _pixels_explained(model, request, options, clip, progress)
    players = players_of(model.tokens(request.prompt), options.players)
    trace = generate(model, request, record=True, progress=progress)
    first = 0 if options.through == 0 else max(0, model.steps(request) - options.through)
    condition = _condition(trace, first)
    padding = model.encode([""]).to(condition)
    if padding.shape != condition.shape:
        raise ModelError(
            f"the condition of the empty prompt has the shape {tuple(padding.shape)}, that of the prompt "
            f"{tuple(condition.shape)}; word_gradients needs a context of one length"
        )
    score = _score(trace, options, clip)
    at = padding + (HALF_WAY if options.target == "similarity" else 1.0) * (condition - padding)
    inputs = at.clone().requires_grad_(True)
    value = score(_image(trace, first, inputs, _sample(trace, first), progress))
    (gradient,) = torch.autograd.grad(value, inputs)
    _demand_finite(value, gradient)
    tokens = (gradient * (condition - padding)).sum(-1)[0].double().cpu().numpy()  # (token,)
    words = model.tokens(request.prompt).words
    phi = np.array([sum(tokens[list(words[place].tokens)].sum() for place in one.words) for one in players])
    total = np.abs(phi).sum()
    node = xr.Dataset(
        {
            "phi": ("player", phi, IMPORTANCE["phi"].attrs),
            "share": ("player", np.abs(phi) / total if total > 0 else np.nan * phi, IMPORTANCE["share"].attrs),
            "error": ("player", np.full(len(phi), np.nan), IMPORTANCE["error"].attrs),
            "score": ((), float(value.detach())),
        },
        coords={
            "player": ("player", [player.name for player in players]),
            "first_word": ("player", [player.words[0] for player in players]),
        },
        attrs={
            "method": "word_gradients",
            "value": _in_words(request, options, clip),
            "estimator": "gradient times embedding",
            "steps_through": model.steps(request) - first,
        },
    )
    return trace.explanation(0, {"word_gradients/word_importance": node}, _notes(model, clip))


def _pixels_explained(
    model: Model, request: CompletedRequest, options: WordGradientsOptions, clip: Clip | None, progress: Progress
) -> Explanation:
    if "image" not in model.features or request.image is None:
        raise ModelError(
            f"{model.source.name} starts from noise, so there are no pixels to judge; take of='words', or load it with "
            "task='image-to-image'"
        )
    trace = generate(model, request, record=True, progress=progress)
    weights = next(model.denoiser.parameters())
    given = torch.from_numpy(request.image.array.copy()).permute(2, 0, 1)[None].to(weights) / 127.5 - 1
    inputs = given.clone().requires_grad_(True)
    latent = model.embed(inputs)
    signal, _ = (level.to(latent) for level in model.levels(trace.call(0).timestep))
    # The run's own start, to which the encoder's noise and the schedule's belong, with the derivative of the image.
    sample = _sample(trace, 0) + signal * (latent - latent.detach())
    value = _score(trace, options, clip)(_image(trace, 0, _condition(trace, 0), sample, progress))
    (gradient,) = torch.autograd.grad(value, inputs)
    _demand_finite(value, gradient)
    centred = given - given.mean((-2, -1), keepdim=True)
    data = {
        "sensitivity": (gradient.norm(dim=1), Meaning("map").attrs),
        "attribution": ((gradient * centred).sum(1), {}),
    }
    height, width = request.image.height, request.image.width
    node = xr.Dataset(
        {name: (("y", "x"), values[0].float().cpu().numpy(), attrs) for name, (values, attrs) in data.items()}
        | {
            "score": ((), float(value.detach())),
            "given": (("y", "x", "channel"), request.image.array),
        },
        coords={
            "y": ("y", centres(height)),
            "x": ("x", centres(width)),
            "channel": ("channel", ["R", "G", "B"]),
        },
        attrs={
            "method": "word_gradients",
            "value": _in_words(request, options, clip),
            "estimator": "gradient times pixel",
        },
    )
    return trace.explanation(0, {"word_gradients/pixels": node}, _notes(model, clip))


def _notes(model: Model, clip: Clip | None) -> dict[str, list[str]]:
    return {} if clip is None else {"notes": notes_on(model, clip)}


def _condition(trace: Trace, step: int) -> torch.Tensor:
    condition = trace.call(step).condition
    assert condition is not None  # the method needs words
    return condition[trace.branches.rows("conditional", 1)].detach()


def _sample(trace: Trace, step: int) -> torch.Tensor:
    return trace.call(step).sample[trace.branches.rows("conditional", 1)].detach()


def _image(trace: Trace, first: int, condition: torch.Tensor, sample: torch.Tensor, progress: Progress) -> torch.Tensor:
    """The image (1, channel, y, x) from -1 to 1 as a function of condition and noisy latent at the step ``first``."""
    model = trace.model
    steps = [step for step in trace.steps if step >= first]
    for number, step in enumerate(steps):
        progress("steps with gradients", number, len(steps))

        def guided(x: torch.Tensor, e: torch.Tensor, step: int = step) -> torch.Tensor:
            return trace.replay_guided(step, sample=x, condition=e, gradients=True)

        output = checkpoint(guided, sample, condition, use_reentrant=False)
        timestep = trace.call(step).timestep
        clean = model.clean(output[:, : model.channels], sample, timestep)
        if step == steps[-1]:
            sample = clean
            break
        signal, noise = model.levels(timestep)
        left = (sample - signal * clean) / noise
        signal, noise = model.levels(trace.call(steps[number + 1]).timestep)
        sample = signal * clean + noise * left
    progress("steps with gradients", len(steps), len(steps))
    return model.decode(sample, gradients=True)


def _score(trace: Trace, options: WordGradientsOptions, clip: Clip | None) -> Score:
    if clip is None:
        weight = torch.tensor(LUMINANCE).view(1, 3, 1, 1)
        top, left, bottom, right = options.region

        def brightness(image: torch.Tensor) -> torch.Tensor:
            height, width = image.shape[-2:]
            y, x = _share(top, bottom, height), _share(left, right, width)
            return ((image[..., y, x].clamp(-1, 1) + 1) / 2 * weight.to(image)).sum(1).mean()

        return brightness
    if options.target == "clip":
        wanted = clip.texts([trace.requests[0].prompt if options.text is None else options.text])
    else:
        wanted = clip.images([np.asarray(trace.images[0].convert("RGB"))])
    return lambda image: (clip.directions(image) @ wanted.T).sum()


def _share(start: float, end: float, size: int) -> slice:
    """At least one pixel of an axis, from a share of its size to another."""
    first = min(round(start * size), size - 1)
    return slice(first, max(round(end * size), first + 1))


def _demand_finite(*found: torch.Tensor) -> None:
    if not all(bool(torch.isfinite(one).all()) for one in found):
        raise NonFinite("the score or its gradient is NaN or infinite; try float32, fewer steps or another target")


def _in_words(request: CompletedRequest, options: WordGradientsOptions, clip: Clip | None) -> str:
    if clip is None:
        return f"brightness of the region {', '.join(f'{end:g}' for end in options.region)}"
    if options.target == "clip":
        return f"clip score ({clip.source}) with {options.text or request.prompt!r}"
    return f"clip similarity ({clip.source}) to the image, half way from padding"
