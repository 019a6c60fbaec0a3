"""The denoiser: a transformer in the layout of Flux, trained by flow matching with its own T5 encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from sfumato.errors import TrainingError
from sfumato.models.flux import PACKING, packed
from sfumato.studio.grammar import parsed
from sfumato.studio.shapes import SIZE
from sfumato.studio.tokenizer import MAX_LENGTH
from sfumato.studio.unigram import scene_unigram_tokenizer
from sfumato_training.autoencoder import load_vae
from sfumato_training.denoising import Averages, fit_denoiser
from sfumato_training.latents import scaling_of
from sfumato_training.precision import mixed_precision
from sfumato_training.scenes.clip import load_clip
from sfumato_training.scenes.data import check_lengths, load_captions, token_numbers, told_captions
from sfumato_training.scenes.latents import make_latents
from sfumato_training.scenes.looking import look
from sfumato_training.scenes_mmdit.config import Config
from sfumato_training.scenes_mmdit.networks import (
    averaged_pipeline,
    build_text_encoder,
    build_transformer,
    recommended,
)
from sfumato_training.trainer import Loss, Work


def positions(side: int) -> torch.Tensor:
    """Index, row and column of every image position: (position, axis)."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack((torch.zeros_like(rows), rows, columns), dim=-1).flatten(0, 1).float()


def noise_levels(count: int, spread: float, generator: torch.Generator) -> torch.Tensor:
    """Draw noise levels between 0 and 1, logit-normal, one from each of `count` equally likely ranges."""
    places = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return torch.sigmoid(spread * torch.special.ndtri(places.clamp(1e-4, 1 - 1e-4)))


def shares(captions: Sequence[str], relations: float, counts: float) -> torch.Tensor:
    """How often each scene is drawn: given shares for relations and counts, the rest as in the data; sums to 1.

    Raises:
        TrainingError: The shares leave nothing for the rest.
    """
    if min(relations, counts) < 0 or relations + counts >= 1:
        raise TrainingError(f"relations + counts is {relations + counts:g}; expected shares that sum to less than 1")
    wanted = {"relation": relations, "count": counts, "rest": 1 - relations - counts}
    kinds = [kind if kind in wanted else "rest" for kind in (str(parsed(caption).kind) for caption in captions)]
    weights = torch.tensor([wanted[kind] / kinds.count(kind) for kind in dict.fromkeys(kinds)])
    places = {kind: place for place, kind in enumerate(dict.fromkeys(kinds))}
    chances = weights[torch.tensor([places[kind] for kind in kinds])]
    return chances / chances.sum()


def capitalised(texts: Sequence[str], share: float, generator: torch.Generator) -> list[str]:
    """Let a share of the texts begin with a capital letter."""
    chosen = (torch.rand(len(texts), generator=generator) < share).tolist()
    return [text[:1].upper() + text[1:] if capital else text for text, capital in zip(texts, chosen, strict=True)]


def train_transformer(work: Work[Config]) -> None:
    """Train transformer and T5 encoder into the folder of their stage, with grids of samples.

    Raises:
        TrainingError: A stage before it has not run, or a caption does not fit into the context.
    """
    config, device = work.config, work.device
    settings = config.transformer
    vae = load_vae(config.vae, SIZE, work.out, device)
    clip, clip_tokenizer = load_clip(config, work.out)
    tokenizer = scene_unigram_tokenizer(settings.length)
    captions = load_captions(work.out / "data")
    latents = make_latents(work, vae, settings.encode_batch)
    scaling, middle = scaling_of(latents), float(latents.astype(np.float32).mean())
    vae.register_to_config(scaling_factor=scaling, shift_factor=middle)
    check_lengths(captions, tokenizer, settings.length, "length")
    chances = shares(captions, settings.relations, settings.counts)
    torch.manual_seed(config.seed + 2)
    transformer = build_transformer(settings, config.clip.width).to(device)
    text_encoder = build_text_encoder(settings, tokenizer).to(device).train()
    denoise: Any = torch.compile(transformer, dynamic=False) if settings.compile else transformer
    image_ids = positions(latents.shape[-1] // PACKING).to(device)
    text_ids = torch.zeros(settings.length, 3, device=device)

    def loss(generator: torch.Generator) -> Loss:
        chosen = torch.multinomial(chances, settings.batch, replacement=True, generator=generator).tolist()
        texts = told_captions(captions, chosen, settings, generator)
        texts = capitalised(texts, settings.capitals, generator)
        clean = packed((torch.from_numpy(latents[chosen]).float() - middle) * scaling)
        noise = torch.randn(clean.shape, generator=generator)
        levels = noise_levels(settings.batch, settings.spread, generator)
        noisy = torch.lerp(clean, noise, levels[:, None, None])
        tokens = token_numbers(tokenizer, texts, settings.length).to(device)
        with torch.no_grad():
            short = token_numbers(clip_tokenizer, texts, MAX_LENGTH)[:, : settings.length]
            pooled = clip.text_model(input_ids=short.to(device)).pooler_output
        with mixed_precision(device):
            context = text_encoder(tokens).last_hidden_state
            velocity = denoise(
                hidden_states=noisy.to(device),
                encoder_hidden_states=context,
                pooled_projections=pooled,
                timestep=levels.to(device),
                img_ids=image_ids,
                txt_ids=text_ids,
                return_dict=False,
            )[0]
        return F.mse_loss(velocity.float(), (noise - clean).to(device)), {}

    def look_at(averages: Averages, step: int) -> None:
        pipeline = averaged_pipeline(config, averages, vae=vae, clip=clip, tokenizer=clip_tokenizer)
        size = {"negative_prompt": "", "height": SIZE, "width": SIZE}
        sampled = {"num_inference_steps": settings.sample_steps}
        look(work, "transformer", step, pipeline, **recommended(settings), **size, **sampled)

    fit_denoiser(
        work,
        "transformer",
        settings,
        {"transformer": transformer, "text_encoder_2": text_encoder},
        loss,
        look_at,
        rates={"text_encoder_2": settings.text_lr},
        state={"scaling": scaling, "middle": middle},
    )
