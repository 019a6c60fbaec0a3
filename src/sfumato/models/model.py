"""What a method may ask of a model. One small class per pipeline family answers; no method lives there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from PIL import Image
from torch import nn

from sfumato.errors import ModelError
from sfumato.models.words import Tokens
from sfumato.request import CompletedRequest, Request

Kind = Literal["self", "cross", "joint", "added"]
"""What attention reads: the image's own positions; the prompt's tokens; both in one softmax; the image's own positions
with keys of the prompt added."""


FEATURES: Mapping[str, str] = {
    "words": "a prompt",
    "label": "a label",
    "image": "an image to start from",
    "mask": "a mask to paint into",
    "reference": "a reference image",
    "token-maps": "attention on tokens that can be mapped",
    "cross-attention": "a softmax over tokens alone",
    "text-stream": "a text stream of its own, next to the image's",
    "followed": "one text encoder, through which relevance can be followed",
    "replay": "single steps that can be called again",
}
"""What methods may rely on, each as people read it: the parts of a method's ``needs`` and of a model's ``features``."""


@dataclass(frozen=True)
class Site:
    """One attention module of the denoiser.

    Attributes:
        name: Path of the module inside the denoiser.
        kind: What it reads.
        place: The part of the denoiser it lies in: "down", "mid" or "up"; of a transformer "block", or "single" where
            text and image are one stream.
        frame: Path of the module whose 4-D input gives the site's grid (height, width); None where the denoiser works
            on a sequence, whose grid the model knows (``token_grid``).
        text_first: Whether tokens stand before the image's positions, where both are in one sequence.
        registers: How many keys before the tokens stand for nothing.
    """

    name: str
    kind: Kind
    place: str
    frame: str | None = None
    text_first: bool = True
    registers: int = 0

    @property
    def mixes_positions(self) -> bool:
        """Whether positions of the image attend to one another, alone or in one softmax with the text."""
        return self.kind != "cross"


@dataclass(frozen=True)
class ReferenceTokens:
    """How the denoiser reads a reference image: through some attention calls, as tokens.

    Attributes:
        sites: The attention modules that read it, in order of execution.
        orders: Which call of each module: 0 for the first in a forward; image-prompt adapters come after the text.
        grid: Rows and columns of the tokens; (1, n) where a token stands for no place of the reference.
        patches: Whether every token is a patch of the reference, row by row.
    """

    sites: tuple[Site, ...]
    orders: tuple[int, ...]
    grid: tuple[int, int]
    patches: bool


@dataclass(frozen=True)
class Branches:
    """The layout of the denoiser's batch: one block of rows per guidance branch, each with all items in order.

    Attributes:
        names: The branches in order.
        sequential: Whether every branch is a call of the denoiser of its own, one after the other at each step.
    """

    names: tuple[str, ...]
    sequential: bool = False

    def rows(self, branch: str, items: int) -> slice:
        """The rows of a branch in a batch of ``items`` images (of its own call, where branches are sequential).

        Raises:
            ModelError: The request has no such branch (guidance off has no "unconditional" one).
        """
        if branch not in self.names:
            raise ModelError(f"this request has no {branch} branch; it has: {', '.join(self.names)}")
        at = 0 if self.sequential else self.names.index(branch)
        return slice(at * items, (at + 1) * items)

    @property
    def calls(self) -> int:
        """How many calls of the denoiser a step takes."""
        return len(self.names) if self.sequential else 1

    @property
    def blocks(self) -> int:
        """How many blocks of rows a call has."""
        return 1 if self.sequential else len(self.names)


@dataclass(frozen=True)
class Source:
    """Where a model came from: the name it was asked for by, and the revision of a hub model."""

    name: str
    revision: str | None = None


OnStep = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]
"""What diffusers calls ``callback_on_step_end``."""


@dataclass(frozen=True)
class Made:
    """What a pipeline's call gave.

    Attributes:
        images: One image per item.
        latents: The final latents (item, channel, y, x), where the pipeline tells of them only at the end.
        blocked: Which images a safety checker replaced; empty where there is none.
    """

    images: list[Image.Image]
    latents: torch.Tensor | None = None
    blocked: tuple[bool, ...] = ()


class Model(Protocol):
    """A diffusers pipeline and the facts about it.

    Attributes:
        pipeline: The pipeline itself.
        source: Where it came from.
        family: Name of the family.
        features: What methods may rely on, of ``FEATURES``.
        condition: The denoiser's argument that carries the prompt or the label; None where nothing does.
        arguments: What else its user wants the pipeline's call to be given, by name.
        time_scale: By what the denoiser's timestep is multiplied to give the scheduler's.
        mixes: Whether requests with and without a negative prompt can share a batch.
        how_to_guide: What to do to have a branch that a negative prompt counts in.
        masks_padding: Whether the denoiser is told which tokens are padding.
    """

    pipeline: Any
    source: Source
    family: str
    features: frozenset[str]
    condition: str | None
    arguments: Mapping[str, Any]
    time_scale: float
    mixes: bool
    how_to_guide: str
    masks_padding: bool

    @property
    def denoiser(self) -> nn.Module:
        """The network that is called at every step."""
        ...

    @property
    def decoder(self) -> nn.Module | None:
        """The network that turns the final latent into an image; None where the latent is the image."""
        ...

    def complete(self, request: Request) -> CompletedRequest:
        """Fill what a request leaves open with the model's defaults and check the rest against the model.

        A request that this model has completed is given back as it is.
        """
        ...

    def call(self, requests: Sequence[CompletedRequest], on_step: OnStep) -> Made:
        """The pipeline's own call, for completed requests that share all settings but text, label and seeds.

        A pipeline that tells of its steps calls ``on_step`` after each.
        """
        ...

    def steps(self, request: CompletedRequest) -> int:
        """How many denoising steps the run of a completed request has."""
        ...

    def tokens(self, prompt: str, *, negative: bool = False) -> Tokens:
        """The prompt, or the negative one, as the denoiser's context holds it."""
        ...

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        """Words that the model is known never to have been trained on (empty when nobody recorded its words)."""
        ...

    def branches(self, request: CompletedRequest) -> Branches:
        """The guidance branches of a completed request."""
        ...

    def sites(self) -> tuple[Site, ...]:
        """The attention modules of the denoiser in order of execution."""
        ...

    def reference_tokens(self, adapter: int = 1) -> ReferenceTokens:
        """How a reference image is read.

        Args:
            adapter: By which of several image-prompt adapters, from 1.

        Raises:
            ModelError: The model takes none, or has no such adapter.
        """
        ...

    def latent_grid(self, request: CompletedRequest) -> tuple[int, int]:
        """Height and width of the latent of a completed request."""
        ...

    @property
    def channels(self) -> int:
        """How many channels a latent has, without what a denoiser takes or gives beside it."""
        ...

    def token_grid(self, request: CompletedRequest) -> tuple[int, int]:
        """Height and width of the positions that a transformer works on; of a U-Net, the latent's."""
        ...

    def spatial(self, latents: torch.Tensor, request: CompletedRequest) -> torch.Tensor:
        """Latents as the pipeline tells of them, as maps (item, channel, y, x)."""
        ...

    def pooled(self, conditions: Sequence[str]) -> dict[str, torch.Tensor]:
        """What the denoiser is told of prompts beside ``encode``, by argument; "a.b" is the entry b of a dictionary."""
        ...

    def encode(self, conditions: Sequence[str], *, gradients: bool = False) -> torch.Tensor:
        """The denoiser's condition for prompts, (prompt, token, channel), or for labels, (label,); "" is none."""
        ...

    def clean(self, output: torch.Tensor, sample: torch.Tensor, timestep: float) -> torch.Tensor:
        """The clean latent that a denoiser's output implies, from its input and timestep."""
        ...

    def levels(self, timestep: float) -> tuple[torch.Tensor, torch.Tensor]:
        """By what the clean latent and the noise are multiplied in the denoiser's input at a timestep."""
        ...

    def decode(self, latents: torch.Tensor, *, gradients: bool = False) -> torch.Tensor:
        """Latents (item, channel, y, x) to images (item, 3, y, x) from -1 to 1."""
        ...

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Images (item, 3, y, x) from -1 to 1 to latents (item, channel, y, x), as a function with derivatives."""
        ...


def modules_of(pipeline: Any) -> dict[str, nn.Module]:
    """The networks of a pipeline by component name."""
    return {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
