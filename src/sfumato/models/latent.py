"""Latent diffusion in general: a denoiser with attention on text, a VAE, guidance; U-Nets and transformers alike."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import nn

from sfumato.errors import ModelError
from sfumato.models import noise, noised_image, vae
from sfumato.models.adapter import adapter_tokens
from sfumato.models.calling import check_arguments, for_each, refusals_named
from sfumato.models.completing import Completed
from sfumato.models.family import Family
from sfumato.models.lexicon import pos
from sfumato.models.model import Branches, Made, OnStep, ReferenceTokens, Site, Source
from sfumato.models.notes import Notes, notes_of
from sfumato.models.schedulers import DEFAULT_STEPS, check_schedule, known_scheduler
from sfumato.models.sites import sites_of
from sfumato.models.tasks import PipelineTask
from sfumato.models.turns import alone
from sfumato.models.words import Tokens, split
from sfumato.request import CompletedRequest, Request

DEFAULT_GUIDANCE = 7.5
PIPELINE_MULTIPLE = 8  # the pipelines' own calls ask for it, whatever the VAE


class LatentModel:
    """A pipeline that makes latents from text and decodes them: what the methods may ask of it.

    Args:
        pipeline: The pipeline, used as it is; nothing in it is replaced.
        source: Where it came from.
        family: What is known of its class.
        task: What it is given beside text.
        arguments: What else its call is given.

    Raises:
        ModelError: The pipeline's call has no such argument, or it is a request's field.
    """

    condition: str | None = "encoder_hidden_states"
    guided_by = "guidance_scale"
    """The argument of the pipeline's call that a request's guidance is."""
    how_to_guide = "raise guidance above 1"

    def __init__(
        self,
        pipeline: Any,
        source: Source,
        family: Family,
        task: PipelineTask,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.pipeline = pipeline
        self._completed = Completed()
        self.source = source
        self.family = family.name
        self.task = task
        self._own_arguments = dict(arguments or {})
        self.arguments: Mapping[str, Any] = dict(family.arguments) | self._own_arguments
        check_arguments(type(pipeline).__name__, self._takes, self.arguments, family.arguments, self.guided_by)
        if hasattr(getattr(pipeline, "controlnet", None), "nets"):
            raise ModelError("several ControlNets are loaded; load one, so that the image of a request has one meaning")
        self.text = family.text(pipeline, self.arguments)
        self.time_scale = family.time_scale
        # of these, one takes zeros in place of what it makes of an empty prompt, one does without guidance
        self.mixes = not (pipeline.config.get("force_zeros_for_empty_prompt") or self.guided_by == "true_cfg_scale")
        self.masks_padding = self.text.masked
        self._guidance = family.guidance
        words = {"words"} if self.text.named else set()
        lost = {"followed"} if task.adapters else set()  # an adapter's attention has not been followed
        if task.image == "edit" or self.arguments.get("guidance_rescale"):
            lost.add("replay")  # a step cannot be guided again by the plain rule
        self.features = (family.features | task.features | words) - lost

    @property
    def denoiser(self) -> nn.Module:
        """The U-Net or the transformer."""
        unet = getattr(self.pipeline, "unet", None)
        found: nn.Module = self.pipeline.transformer if unet is None else unet
        return found

    @property
    def decoder(self) -> nn.Module:
        """The decoder of the VAE."""
        decoder: nn.Module = self._vae.decoder
        return decoder

    def complete(self, request: Request) -> CompletedRequest:
        """Fill open fields: sizes from the denoiser, steps and guidance from the model's own recommendation.

        Raises:
            RequestError: A picture is missing that the pipeline needs.
            ModelError: A size that the VAE cannot make, an unknown scheduler, steps that it cannot make, or something
                that this pipeline does not take.
        """
        return self._completed.of(request, self._filled)

    def _filled(self, request: Request) -> CompletedRequest:
        if request.invert is not None:
            request = noised_image.prepared(self, request)
        self.task.check(request)
        self._refuse(request)
        self.task.check_references(request)
        sides = self._sides(request)
        self._check_sides(sides)
        done = request.filled(
            steps=request.steps or self._notes.steps or int(self._default("num_inference_steps", DEFAULT_STEPS)),
            guidance=float(self._notes.guidance or self._default(self.guided_by, DEFAULT_GUIDANCE))
            if request.guidance is None
            else request.guidance,
            height=sides[0],
            width=sides[1],
            scheduler=known_scheduler(self.pipeline, request.scheduler),
            strength=self._strength(request) if self._starts else request.strength,
            image=None if request.image is None else request.image.resized(*sides),
            mask=None if request.mask is None else request.mask.resized(*sides),
        )
        check_schedule(self.pipeline, done)
        if self._starts and self.steps(done) < 1:
            raise ModelError(
                f"strength {done.strength} of {done.steps} steps leaves none to run; take {1 / done.steps:.2g} "
                "or more, or more steps"
            )
        return done

    def call(self, requests: Sequence[CompletedRequest], on_step: OnStep) -> Made:
        """Run the pipeline's own call; every image is an item with a CPU generator of its own."""
        given = self.called_with(requests)
        if "callback_on_step_end" in self._takes:
            given["callback_on_step_end"] = on_step
        else:  # the older way

            def told(step: int, timestep: Any, latents: torch.Tensor) -> None:
                on_step(self.pipeline, step, timestep, {"latents": latents})

            given |= {"callback": told, "callback_steps": 1}
        inverted = requests[0].invert is not None
        if inverted:
            given["output_type"] = "latent"  # what one step makes of the image is of no use
        with refusals_named(type(self.pipeline).__name__, self._own_arguments):
            made = self.pipeline(**given)
        if inverted:
            return Made([r.image.image for r in requests for _ in r.seeds if r.image is not None])
        flagged = tuple(hit for hit in (getattr(made, "nsfw_content_detected", None) or ()) if hit is not None)
        return Made(made.images, blocked=flagged)

    def called_with(self, requests: Sequence[CompletedRequest]) -> dict[str, Any]:
        """Arguments of the pipeline's own call."""
        first = requests[0]
        items = [(r, seed) for r in requests for seed in r.seeds]
        given: dict[str, Any] = {
            "generator": [torch.Generator().manual_seed(seed) for _, seed in items],
            "num_inference_steps": first.steps,
            self.guided_by: first.guidance,
            "height": first.height,
            "width": first.width,
            "strength": first.strength,
            **self._prompts([r for r, _ in items]),
            **self.task.arguments(requests),
        }
        if first.invert is not None:
            given["latents"] = noised_image.noised(self, requests)
        known = {name: value for name, value in given.items() if name in self._takes and value is not None}
        # where embeddings are given, some pipelines would else take their default of an empty negative prompt as well
        none = {"negative_prompt": None} if self._steered else {}
        return none | known | {name: for_each(name, value, len(items)) for name, value in self.arguments.items()}

    def steps(self, request: CompletedRequest) -> int:
        """All that are asked for; from an image only the last ones, as many as the strength says."""
        steps = request.steps
        if not self._starts:
            return steps
        strength = self._strength(request)
        if noise.is_flow(self.pipeline.scheduler):  # these pipelines round the part that is left out
            return steps - int(max(steps - min(steps * strength, steps), 0))
        return min(int(steps * strength), steps)

    def tokens(self, prompt: str, *, negative: bool = False) -> Tokens:
        """The prompt, or the negative one, as the denoiser's context holds it."""
        with alone(self.pipeline):  # a tokenizer is set anew for each reading
            return self.text.tokens(prompt, negative=negative)

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        """Words outside the vocabulary that the model was trained on, where the model's folder lists it."""
        known = set(self._notes.words)
        if not known:
            return ()
        return tuple(dict.fromkeys(word.text for word in split(prompt, pos) if word.text.casefold() not in known))

    def branches(self, request: CompletedRequest) -> Branches:
        """The branches of guidance; only the conditional one with guidance off or distilled into the denoiser."""
        on = request.guidance > 1 and getattr(self.denoiser.config, "time_cond_proj_dim", None) is None
        if not on or self._guidance == "distilled":
            return Branches(("conditional",))
        if self._guidance == "sequential":
            return Branches(("conditional", "unconditional"), sequential=True)
        if self.task.image == "edit":
            strong = float(self.arguments.get("image_guidance_scale", 1.5)) >= 1
            return Branches(("conditional", "image", "unconditional") if strong else ("conditional",))
        return Branches(("unconditional", "conditional"))

    def sites(self) -> tuple[Site, ...]:
        """See `sfumato.models.sites.sites_of`."""
        return sites_of(self.denoiser)

    def reference_tokens(self, adapter: int = 1) -> ReferenceTokens:
        """How an image-prompt adapter reads a reference.

        Raises:
            ModelError: There is none, or none of this number.
        """
        if not self.task.adapters:
            raise ModelError(
                f"{self.source.name} takes no reference image; load an image-prompt adapter, or studio/insert"
            )
        return adapter_tokens(self.pipeline, self.sites(), adapter)

    def latent_grid(self, request: CompletedRequest) -> tuple[int, int]:
        """Height and width of the latent."""
        return request.height // self._scale, request.width // self._scale

    @property
    def channels(self) -> int:
        """Of the VAE's latents."""
        return int(self._vae.config.latent_channels)

    def token_grid(self, request: CompletedRequest) -> tuple[int, int]:
        """The latent's, divided by the transformer's patches."""
        height, width = self.latent_grid(request)
        patch = self._patch
        return height // patch, width // patch

    def spatial(self, latents: torch.Tensor, request: CompletedRequest) -> torch.Tensor:
        """They are maps already."""
        return latents

    def packed(self, latents: torch.Tensor) -> torch.Tensor:
        """Maps as the pipeline takes latents: as they are."""
        return latents

    def takes(self, name: str) -> bool:
        """Whether the pipeline's own call has an argument of this name."""
        return name in self._takes

    def encode(self, conditions: Sequence[str], *, gradients: bool = False) -> torch.Tensor:
        """Hidden states of the text encoders for prompts: (prompt, token, channel)."""
        with alone(self.pipeline), torch.inference_mode(False), torch.set_grad_enabled(gradients):
            return self.text.encode(conditions)

    def pooled(self, conditions: Sequence[str]) -> dict[str, torch.Tensor]:
        """Summaries and masks of prompts, by the denoiser's arguments."""
        with alone(self.pipeline), torch.inference_mode(False), torch.no_grad():
            return self.text.pooled(conditions)

    def clean(self, output: torch.Tensor, sample: torch.Tensor, timestep: float) -> torch.Tensor:
        """See `sfumato.models.noise.clean`."""
        return noise.clean(self.pipeline.scheduler, output, sample, timestep)

    def levels(self, timestep: float) -> tuple[torch.Tensor, torch.Tensor]:
        """See `sfumato.models.noise.levels`."""
        return noise.levels(self.pipeline.scheduler, timestep)

    def decode(self, latents: torch.Tensor, *, gradients: bool = False) -> torch.Tensor:
        """The VAE's images of latents."""
        return vae.decoded(self._vae, latents, gradients=gradients)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """The mean of the VAE's posterior, scaled as the denoiser takes it."""
        return vae.embedded(self._vae, images)

    def _prompts(self, requests: Sequence[CompletedRequest]) -> dict[str, Any]:
        """One prompt for each image, where no embeddings stand in its place."""
        if not self.text.named:
            return {}
        return {"prompt": [r.prompt for r in requests], "negative_prompt": self._negatives(requests)}

    def _negatives(self, requests: Sequence[CompletedRequest]) -> list[str] | None:
        """One negative prompt for each image; None where there are none.

        Raises:
            ModelError: There are embeddings in their place, or some without, which the pipeline treats otherwise.
        """
        negative = [r.negative_prompt for r in requests]
        if not any(negative):
            return None
        if self._steered:
            raise ModelError("negative_prompt_embeds were given to the model; leave out the negative prompt")
        if not all(negative) and not self.mixes:
            raise ModelError("this pipeline treats no negative prompt otherwise than an empty one; run them apart")
        return negative

    def _refuse(self, request: Request) -> None:
        """Refuse what the request asks for and the pipeline does not take.

        Raises:
            ModelError: The message says what to leave out.
        """
        if request.label is not None:
            raise ModelError(f"{self.source.name} has no labels; say it in the prompt")
        for name in ("image", "mask", "reference"):
            if getattr(request, name) is not None and name not in self.features and not request.invert:
                other = "leave it out, or take a model that does"
                if name == "image":
                    other = "load it with task='image-to-image' or 'inpainting', or give invert='noise' to look at it"
                raise ModelError(f"{self.source.name} takes no {name}; {other}")
        if request.strength is not None and not self._starts:
            raise ModelError(f"{self.source.name} starts from noise, so strength means nothing; leave it out")
        for name in ("prompt", "negative_prompt"):
            if getattr(request, name) and (name not in self._takes or not self.text.named):
                raise ModelError(f"{self.source.name} takes no {name.replace('_', ' ')}; leave it out")

    def _sides(self, request: Request) -> tuple[int, int]:
        """Height and width that are asked for: the image's where there is one, else the model's own."""
        of = request.image if self.task.image is not None or request.invert else None
        height = request.height or (of.height if of is not None else self._side)
        return height, request.width or (of.width if of is not None else self._side)

    def _check_sides(self, sides: tuple[int, int]) -> None:
        scale = self._multiple
        for name, value in zip(("height", "width"), sides, strict=True):
            if value % scale:
                low, high = max(scale, value // scale * scale), (value // scale + 1) * scale
                near = f"{low} or {high}" if low < value else str(high)
                raise ModelError(f"{name} is {value}; this model makes multiples of {scale}, so take {near}")

    def _default(self, name: str, otherwise: float) -> Any:
        """What the pipeline's own call takes where nothing is said."""
        known = self._takes.get(name)
        return known.default if known is not None and isinstance(known.default, int | float) else otherwise

    def _strength(self, request: Request) -> float:
        """How much of the image is made anew."""
        return request.strength or float(self._default("strength", 0.8))

    @cached_property
    def _takes(self) -> Mapping[str, inspect.Parameter]:
        """The arguments of the pipeline's own call by name."""
        return inspect.signature(self.pipeline.__call__).parameters

    @property
    def _steered(self) -> bool:
        """Whether embeddings stand in place of a negative prompt."""
        return self.arguments.get("negative_prompt_embeds") is not None

    @property
    def _starts(self) -> bool:
        """Whether the run begins at a noised image, so that strength counts."""
        return self.task.image == "start" and "strength" in self._takes

    @property
    def _vae(self) -> Any:
        return self.pipeline.vae

    @property
    def _scale(self) -> int:
        """How many pixels a place of the latent is wide."""
        return int(self.pipeline.vae_scale_factor)

    @property
    def _patch(self) -> int:
        """How many places of the latent a transformer's position is wide."""
        return int(getattr(self.denoiser.config, "patch_size", None) or 1)

    @property
    def _multiple(self) -> int:
        """What the sides of an image are multiples of."""
        return math.lcm(PIPELINE_MULTIPLE, self._scale * self._patch)

    @property
    def _side(self) -> int:
        """Of an image of unspecified size: as its folder recommends, as the pipeline's call has it, as configured."""
        if said := self._notes.size or self._default("height", 0):
            return int(said)
        size = getattr(self.denoiser.config, "sample_size", None) or getattr(self.pipeline, "default_sample_size", None)
        return int(size or 128) * self._scale

    @cached_property
    def _notes(self) -> Notes:
        return notes_of(self.pipeline)
