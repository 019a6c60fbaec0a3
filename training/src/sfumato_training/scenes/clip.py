"""The contrastive pair: a small image encoder and the text encoder that the U-Net starts from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError

from sfumato.errors import TrainingError
from sfumato.similarity.clip import EMBEDDED
from sfumato.studio.scenes import held_out_captions, scene_of
from sfumato.studio.tokenizer import END, MAX_LENGTH, START, load_tokenizer, write_tokenizer
from sfumato_training.checkpoints import last_weights, trained
from sfumato_training.images import as_tensor
from sfumato_training.optimising import Training
from sfumato_training.precision import mixed_precision
from sfumato_training.publishing import WEIGHTS
from sfumato_training.scenes.config import ClipConfig, Shared
from sfumato_training.scenes.data import load_captions, load_images, token_numbers, varied
from sfumato_training.schedule import cosine_rate
from sfumato_training.trainer import Loss, Work, fit, keep_start

STAGE = "clip"
TOKENIZER = "tokenizer"
"""Folder of the tokenizer inside the work folder."""


def build_clip(config: ClipConfig, tokenizer: Any, image_size: int = 128) -> Any:
    """Build an untrained transformers CLIPModel whose text encoder fits the tokenizer."""
    from transformers import CLIPConfig, CLIPModel

    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": config.width,
        "intermediate_size": 4 * config.width,
        "num_hidden_layers": config.text_layers,
        "num_attention_heads": config.heads,
        "max_position_embeddings": MAX_LENGTH,
        "projection_dim": config.projection,
        "bos_token_id": tokenizer.convert_tokens_to_ids(START),
        "eos_token_id": tokenizer.convert_tokens_to_ids(END),
        "pad_token_id": tokenizer.convert_tokens_to_ids(END),
    }
    vision = {
        "hidden_size": config.image_width,
        "intermediate_size": 4 * config.image_width,
        "num_hidden_layers": config.image_layers,
        "num_attention_heads": config.heads,
        "image_size": image_size,
        "patch_size": config.patch,
        "projection_dim": config.projection,
    }
    whole = CLIPConfig(text_config=text, vision_config=vision, projection_dim=config.projection)
    # The explicit attention trains faster on a CPU than the fused one, whose backward pass is slow there.
    whole._attn_implementation = "eager"
    return CLIPModel(whole)


def _contrast(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, captions: list[str]) -> torch.Tensor:
    """Symmetric cross-entropy; pairs whose captions are the same text are no negatives of each other."""
    logits = scale * F.normalize(text.float(), dim=-1) @ F.normalize(image.float(), dim=-1).T  # (text, image)
    numbers = {caption: number for number, caption in enumerate(dict.fromkeys(captions))}
    labels = torch.tensor([numbers[caption] for caption in captions], device=logits.device)
    same = labels[:, None] == labels[None, :]
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same, float("-inf"))
    right = torch.arange(len(captions), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def train_clip(work: Work[Shared]) -> None:
    """Train both encoders into the folder of their stage, and write the tokenizer to the work folder."""
    settings, device = work.config.clip, work.device
    images, captions = load_images(work.out / "data"), load_captions(work.out / "data")
    write_tokenizer(work.out / TOKENIZER)
    tokenizer = load_tokenizer(work.out / TOKENIZER)
    torch.manual_seed(work.config.seed + 1)
    model = build_clip(settings, tokenizer, images.shape[1]).to(device)
    if settings.start:
        model.load_state_dict(_weights(settings.start, model), strict=False)
    training = Training({STAGE: model}, weight_decay=0.05)

    def loss(generator: torch.Generator) -> Loss:
        chosen = torch.randint(len(images), (settings.batch,), generator=generator).sort().values.tolist()
        texts = varied(
            [captions[index] for index in chosen],
            empty=0.0,
            drop_captions=settings.drop_captions,
            drop_words=settings.drop_words,
            generator=generator,
        )
        tokens = token_numbers(tokenizer, texts, MAX_LENGTH)
        # A causal encoder pooled at the first end token does not see what comes after it.
        tokens = tokens[:, : int((tokens == tokens[0, -1]).int().argmax(1).max()) + 1].to(device)
        pixels = as_tensor(images[chosen]).to(device)
        with mixed_precision(device):
            image = model.get_image_features(pixel_values=pixels).pooler_output
            text = model.get_text_features(input_ids=tokens).pooler_output
        return _contrast(image, text, model.logit_scale.clamp(max=math.log(100)).exp(), texts), {}

    fit(
        work,
        STAGE,
        training,
        settings.steps,
        loss,
        lambda step: cosine_rate(settings.lr, step, settings.steps, settings.warmup),
        look=lambda step: work.progress.event(STAGE, step, {"retrieval": retrieval(model, tokenizer)}),
        looks_every=work.config.checkpoint_every,
    )
    keep_start(training, settings, work.out / STAGE)


def _weights(source: str, like: Any) -> dict[str, torch.Tensor]:
    """The weights of a contrastive pair on disk.

    Raises:
        TrainingError: There is none, or it has other sizes.
    """
    from safetensors.torch import load_file

    file = (WEIGHTS / "clip" if source == EMBEDDED else Path(source)) / "model.safetensors"
    try:
        found = load_file(str(file))
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{source} holds no CLIPModel ({error}); give {EMBEDDED}, or its folder") from error
    wanted = {name: value.shape for name, value in like.named_parameters()}
    if {name: found[name].shape for name in wanted if name in found} != wanted:
        raise TrainingError(f"the pair in {source} has other sizes than [clip] says; write its sizes there")
    return {name: found[name].float() for name in wanted}


def load_clip(config: Shared, out: Path) -> tuple[Any, Any]:
    """Load the trained CLIPModel, in evaluation mode, and the tokenizer.

    Raises:
        TrainingError: The stage "clip" has not run.
    """
    tensors, _ = trained(out, STAGE, "text encoder")
    tokenizer = load_tokenizer(out / TOKENIZER)
    model = build_clip(config.clip, tokenizer)
    weights = last_weights(tensors, STAGE)
    model.load_state_dict({name: weights[name] for name, _ in model.named_parameters()}, strict=False)
    return model.to(config.device).eval().requires_grad_(False), tokenizer


def retrieval(model: Any, tokenizer: Any, captions: int = 100) -> float:
    """Measure how often the best of some held-out captions for an image is its own (top-1, one image per caption)."""
    texts = list(held_out_captions(captions))
    images = np.stack([scene_of(text, seed).image for seed, text in enumerate(texts)])
    with torch.no_grad():
        image = model.get_image_features(pixel_values=as_tensor(images).to(model.device)).pooler_output
        tokens = token_numbers(tokenizer, texts, MAX_LENGTH).to(model.device)
        text = model.get_text_features(input_ids=tokens).pooler_output
    nearest = (F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T).argmax(1).cpu()
    return float((nearest == torch.arange(captions)).float().mean())
