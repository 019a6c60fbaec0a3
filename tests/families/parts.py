"""Parts that several families share: pictures, tokenizers, text and image encoders, autoencoders and schedulers."""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler
from PIL import Image
from torch import nn
from transformers import (
    CLIPImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tests.pipelines import CONTEXT, WORDS, clip_tokenizer

# "zebra" is several tokens, the comma a token without a space before it, and "cat" comes twice.
PROMPT = "a red cat, a zebra and a cat on the table"
NEGATIVE = "a blue dog"

# Not square, so that height and width cannot be exchanged unseen.
HEIGHT, WIDTH = 64, 96
SIZE = {"height": HEIGHT, "width": WIDTH}

TEXT_WIDTH = 32
T5_LENGTH = 32
IMAGE_WIDTH = 32
IMAGE_SIDE = 32


@cache
def picture(height: int = HEIGHT, width: int = WIDTH, *, seed: int = 0) -> Image.Image:
    """Random colours."""
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))


@cache
def mask(height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    """White, which is repainted, in a rectangle on the left."""
    area = np.zeros((height, width), np.uint8)
    area[height // 4 : 7 * height // 8, width // 8 : width // 2] = 255
    return Image.fromarray(area)


def second_clip_tokenizer() -> CLIPTokenizer:
    """The tokenizer of OpenCLIP, which pads with an exclamation mark instead of the end of the text."""
    tokenizer = clip_tokenizer()
    tokenizer.pad_token = "!"
    return tokenizer


@cache
def _t5_pieces() -> tuple[tuple[str, float], ...]:
    """Unigram pieces and their scores: the words, and every other text letter by letter."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    words = [(f"▁{word}", -3.0) for word in WORDS]
    letters = [(letter, -6.0) for letter in string.ascii_letters + string.digits + string.punctuation]
    return (*special, ("▁", -2.0), *words, *letters)


def byte_pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    """Merges of byte-pair encoding, in order of rank, that make each word one token.

    A word is merged as far as the words before it have led, and what remains is joined from the left.
    """
    merges: list[tuple[str, str]] = []
    for word in words:
        parts = list(word)
        for pair in merges:
            parts = _joined(parts, pair)
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts = _joined(parts, merges[-1])
    return merges


def _joined(parts: Sequence[str], pair: tuple[str, str]) -> list[str]:
    found: list[str] = []
    for part in parts:
        if found and (found[-1], part) == pair:
            found[-1] += part
        else:
            found.append(part)
    return found


def t5_tokenizer() -> T5Tokenizer:
    """A unigram tokenizer to which each of the words is one token and any other word a space and its letters."""
    return T5Tokenizer(vocab=list(_t5_pieces()), extra_ids=0, model_max_length=512)


def clip_text(tokenizer: CLIPTokenizer, *, width: int = TEXT_WIDTH, activation: str = "quick_gelu") -> CLIPTextModel:
    """The text encoder of Stable Diffusion."""
    return CLIPTextModel(_clip_text_config(tokenizer, width, activation))


def projected_clip_text(
    tokenizer: CLIPTokenizer, *, width: int = TEXT_WIDTH, activation: str = "gelu"
) -> CLIPTextModelWithProjection:
    """A text encoder whose pooled output is projected; its activation is that of OpenCLIP."""
    return CLIPTextModelWithProjection(_clip_text_config(tokenizer, width, activation))


def _clip_text_config(tokenizer: CLIPTokenizer, width: int, activation: str) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        hidden_act=activation,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def t5_text(width: int = TEXT_WIDTH) -> T5EncoderModel:
    """The encoder of T5 v1.1, which is gated."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(_t5_pieces()),
            d_model=width,
            d_kv=8,
            d_ff=2 * width,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
        )
    )


def clip_vision() -> CLIPVisionModelWithProjection:
    """The image encoder of the IP-Adapters and of Kandinsky's prior."""
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=IMAGE_WIDTH,
            intermediate_size=2 * IMAGE_WIDTH,
            projection_dim=IMAGE_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=IMAGE_SIDE,
            patch_size=8,
        )
    )


def clip_images() -> CLIPImageProcessorPil:
    """Crops and normalises pictures for `clip_vision`."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIDE}, crop_size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    )


def autoencoder(
    *,
    latent_channels: int = 4,
    channels: tuple[int, ...] = (16, 16, 32),
    scaling: float = 0.18215,
    shift: float | None = None,
) -> AutoencoderKL:
    """An autoencoder that makes the image smaller by two for each level after the first.

    Args:
        latent_channels: Of the latent.
        channels: Of each level.
        scaling: Factor on a latent before it is denoised.
        shift: Taken from a latent before it is scaled. The autoencoders of Stable Diffusion 3 and Flux have one, and
            have no convolutions around the latent.
    """
    levels = len(channels)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=latent_channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=channels,
        norm_num_groups=8,
        sample_size=HEIGHT,
        scaling_factor=scaling,
        shift_factor=shift,
        use_quant_conv=shift is None,
        use_post_quant_conv=shift is None,
    )


def amplified(network: nn.Module, factor: float = 2.0) -> Any:
    """The network with the weights of its linear layers and convolutions multiplied.

    Freshly drawn weights make a signal smaller from layer to layer, so that a prompt would hardly change the image and
    attention would be nearly uniform.
    """
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.weight.mul_(factor)
    return network


def flow(*, shift: float = 3.0, dynamic: bool = False) -> FlowMatchEulerDiscreteScheduler:
    """The scheduler of the models trained by flow matching; a dynamic shift depends on the size of the image."""
    return FlowMatchEulerDiscreteScheduler(shift=shift, use_dynamic_shifting=dynamic, base_shift=0.5, max_shift=1.15)
