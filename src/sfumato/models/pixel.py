"""Diffusion on pixels: DDPM and DDIM pipelines on a ``UNet2DModel``, and the label-conditional pipeline of our own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from sfumato.errors import ModelError
from sfumato.models import noise
from sfumato.models.completing import Completed
from sfumato.models.model import Branches, Made, OnStep, ReferenceTokens, Site, Source
from sfumato.models.notes import Notes, notes_of
from sfumato.models.schedulers import DEFAULT_STEPS, check_schedule, choices, known_scheduler
from sfumato.models.words import Tokens
from sfumato.request import CompletedRequest, Request


class PixelModel:
    """A ``DDPMPipeline`` or ``DDIMPipeline``: an unconditional model whose latent is the image itself.

    Args:
        pipeline: The pipeline, used as it is; nothing in it is replaced.
        source: Where it came from.
    """

    family = "pixel"
    features = frozenset({"replay"})
    condition: str | None = None
    decoder: nn.Module | None = None
    time_scale = 1.0
    mixes = True
    how_to_guide = "raise guidance above 1"
    masks_padding = False

    def __init__(self, pipeline: Any, source: Source) -> None:
        self.arguments: Mapping[str, Any] = {}
        self.pipeline = pipeline
        self._completed = Completed()
        self.source = source

    @property
    def denoiser(self) -> nn.Module:
        """The U-Net."""
        unet: nn.Module = self.pipeline.unet
        return unet

    def complete(self, request: Request) -> CompletedRequest:
        """Fill open fields: the U-Net's own size, steps from the model's recommendation, no guidance.

        Raises:
            ModelError: The request asks for something that such a model does not have.
        """
        return self._completed.of(request, self._filled)

    def _filled(self, request: Request) -> CompletedRequest:
        for name in ("prompt", "negative_prompt"):
            if getattr(request, name):
                raise ModelError(f"{self.source.name} takes no text; leave out the {name.replace('_', ' ')}")
        for name in ("image", "strength", "mask", "reference", "invert"):
            if getattr(request, name) is not None:
                raise ModelError(f"{self.source.name} starts from noise and takes no {name}")
        if request.label is not None and "label" not in self.features:
            raise ModelError(f"{self.source.name} has no labels; leave out the label")
        sides = self._sides
        for name, side in zip(("height", "width"), sides, strict=True):
            if getattr(request, name) not in (None, side):
                raise ModelError(f"{name} is {getattr(request, name)}; this model makes images of {side} pixels only")
        done = request.filled(
            steps=request.steps or self._notes.steps or DEFAULT_STEPS,
            guidance=self._guidance(request, 1.0 if self._notes.guidance is None else self._notes.guidance),
            height=sides[0],
            width=sides[1],
            scheduler=known_scheduler(self.pipeline, request.scheduler),
        )
        check_schedule(self.pipeline, done)
        self._check_scheduler(done.scheduler)
        return done

    def call(self, requests: Sequence[CompletedRequest], on_step: OnStep) -> Made:
        """Run ``DDPMPipeline.__call__``, which tells of no step; every image has a CPU generator of its own."""
        generators = [torch.Generator().manual_seed(seed) for r in requests for seed in r.seeds]
        pixels = self.pipeline(
            batch_size=len(generators),
            generator=generators,
            num_inference_steps=requests[0].steps,
            output_type="np",
        ).images
        latents = torch.from_numpy(np.asarray(pixels)).permute(0, 3, 1, 2) * 2 - 1
        return Made(self.pipeline.numpy_to_pil(pixels), latents.to(self.pipeline.unet.device))

    def steps(self, request: CompletedRequest) -> int:
        """All that are asked for."""
        return request.steps

    def tokens(self, prompt: str, *, negative: bool = False) -> Tokens:
        """There is no text.

        Raises:
            ModelError: Always.
        """
        raise ModelError(f"{self.source.name} takes no text, so it has no words")

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        """None: there is no text."""
        return ()

    def branches(self, request: CompletedRequest) -> Branches:
        """One: nothing guides the model."""
        return Branches(("conditional",))

    def sites(self) -> tuple[Site, ...]:
        """The attention modules, all of them among positions."""
        order = {"down": 0, "mid": 1, "up": 2}
        found = [
            Site(name, "self", place, name)
            for name, module in self.denoiser.named_modules()
            if hasattr(module, "to_k") and (place := _place(name))
        ]
        return tuple(sorted(found, key=lambda site: order[site.place]))

    def reference_tokens(self, adapter: int = 1) -> ReferenceTokens:
        """There is no reference.

        Raises:
            ModelError: Always.
        """
        raise ModelError(f"{self.source.name} takes no reference image")

    def latent_grid(self, request: CompletedRequest) -> tuple[int, int]:
        """Height and width of the image."""
        return self._sides

    @property
    def _sides(self) -> tuple[int, int]:
        size = self.pipeline.unet.config.sample_size
        return (int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1]))

    @property
    def channels(self) -> int:
        """Of the image."""
        config = self.pipeline.unet.config
        return int(min(config.in_channels, getattr(config, "out_channels", None) or config.in_channels))

    def token_grid(self, request: CompletedRequest) -> tuple[int, int]:
        """The latent's."""
        return self.latent_grid(request)

    def spatial(self, latents: torch.Tensor, request: CompletedRequest) -> torch.Tensor:
        """They are maps already."""
        return latents

    def pooled(self, conditions: Sequence[str]) -> dict[str, torch.Tensor]:
        """Nothing: labels are all that such a model is told."""
        return {}

    def encode(self, conditions: Sequence[str], *, gradients: bool = False) -> torch.Tensor:
        """There is no condition.

        Raises:
            ModelError: Always.
        """
        raise ModelError(f"{self.source.name} has no condition: neither text nor labels")

    def clean(self, output: torch.Tensor, sample: torch.Tensor, timestep: float) -> torch.Tensor:
        """See `sfumato.models.noise.clean`."""
        return noise.clean(self.pipeline.scheduler, output, sample, timestep)

    def levels(self, timestep: float) -> tuple[torch.Tensor, torch.Tensor]:
        """See `sfumato.models.noise.levels`."""
        return noise.levels(self.pipeline.scheduler, timestep)

    def decode(self, latents: torch.Tensor, *, gradients: bool = False) -> torch.Tensor:
        """The same: the latent is the image. A single channel is repeated to three."""
        return latents if latents.shape[1] == 3 else latents[:, :1].expand(-1, 3, -1, -1)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """The same: the image is the latent."""
        return images[:, : int(self.pipeline.unet.config.in_channels)]

    def _check_scheduler(self, name: str) -> None:
        """Refuse what ``DDPMPipeline`` and ``DDIMPipeline`` cannot run: they scale neither noise nor input."""
        needs = {"generator"} | ({"eta"} if type(self.pipeline).__name__ == "DDIMPipeline" else set())
        kind = choices(self.pipeline)[name]
        scheduler = kind.from_config(self.pipeline.scheduler.config)  # type: ignore[attr-defined]
        takes = set(inspect.signature(scheduler.step).parameters)
        if not needs <= takes or hasattr(scheduler, "sigmas"):
            raise ModelError(f"{type(self.pipeline).__name__} cannot run the scheduler {name!r}; take ddim or its own")

    def _guidance(self, request: Request, recommended: float) -> float:
        if (request.guidance or 1.0) > 1:
            raise ModelError(f"{self.source.name} has no condition to guide it; leave out the guidance")
        return 1.0

    @cached_property
    def _notes(self) -> Notes:
        return notes_of(self.pipeline)


