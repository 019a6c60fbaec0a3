"""Do words act where their objects are? Word maps on noised true scenes, cheap enough to log during training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sfumato.metrics import average_precision, iou
from sfumato.models.loading import wrap
from sfumato.request import Request
from sfumato.results.upscale import bicubic
from sfumato.studio.scenes import held_out_captions, scene_of
from sfumato.studio.shapes import COLOURS, SHAPES
from sfumato.trace import generate
from sfumato.watching.reduce import AttentionSums

STEPS = 5
TAU = 0.4


def probe_word_maps(pipeline: Any, scenes: int = 24, seed: int = 0) -> dict[str, float]:
    """Score the attention of nouns and colours on held-out true scenes, noised to several levels.

    Args:
        pipeline: A Stable Diffusion pipeline of the scenes.
        scenes: How many scenes.
        seed: Of the noise.

    Returns:
        mIoU at 0.4 and AP of nouns and colours against the exact masks of their objects, and the mean correlation
        between the maps of the two nouns of one prompt (near 1 while the model has not told them apart).
    """
    model = wrap(pipeline)
    captions = held_out_captions(scenes)
    drawn = [scene_of(caption, i) for i, caption in enumerate(captions)]
    # a short run gives calls to replay: the real conditions at several timesteps
    trace = generate(model, [Request(caption, steps=STEPS, guidance=1) for caption in captions], record=True)
    pixels = torch.from_numpy(np.stack([scene.image for scene in drawn])).permute(0, 3, 1, 2)
    parameter = next(pipeline.vae.parameters())
    with torch.no_grad():
        posterior = pipeline.vae.encode((pixels.float() / 127.5 - 1).to(parameter)).latent_dist
    clean = posterior.mean * pipeline.vae.config.scaling_factor
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed)).to(clean)
    sites = [site for site in model.sites() if site.kind == "cross" and site.place != "mid"]
    read = [model.tokens(caption) for caption in captions]
    sums = AttentionSums(sites, "conditional", max(len(tokens.context) for tokens in read))
    for step in range(STEPS - 1):  # the last step has hardly any noise
        bar = pipeline.scheduler.alphas_cumprod[int(trace.call(step).timestep)].to(clean)
        trace.replay(step, sample=bar.sqrt() * clean + (1 - bar).sqrt() * noise, attachments=[sums])
    size = (drawn[0].image.shape[0], drawn[0].image.shape[1])
    maps = sum(bicubic(grid.maps.mean((1, 2, 3)), size) * grid.weights.sum() for grid in sums.grids().values())
    found: dict[str, list[float]] = {f"{m}_{k}": [] for k in ("nouns", "colours") for m in ("miou", "ap")}
    likeness = []
    for number, (scene, tokens) in enumerate(zip(drawn, read, strict=True)):
        nouns = []
        for place, word in enumerate(tokens.words):
            kind = "colours" if word.text in COLOURS else "nouns" if word.text in SHAPES else None
            if kind is None or not word.tokens:
                continue
            heat = np.asarray(maps)[number, list(word.tokens)].mean(0)
            found[f"miou_{kind}"].append(iou(heat, scene.masks[place], TAU))
            found[f"ap_{kind}"].append(average_precision(heat, scene.masks[place]))
            if kind == "nouns":
                nouns.append(heat.ravel())
        if len(nouns) == 2:
            likeness.append(float(np.corrcoef(nouns)[0, 1]))
    return {name: float(np.nanmean(values)) for name, values in found.items()} | {
        "noun_correlation": float(np.mean(likeness))
    }
