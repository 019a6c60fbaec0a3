"""The denoiser: a transformer in the layout of Flux, trained by flow matching with its own T5 encoder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
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
from sfumato_training.checkpoints import Training, save, step_generator
from sfumato_training.latents import LATENTS, encoded
from sfumato_training.precision import mixed_precision
from sfumato_training.progress import Progress
from sfumato_training.scenes.clip import load_clip
from sfumato_training.scenes.data import load_captions, load_images, token_numbers, varied
from sfumato_training.scenes_mmdit.config import Config, TransformerConfig
from sfumato_training.schedule import falling_rate

LATENT_CHANNELS = 4


def build_transformer(config: TransformerConfig, pooled: int) -> Any:
    """Build an untrained FluxTransformer2DModel whose blocks start as the identity.

    Args:
        config: The stage's config.
        pooled: Channels of the pooled text.

    Raises:
        TrainingError: Flux has three axes: the text's index, row and column.
    """
    from diffusers import FluxTransformer2DModel

    if len(config.axes) != 3:
        raise TrainingError(f"[transformer] axes is {list(config.axes)}; expected three numbers: index, row, column")
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=PACKING**2 * LATENT_CHANNELS,
        num_layers=config.double,
        num_single_layers=config.single,
        attention_head_dim=sum(config.axes),
        num_attention_heads=config.heads,
        joint_attention_dim=config.text_width,
        pooled_projection_dim=pooled,
        guidance_embeds=False,
        axes_dims_rope=config.axes,
    )
    # A modulation of zero closes every residual branch, and the output starts at zero (adaLN-Zero).
    double = (norm for block in transformer.transformer_blocks for norm in (block.norm1, block.norm1_context))
    single = (block.norm for block in transformer.single_transformer_blocks)
    for layer in (*(norm.linear for norm in (*double, *single, transformer.norm_out)), transformer.proj_out):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    return transformer


def build_text_encoder(config: TransformerConfig, tokenizer: Any) -> Any:
    """Build an untrained T5EncoderModel, gated as T5 v1.1, whose relative positions encode the order of words."""
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=config.text_width,
            d_kv=config.text_width // config.text_heads,
            d_ff=2 * config.text_width,
            num_layers=config.text_layers,
            num_heads=config.text_heads,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )


def build_scheduler() -> Any:
    """Build the scheduler of rectified flow with evenly spaced noise levels."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0)


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


def train_transformer(config: Config, out: Path, progress: Progress, *, resume: bool = True) -> None:
    """Train transformer and T5 encoder into `out`/transformer, with grids of samples in `out`/samples.

    Args:
        config: The whole config.
        out: The work folder; the stages "data", "vae" and "clip" have run in it.
        progress: Receives every step.
        resume: Go on from the last checkpoint, if there is one.

    Raises:
        TrainingError: A caption does not fit into the context.
    """
    settings = config.transformer
    device = torch.device(config.device)
    vae = load_vae(config.vae, SIZE, out, config.device)
    clip, clip_tokenizer = load_clip(config, out)
    tokenizer = scene_unigram_tokenizer(settings.length)
    captions = load_captions(out / "data")
    latents, scaling = encoded(load_images(out / "data"), out / LATENTS, vae, settings.encode_batch, progress)
    middle = float(latents.astype(np.float32).mean())
    longest = max(len(row) for row in tokenizer(captions).input_ids)
    if longest > settings.length:
        raise TrainingError(f"length is {settings.length}, but a caption has {longest} tokens; raise it")
    chances = shares(captions, settings.relations, settings.counts)

    torch.manual_seed(config.seed + 2)
    transformer = build_transformer(settings, config.clip.width).to(device)
    text_encoder = build_text_encoder(settings, tokenizer).to(device).train()
    training = Training(
        {"transformer": transformer, "text_encoder_2": text_encoder},
        rates={"text_encoder_2": settings.text_lr},
        ema=settings.ema,
        betas=(0.9, settings.beta2),
        weight_decay=settings.weight_decay,
        muon=["transformer"] if settings.muon else [],
    )
    if resume and training.resume(out / "transformer"):
        progress.event("transformer", training.step, {"resumed": True})
    denoise: Any = torch.compile(transformer, dynamic=False) if settings.compile else transformer
    image_ids = positions(latents.shape[-1] // PACKING).to(device)
    text_ids = torch.zeros(settings.length, 3, device=device)

    while training.step < settings.steps:
        started = time.monotonic()
        generator = step_generator(config.seed, "transformer", training.step)
        chosen = torch.multinomial(chances, settings.batch, replacement=True, generator=generator).tolist()
        texts = varied(
            [captions[index] for index in chosen],
            empty=settings.empty,
            drop_captions=settings.drop_captions,
            drop_words=settings.drop_words,
            generator=generator,
        )
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
        loss = F.mse_loss(velocity.float(), (noise - clean).to(device))
        lr = falling_rate(settings.lr, training.step, settings.steps, settings.warmup, settings.cooldown)
        norm = training.update(loss, lr, settings.clip_norm)
        progress.step(
            "transformer",
            training.step,
            settings.steps,
            {"loss": loss.item(), "norm": norm, "lr": lr, "seconds": time.monotonic() - started},
        )
        last = training.step == settings.steps
        if training.step % config.checkpoint_every == 0 or last:
            save(out / "transformer", training.step, training.tensors(), {"scaling": scaling, "middle": middle})
        if settings.samples_every and (training.step % settings.samples_every == 0 or last):
            from sfumato_training.scenes.sampling import look
            from sfumato_training.scenes_mmdit.pipeline import averaged_pipeline, recommended

            vae.register_to_config(scaling_factor=scaling, shift_factor=middle)
            pipeline = averaged_pipeline(config, training.averaged(), vae=vae, clip=clip, tokenizer=clip_tokenizer)
            arguments = {**recommended(settings), "negative_prompt": "", "height": SIZE, "width": SIZE}
            look(pipeline, out, progress, "transformer", training.step, settings.sample_steps, arguments)
