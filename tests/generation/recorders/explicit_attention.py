"""Attention written out with an ordinary softmax, to compare what the library sees with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import nn

Capture = Callable[[str, torch.Tensor], None]


class WrittenOut:
    """An attention processor that computes softmax(q k^T / sqrt(d)) v itself and shows the probabilities.

    Args:
        name: Of the attention module.
        capture: Called with the name and the probabilities (row, head, query, key).
        softmax: What to normalise the scores with.
    """

    def __init__(self, name: str, capture: Capture, softmax: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.name, self.capture, self.softmax = name, capture, softmax

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            part.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for part in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )  # (row, head, position, channel)
        scores = torch.einsum("rhqc,rhkc->rhqk", query, key) / query.shape[-1] ** 0.5
        probabilities = self.softmax(scores)
        self.capture(self.name, probabilities)
        mixed = torch.einsum("rhqk,rhkc->rhqc", probabilities, value).transpose(1, 2).flatten(2)
        output: torch.Tensor = attn.to_out[1](attn.to_out[0](mixed))
        return output


def ordinary_softmax(scores: torch.Tensor) -> torch.Tensor:
    return torch.softmax(scores, dim=-1)


def hand_made_softmax(scores: torch.Tensor) -> torch.Tensor:
    """Without any function that PyTorch calls softmax."""
    weights = torch.exp(scores - scores.amax(-1, keepdim=True))
    return weights / weights.sum(-1, keepdim=True)


@contextmanager
def written_out(
    pipeline: StableDiffusionPipeline,
    capture: Capture,
    softmax: Callable[[torch.Tensor], torch.Tensor] = ordinary_softmax,
) -> Iterator[None]:
    """Replace every attention processor of the U-Net for a while."""
    own = dict(pipeline.unet.attn_processors)
    pipeline.unet.set_attn_processor(
        {name: WrittenOut(name.removesuffix(".processor"), capture, softmax) for name in own}
    )
    try:
        yield
    finally:
        pipeline.unet.set_attn_processor(own)


def run_plainly(
    pipeline: StableDiffusionPipeline,
    prompts: list[str],
    seeds: list[int],
    *,
    negative: list[str] | None = None,
    steps: int = 2,
    guidance: float = 7.5,
    height: int = 32,
    width: int = 48,
) -> tuple[list[Any], torch.Tensor]:
    """The pipeline's own call, by itself: images and final latents."""
    latest: dict[str, torch.Tensor] = {}

    def keep(pipeline: Any, step: int, timestep: Any, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        latest.update(values)
        return values

    images = pipeline(
        prompt=prompts,
        negative_prompt=negative or [""] * len(prompts),
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        num_inference_steps=steps,
        guidance_scale=guidance,
        height=height,
        width=width,
        callback_on_step_end=keep,
    ).images
    return images, latest["latents"]


def cross_attention(pipeline: StableDiffusionPipeline) -> dict[str, nn.Module]:
    """The modules that attend to the prompt, by name."""
    return {name: part for name, part in pipeline.unet.named_modules() if name.endswith(".attn2")}
