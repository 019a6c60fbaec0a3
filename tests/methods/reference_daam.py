"""DAAM written a second time, from its description alone, to compare the library's maps with.

``reference_maps`` follows the numbers of the published code: sums over all calls of the denoiser for each layer and
head, upscaled bicubically and clamped at zero one by one, then averaged. ``paper_maps`` follows the paper: the mean
over calls, layers and heads of the upscaled maps. Both replace the attention processors by ones that write the
softmax out, which the library never does.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline

from tests.generation.recorders.explicit_attention import run_plainly, written_out


@dataclass(frozen=True)
class Setting:
    """What to generate."""

    prompt: str
    seed: int = 0
    steps: int = 2
    guidance: float = 7.5
    height: int = 32
    width: int = 32
    negative: str = ""

    def latent(self, pipeline: StableDiffusionPipeline) -> tuple[int, int]:
        return self.height // pipeline.vae_scale_factor, self.width // pipeline.vae_scale_factor


def attention_calls(
    pipeline: StableDiffusionPipeline, setting: Setting, *, branch: str = "conditional"
) -> dict[str, list[torch.Tensor]]:
    """The attention to the prompt of one image: layer to one (head, y, x, token) for every call of the denoiser."""
    calls: dict[str, list[torch.Tensor]] = defaultdict(list)
    height, width = setting.latent(pipeline)
    row = 1 if branch == "conditional" and setting.guidance > 1 else 0

    def capture(name: str, probabilities: torch.Tensor) -> None:
        if name.endswith("attn2"):
            own = probabilities[row]  # (head, query, token)
            shrink = round((height * width / own.shape[1]) ** 0.5)
            calls[name].append(own.unflatten(1, (height // shrink, width // shrink)).clone())

    with written_out(pipeline, capture):
        run_plainly(
            pipeline,
            [setting.prompt],
            [setting.seed],
            negative=[setting.negative],
            steps=setting.steps,
            guidance=setting.guidance,
            height=setting.height,
            width=setting.width,
        )
    return calls


def upscaled(maps: torch.Tensor, latent: tuple[int, int]) -> torch.Tensor:
    """(head, y, x, token) to (head, token, height, width)."""
    return F.interpolate(maps.movedim(-1, 1), size=latent, mode="bicubic", align_corners=False)


def reference_maps(
    pipeline: StableDiffusionPipeline, setting: Setting, *, heads_first: bool = False, normalise: bool = False
) -> torch.Tensor:
    """Maps of start token, prompt tokens and end token: (token, y, x).

    Args:
        pipeline: The pipeline.
        setting: What to generate.
        heads_first: Average the heads of a layer before clamping, which is wrong.
        normalise: Share 1 among the prompt's tokens at every position.
    """
    latent = setting.latent(pipeline)
    merged = []
    for layer, calls in attention_calls(pipeline, setting).items():
        if layer.startswith("mid_block") or calls[0].shape[1] * 8 == latent[0]:
            continue
        total = torch.stack(calls).sum(0)  # (head, y, x, token)
        if heads_first:
            total = total.mean(0, keepdim=True).expand_as(total)
        merged.append(upscaled(total, latent).clamp(min=0))
    maps = torch.cat(merged).mean(0)[: len(pipeline.tokenizer.tokenize(setting.prompt)) + 2]
    return maps / (maps[1:-1].sum(0, keepdim=True) + 1e-6) if normalise else maps


def paper_maps(
    pipeline: StableDiffusionPipeline,
    setting: Setting,
    *,
    layers: str = "",
    calls: tuple[int, ...] | None = None,
    heads: tuple[int, ...] | None = None,
    branch: str = "conditional",
) -> torch.Tensor:
    """The mean over some layers, calls and heads, all by default: (token, y, x) of all tokens of the context."""
    latent = setting.latent(pipeline)
    parts = []
    for layer, found in attention_calls(pipeline, setting, branch=branch).items():
        if layer.startswith("mid_block") or layers not in layer:
            continue
        for number, maps in enumerate(found):
            if calls is None or number in calls:
                chosen = maps if heads is None else maps[list(heads)]
                parts.append(upscaled(chosen.double(), latent))
    return torch.cat(parts).mean(0).clamp(min=0)


def word_map(pipeline: StableDiffusionPipeline, prompt: str, word: str, maps: torch.Tensor) -> torch.Tensor:
    """The mean over the tokens of all occurrences of a word: (y, x)."""
    text, wanted = pipeline.tokenizer.tokenize(prompt), pipeline.tokenizer.tokenize(word)
    places = [
        start + offset + 1  # the start token comes first
        for start in range(len(text))
        if text[start : start + len(wanted)] == wanted and (start == 0 or text[start - 1].endswith("</w>"))
        for offset in range(len(wanted))
    ]
    assert places, f"{word} is not in {prompt}"
    return maps[places].mean(0)