class LabelModel(PixelModel):
    """A ``LabelPipeline``: labels of some bits, with classifier-free guidance."""

    features = PixelModel.features | {"label"}
    condition = "class_labels"

    def _filled(self, request: Request) -> CompletedRequest:
        if request.label is not None:
            self._checked(request.label)
        return super()._filled(request)

    def call(self, requests: Sequence[CompletedRequest], on_step: OnStep) -> Made:
        """Run ``LabelPipeline.__call__``; every image has a CPU generator of its own."""
        first = requests[0]
        made = self.pipeline(
            [None if r.label is None else int(r.label, 2) for r in requests for _ in r.seeds],
            generator=[torch.Generator().manual_seed(seed) for r in requests for seed in r.seeds],
            num_inference_steps=first.steps,
            guidance_scale=first.guidance,
            callback_on_step_end=on_step,
        )
        return Made(made.images)

    def branches(self, request: CompletedRequest) -> Branches:
        """Unconditional, then conditional; only conditional with guidance off."""
        return Branches(("unconditional", "conditional") if request.guidance > 1 else ("conditional",))

    def sites(self) -> tuple[Site, ...]:
        """The linear attentions."""
        names = [name for name, _ in self.denoiser.named_modules() if name.endswith(".fn")]
        order = {"down": 0, "mid": 1, "up": 2}
        return tuple(sorted((Site(n, "self", _place(n), n) for n in names), key=lambda site: order[site.place]))

    def encode(self, conditions: Sequence[str], *, gradients: bool = False) -> torch.Tensor:
        """The numbers of labels, (label,); "" is no label.

        Raises:
            ModelError: A label is not of so many bits.
        """
        none = int(self.pipeline.unet.config.labels)
        numbers = [int(self._checked(label), 2) if label else none for label in conditions]
        return torch.tensor(numbers, device=self.pipeline.unet.device)

    @property
    def bits(self) -> int:
        """How many bits a label has."""
        return max(1, (int(self.pipeline.unet.config.labels) - 1).bit_length())

    def _check_scheduler(self, name: str) -> None:
        """All can be run."""

    def _checked(self, label: str) -> str:
        labels = int(self.pipeline.unet.config.labels)
        if len(label) == self.bits and not set(label) - {"0", "1"} and int(label, 2) >= labels:
            raise ModelError(
                f"the label is {label!r}; this model has {labels} labels, up to {labels - 1:0{self.bits}b}"
            )
        if len(label) != self.bits or set(label) - {"0", "1"}:
            names = self._notes.attributes
            said = f" ({', '.join(names)})" if names else ""
            example = f"{3 % 2**self.bits:0{self.bits}b}"
            raise ModelError(f"the label is {label!r}; expected {self.bits} bits{said}, such as {example!r}")
        return label

    def _guidance(self, request: Request, recommended: float) -> float:
        if request.label is None:
            return 1.0
        return recommended if request.guidance is None else request.guidance


def _place(name: str) -> str:
    """The part of a U-Net that a module lies in; "" for none."""
    top = name.partition(".")[0]
    return next((place for place in ("down", "mid", "up") if top.startswith(place)), "")
