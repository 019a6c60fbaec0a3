"""Qwen-Image: a double-stream transformer that reads the states of a vision-language model given a template."""

from __future__ import annotations

from diffusers import AutoencoderKLQwenImage, DiffusionPipeline, QwenImagePipeline, QwenImageTransformer2DModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from tests.families.family import Family, random_weights
from tests.families.parts import NEGATIVE, PROMPT, SIZE, T5_LENGTH, TEXT_WIDTH, amplified, byte_pairs, flow
from tests.pipelines import WORDS

# The pipeline drops the first 34 tokens, which is the length of its template only if each of these is one token.
TEMPLATE_WORDS = (
    *("system", "user", "assistant", "Describe"),
    *("Ġthe", "Ġimage", "Ġby", "Ġdetailing", "Ġcolor", "Ġshape", "Ġsize", "Ġtexture", "Ġquantity", "Ġtext"),
    *("Ġspatial", "Ġrelationships", "Ġof", "Ġobjects", "Ġand", "Ġbackground"),
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LATENT_CHANNELS = 4


@random_weights
def qwen_image() -> DiffusionPipeline:
    """Text and image in two streams that attend to one another in every block; true guidance in two calls."""
    tokenizer = qwen_tokenizer()
    return QwenImagePipeline(
        transformer=amplified(
            QwenImageTransformer2DModel(
                patch_size=2,
                in_channels=4 * LATENT_CHANNELS,
                out_channels=LATENT_CHANNELS,
                num_layers=2,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=TEXT_WIDTH,
                axes_dims_rope=(4, 6, 6),
            )
        ),
        scheduler=flow(dynamic=True),
        vae=AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=LATENT_CHANNELS,
            dim_mult=[1, 2, 2],
            num_res_blocks=1,
            temperal_downsample=[False, True],
            latents_mean=[0.0] * LATENT_CHANNELS,
            latents_std=[1.0] * LATENT_CHANNELS,
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(_text_config(tokenizer)),
        tokenizer=tokenizer,
    )


def _text_config(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLConfig:
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": TEXT_WIDTH,
            "intermediate_size": 2 * TEXT_WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1000000.0},
        },
        vision_config={
            "depth": 1,
            "hidden_size": TEXT_WIDTH,
            "intermediate_size": 2 * TEXT_WIDTH,
            "num_heads": 2,
            "out_hidden_size": TEXT_WIDTH,
            "fullatt_block_indexes": [0],
        },
    )


def qwen_tokenizer() -> Qwen2Tokenizer:
    """A byte-level tokenizer to which the words, with and without a space before, are one token each."""
    merges = byte_pairs([*WORDS, *(f"Ġ{word}" for word in WORDS), *TEMPLATE_WORDS])
    pieces = [*sorted(ByteLevel.alphabet()), *(left + right for left, right in merges), *SPECIAL]
    return Qwen2Tokenizer(
        vocab={piece: number for number, piece in enumerate(dict.fromkeys(pieces))},
        merges=merges,
        additional_special_tokens=list(SPECIAL[1:]),
    )


QWEN = (
    Family(
        "Qwen-Image",
        "QwenImagePipeline",
        qwen_image,
        {
            "prompt": PROMPT,
            "negative_prompt": NEGATIVE,
            "true_cfg_scale": 4.0,
            **SIZE,
            "max_sequence_length": T5_LENGTH,
        },
    ),
)
