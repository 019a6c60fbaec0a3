"""What a method may ask of a model. One small class per pipeline family answers; no method lives there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from PIL import Image
from torch import nn

from sfumato.errors import ModelError
from sfumato.models.words import Tokens
from sfumato.request import Request

Kind = Literal["self", "cross"]


@dataclass(frozen=True)
class Site:
    """One attention module of the denoiser.

    Attributes:
        name: Path of the module inside the denoiser.
        kind: "self" or "cross" (a family with other kinds of attention adds its own here).
        place: The part of the denoiser it lies in: "down", "mid" or "up".
        frame: Path of the module whose 4-D input gives the site's grid (height, width).
    """

    name: str
    kind: Kind
    place: str
    frame: str


@dataclass(frozen=True)
class ReferenceTokens:
    """How the denoiser reads a reference image: through some attention calls, as tokens.

    Attributes:
        sites: The attention modules that read it, in order of execution.
        order: Which call of these modules: 0 for the first in a forward; image-prompt adapters come after the text.
        grid: Rows and columns of the tokens; (1, n) where a token stands for no place of the reference.
        patches: Whether every token is a patch of the reference, row by row.
    """

    sites: tuple[Site, ...]
    order: int
    grid: tuple[int, int]
    patches: bool


@dataclass(frozen=True)
class Branches:
    """The layout of the denoiser's batch: one block of rows per guidance branch, each with all items in order."""

    names: tuple[str, ...]

    def rows(self, branch: str, items: int) -> slice:
        """The rows of a branch in a batch of ``items`` images.

        Raises:
            ModelError: The request has no such branch (guidance off has no "unconditional" one).
        """
        if branch not in self.names:
            raise ModelError(f"this request has no {branch} branch; it has: {', '.join(self.names)}")
        at = self.names.index(branch)
        return slice(at * items, (at + 1) * items)


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
        features: What methods may rely on: "words", "label", "cross-attention", "replay",
            "image", "mask" (it paints into one), "reference".
        condition: The denoiser's argument that carries the prompt or the label; None where nothing does.
    """

    pipeline: Any
    source: Source
    family: str
    features: frozenset[str]
    condition: str | None

    @property
    def denoiser(self) -> nn.Module:
        """The network that is called at every step."""
        ...

    @property
    def decoder(self) -> nn.Module | None:
        """The network that turns the final latent into an image; None where the latent is the image."""
        ...

    def complete(self, request: Request) -> Request:
        """Fill what a request leaves open with the model's defaults and check the rest against the model."""
        ...

    def call(self, requests: Sequence[Request], on_step: OnStep) -> Made:
        """The pipeline's own call, for completed requests that share all settings but text, label and seeds.

        A pipeline that tells of its steps calls ``on_step`` after each.
        """
        ...

    def steps(self, request: Request) -> int:
        """How many denoising steps the run of a completed request has."""
        ...

    def tokens(self, prompt: str) -> Tokens:
        """The prompt as the denoiser's context holds it."""
        ...

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        """Words that the model is known never to have been trained on (empty when nobody recorded its words)."""
        ...

    def branches(self, request: Request) -> Branches:
        """The guidance branches of a completed request."""
        ...

    def sites(self) -> tuple[Site, ...]:
        """The attention modules of the denoiser in order of execution."""
        ...

    def reference_tokens(self) -> ReferenceTokens:
        """How a reference image is read.

        Raises:
            ModelError: The model takes none.
        """
        ...

    def latent_grid(self, request: Request) -> tuple[int, int]:
        """Height and width of the latent of a completed request."""
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
