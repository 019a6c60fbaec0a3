"""Diffusers pipelines with random weights: the real classes and topologies, small enough to build and run in a test.

Nothing is downloaded or read from disk, so tests and benchmarks share these builders: `stable_diffusion()` gives the
smallest pipeline with cross-attention, `stable_diffusion(SD15_NARROW)` the blocks of Stable Diffusion 1.5 at a
fraction of its width, `stable_diffusion(SD15)` its real widths.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, DDIMScheduler, SchedulerMixin, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
CONTEXT = 77

# Each of these words is one token; any other word is split into bytes, so a prompt can mix both.
WORDS = ("a", "photo", "of", "red", "cat", "on", "the", "table", "and", "blue", "dog", "circle", "square", "left")
PROMPT = "a photo of a red cat on the table"


@dataclass(frozen=True)
class Shape:
    """What decides the size of a Stable Diffusion pipeline; a block is named from the outside inwards."""

    unet_channels: tuple[int, ...] = (32, 64)
    reads_prompt: tuple[bool, ...] = (False, True)
    layers_per_block: int = 1
    heads: int | tuple[int, ...] = 4
    linear_projection: bool = False
    text_width: int = 32
    text_layers: int = 2
    vae_channels: tuple[int, ...] = (32, 64)
    norm_groups: int = 8
    latent_side: int = 32

    @property
    def image_side(self) -> int:
        """Side of the default image, in pixels."""
        return int(self.latent_side * 2 ** (len(self.vae_channels) - 1))


TINY = Shape()
SD15_NARROW = Shape(
    unet_channels=(32, 64, 128, 128),
    reads_prompt=(True, True, True, False),
    layers_per_block=2,
    heads=8,
    vae_channels=(16, 16, 32, 32),
    latent_side=64,
)
SD15 = Shape(
    unet_channels=(320, 640, 1280, 1280),
    reads_prompt=(True, True, True, False),
    layers_per_block=2,
    heads=8,
    text_width=768,
    text_layers=12,
    vae_channels=(128, 256, 512, 512),
    norm_groups=32,
    latent_side=64,
)


def stable_diffusion(
    shape: Shape = TINY,
    *,
    seed: int = 0,
    sharpness: float = 1.0,
    scheduler: SchedulerMixin | None = None,
    words: Sequence[str] = WORDS,
) -> StableDiffusionPipeline:
    """A text-to-image pipeline in evaluation mode whose weights are drawn from `seed`.

    Args:
        shape: Widths and blocks.
        seed: Of the weights; the global random state is left as it was.
        sharpness: Factor on the queries of the cross-attention. Random weights give nearly uniform maps; 30 gives
            peaked ones, on which a wrong order of clamping and averaging shows.
        scheduler: DDIM with the betas of Stable Diffusion when left out.
        words: The words that are one token each.
    """
    tokenizer = clip_tokenizer(words)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = _unet(shape)
        vae = _vae(shape)
        text_encoder = _text_encoder(shape, tokenizer)
    with torch.no_grad():
        for name, module in unet.named_modules():
            if name.endswith("attn2"):
                module.to_q.weight.mul_(sharpness)
    for model in (unet, vae, text_encoder):
        model.eval().requires_grad_(False)
    pipeline = StableDiffusionPipeline(
        unet=unet,
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=scheduler or ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def ddim(prediction_type: str = "epsilon") -> DDIMScheduler:
    """The scheduler of the tests: the betas of Stable Diffusion, without the clipping that would hide a difference."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )


def clip_tokenizer(words: Sequence[str] = WORDS) -> CLIPTokenizer:
    """A byte-level CLIP tokenizer: every text can be read, and each of `words` is one token."""
    alphabet = sorted(ByteLevel.alphabet())
    merges = _merges(words)
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *(a + b for a, b in merges), START, END]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT)


def fingerprint(pipeline: StableDiffusionPipeline) -> dict[str, Hashable]:
    """Everything that watching, changing or explaining must leave as it was, by name.

    Two fingerprints differ when a component or processor was exchanged, a hook or an attribute was left behind, a
    weight was written to, a mode stayed active or the scheduler was configured anew. The timesteps that a scheduler
    sets for a run are its business and do not count.
    """
    facts: dict[str, Hashable] = {
        "function modes": torch._C._len_torch_function_stack(),
        "gradients": torch.is_grad_enabled(),
        "scheduler settings": repr(sorted(pipeline.scheduler.config.items())),
    }
    for name, part in pipeline.components.items():
        facts[f"component {name}"] = id(part)
        if not isinstance(part, nn.Module):
            continue
        for path, module in part.named_modules(prefix=name):
            facts[f"hooks {path}"] = tuple(
                (kind, len(hooks)) for kind, hooks in vars(module).items() if kind.endswith("_hooks")
            )
            facts[f"attributes {path}"] = tuple(sorted(vars(module)))
            facts[f"processor {path}"] = id(getattr(module, "processor", None))
            facts[f"training {path}"] = module.training
        for path, tensor in part.named_parameters(prefix=name):
            facts[f"weight {path}"] = (id(tensor), tensor._version, tensor.requires_grad, tensor.grad is None)
    return facts


def _merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, in order of rank, that make each word one token.

    A word is first merged as far as the merges of the words before it go; what remains is joined from the left by
    new merges of higher rank, which therefore cannot change how an earlier word is read.
    """
    merges: list[tuple[str, str]] = []
    for word in words:
        parts = [*word[:-1], word[-1] + "</w>"]
        for pair in merges:
            parts = _join(parts, pair)
        while len(parts) > 1:
            pair = (parts[0], parts[1])
            merges.append(pair)
            parts = _join(parts, pair)
    return merges


def _join(parts: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def _unet(shape: Shape) -> UNet2DConditionModel:
    down = tuple("CrossAttnDownBlock2D" if reads else "DownBlock2D" for reads in shape.reads_prompt)
    up = tuple("CrossAttnUpBlock2D" if reads else "UpBlock2D" for reads in reversed(shape.reads_prompt))
    return UNet2DConditionModel(
        sample_size=shape.latent_side,
        in_channels=4,
        out_channels=4,
        down_block_types=down,
        up_block_types=up,
        block_out_channels=shape.unet_channels,
        layers_per_block=shape.layers_per_block,
        # diffusers reads attention_head_dim as the NUMBER of heads in this family
        attention_head_dim=shape.heads,
        cross_attention_dim=shape.text_width,
        use_linear_projection=shape.linear_projection,
        norm_num_groups=shape.norm_groups,
    )


def _vae(shape: Shape) -> AutoencoderKL:
    blocks = len(shape.vae_channels)
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=shape.vae_channels,
        norm_num_groups=shape.norm_groups,
        sample_size=shape.image_side,
    )


def _text_encoder(shape: Shape, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.text_width,
            intermediate_size=4 * shape.text_width,
            num_hidden_layers=shape.text_layers,
            num_attention_heads=max(4, shape.text_width // 64),
            max_position_embeddings=CONTEXT,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
