"""Stable Diffusion 1.x and 2.x: a U-Net with cross-attention on the tokens of one text encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import nn

from sfumato.errors import ModelError
from sfumato.models import noise
from sfumato.models.lexicon import pos
from sfumato.models.model import Branches, Kind, Made, OnStep, ReferenceTokens, Site, Source
from sfumato.models.notes import notes_of
from sfumato.models.schedulers import DEFAULT_STEPS, check_steps, known_scheduler
from sfumato.models.words import Tokens, split, tokenise
from sfumato.request import Request

DEFAULT_GUIDANCE = 7.5
PIPELINE_MULTIPLE = 8  # the pipeline's own call asks for it, whatever the VAE


class UNetModel:
    """A ``StableDiffusionPipeline``: what the methods may ask of it.

    Args:
        pipeline: The pipeline, used as it is; nothing in it is replaced.
        source: Where it came from.
    """

    family = "unet"
    features = frozenset({"words", "cross-attention", "replay"})
    condition: str | None = "encoder_hidden_states"

    def __init__(self, pipeline: Any, source: Source) -> None:
        self.pipeline = pipeline
        self.source = source

    @property
    def denoiser(self) -> nn.Module:
        """The U-Net."""
        unet: nn.Module = self.pipeline.unet
        return unet

    @property
    def decoder(self) -> nn.Module:
        """The decoder of the VAE."""
        decoder: nn.Module = self.pipeline.vae.decoder
        return decoder

    def complete(self, request: Request) -> Request:
        """Fill open fields: sizes from the U-Net, steps and guidance from the model's own recommendation.

        Raises:
            ModelError: A size that the VAE cannot make, an unknown scheduler, steps that it cannot make, or an image
                to start from, which this pipeline does not take.
        """
        if request.label is not None:
            raise ModelError(f"{self.source.name} has no labels; say it in the prompt")
        if "image" not in self.features and (request.image is not None or request.strength is not None):
            raise ModelError(
                f"{self.source.name} starts from noise and takes no image; load it with task='image-to-image', or wrap "
                "a StableDiffusionImg2ImgPipeline"
            )
        for name in ("mask", "reference"):
            if getattr(request, name) is not None and name not in self.features:
                raise ModelError(f"{self.source.name} takes no {name}; leave it out, or take a model that does")
        recommended = self._notes.get("defaults", {})
        side = self._side
        done = request.with_(
            steps=request.steps or int(recommended.get("steps", DEFAULT_STEPS)),
            guidance=float(recommended.get("guidance", DEFAULT_GUIDANCE))
            if request.guidance is None
            else request.guidance,
            height=request.height or side,
            width=request.width or side,
            scheduler=known_scheduler(self.pipeline, request.scheduler),
        )
        check_steps(self.pipeline, done)
        scale = math.lcm(PIPELINE_MULTIPLE, self.pipeline.vae_scale_factor)
        for name in ("height", "width"):
            value = getattr(done, name)
            if value % scale:
                low, high = max(scale, value // scale * scale), (value // scale + 1) * scale
                near = f"{low} or {high}" if low < value else str(high)
                raise ModelError(f"{name} is {value}; this model makes multiples of {scale}, so take {near}")
        return done

    def call(self, requests: Sequence[Request], on_step: OnStep) -> Made:
        """Run the pipeline's own call; every image is an item with a CPU generator of its own."""
        made = self.pipeline(**self.arguments(requests), callback_on_step_end=on_step)
        return Made(made.images, blocked=tuple(getattr(made, "nsfw_content_detected", None) or ()))

    def arguments(self, requests: Sequence[Request]) -> dict[str, Any]:
        """Arguments of ``StableDiffusionPipeline.__call__``."""
        first = requests[0]
        return {
            "prompt": [r.prompt for r in requests for _ in r.seeds],
            "negative_prompt": [r.negative_prompt for r in requests for _ in r.seeds],
            "generator": [torch.Generator().manual_seed(seed) for r in requests for seed in r.seeds],
            "num_inference_steps": first.steps,
            "guidance_scale": first.guidance,
            "height": first.height,
            "width": first.width,
        }

    def steps(self, request: Request) -> int:
        """All that are asked for."""
        return int(request.steps or 0)

    def tokens(self, prompt: str) -> Tokens:
        """The prompt as the CLIP tokenizer cuts it, with the tokens of every word."""
        # a textual inversion of several vectors is written out as the pipeline does it, else later words would shift
        written = self.pipeline.maybe_convert_prompt(prompt, self.pipeline.tokenizer)
        return tokenise(written, self.pipeline.tokenizer, pos)

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        """Words outside the vocabulary that the model was trained on, where the model's folder lists it."""
        known = set(self._notes.get("words", ()))
        if not known:
            return ()
        return tuple(dict.fromkeys(word.text for word in split(prompt, pos) if word.text.casefold() not in known))

    def branches(self, request: Request) -> Branches:
        """Unconditional, then conditional; only conditional with guidance off or distilled into the U-Net."""
        guided = (request.guidance or 0) > 1 and self.pipeline.unet.config.time_cond_proj_dim is None
        return Branches(("unconditional", "conditional") if guided else ("conditional",))

    def sites(self) -> tuple[Site, ...]:
        """Every attention of the transformer blocks: ``attn1`` over positions, ``attn2`` over the text."""
        order = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
        places = {"down_blocks": "down", "mid_block": "mid", "up_blocks": "up"}
        found = []
        for name, module in self.denoiser.named_modules():
            frame, _, inner = name.partition(".transformer_blocks.")
            top = name.split(".")[0]
            if inner.count(".") == 1 and hasattr(module, "to_k") and top in order:
                kind: Kind = "cross" if getattr(module, "is_cross_attention", name.endswith("attn2")) else "self"
                found.append(Site(name, kind, places[top], frame))
        return tuple(sorted(found, key=lambda site: order[site.name.split(".")[0]]))

    def reference_tokens(self) -> ReferenceTokens:
        """There is none without an image-prompt adapter.

        Raises:
            ModelError: Always.
        """
        raise ModelError(f"{self.source.name} takes no reference image; load an image-prompt adapter, or studio/insert")

    def latent_grid(self, request: Request) -> tuple[int, int]:
        """Height and width of the latent."""
        scale = self.pipeline.vae_scale_factor
        return (request.height or self._side) // scale, (request.width or self._side) // scale

    def encode(self, conditions: Sequence[str], *, gradients: bool = False) -> torch.Tensor:
        """Hidden states of the text encoder for prompts: (prompt, token, channel)."""
        with torch.set_grad_enabled(gradients):
            embedded: torch.Tensor = self.pipeline.encode_prompt(
                list(conditions), self.pipeline._execution_device, 1, do_classifier_free_guidance=False
            )[0]
        return embedded

    def clean(self, output: torch.Tensor, sample: torch.Tensor, timestep: float) -> torch.Tensor:
        """See `sfumato.models.noise.clean`."""
        return noise.clean(self.pipeline.scheduler, output, sample, timestep)

    def levels(self, timestep: float) -> tuple[torch.Tensor, torch.Tensor]:
        """See `sfumato.models.noise.levels`."""
        return noise.levels(self.pipeline.scheduler, timestep)

    def decode(self, latents: torch.Tensor, *, gradients: bool = False) -> torch.Tensor:
        """The VAE's images of latents."""
        vae = self.pipeline.vae
        with torch.set_grad_enabled(gradients):
            images: torch.Tensor = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
        return images

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """The mean of the VAE's posterior, scaled as the denoiser takes it."""
        vae = self.pipeline.vae
        latents: torch.Tensor = vae.encode(images).latent_dist.mean * vae.config.scaling_factor
        return latents

    @property
    def _side(self) -> int:
        return int(self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor)

    @cached_property
    def _notes(self) -> dict[str, Any]:
        return notes_of(self.pipeline)
