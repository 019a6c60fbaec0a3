"""Transformers over patches with cross-attention to the text: PixArt, Hunyuan-DiT and Sana."""

from __future__ import annotations

import string
from functools import partial

from diffusers import (
    AutoencoderDC,
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    HunyuanDiT2DModel,
    HunyuanDiTPipeline,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
)
from transformers import BertConfig, BertModel, BertTokenizer, Gemma2Config, Gemma2Model, GemmaTokenizer

from tests.families.family import Family, random_weights
from tests.families.parts import (
    PROMPT,
    SIZE,
    T5_LENGTH,
    TEXT_WIDTH,
    amplified,
    autoencoder,
    byte_pairs,
    t5_text,
    t5_tokenizer,
)
from tests.pipelines import CONTEXT, WORDS

HEADS, HEAD_WIDTH = 3, 8
HUNYUAN_T5_LENGTH = 256


@random_weights
def pixart(pipeline: type[DiffusionPipeline] = PixArtAlphaPipeline) -> DiffusionPipeline:
    """T5 only; the transformer predicts a variance that is thrown away."""
    width = HEADS * HEAD_WIDTH
    return pipeline(
        transformer=amplified(
            PixArtTransformer2DModel(
                sample_size=16,
                patch_size=2,
                in_channels=4,
                out_channels=8,
                num_layers=2,
                num_attention_heads=HEADS,
                attention_head_dim=HEAD_WIDTH,
                cross_attention_dim=width,
                caption_channels=TEXT_WIDTH,
                use_additional_conditions=False,
            )
        ),
        scheduler=DPMSolverMultistepScheduler(),
        vae=autoencoder(scaling=0.13025 if pipeline is PixArtSigmaPipeline else 0.18215),
        text_encoder=t5_text(),
        tokenizer=t5_tokenizer(),
    )


@random_weights
def hunyuan_dit() -> DiffusionPipeline:
    """Reads a bilingual BERT and T5 as one sequence; its last block takes a skip connection from the first.

    The pipeline counts patches on latents an eighth of the image, so the autoencoder has four levels.
    """
    tokenizer = bert_tokenizer()
    width = 4 * HEAD_WIDTH
    return HunyuanDiTPipeline(
        transformer=amplified(
            HunyuanDiT2DModel(
                sample_size=8,
                patch_size=2,
                in_channels=4,
                num_layers=4,
                num_attention_heads=4,
                attention_head_dim=HEAD_WIDTH,
                hidden_size=width,
                cross_attention_dim=TEXT_WIDTH,
                cross_attention_dim_t5=TEXT_WIDTH,
                pooled_projection_dim=TEXT_WIDTH,
                text_len=CONTEXT,
                text_len_t5=HUNYUAN_T5_LENGTH,
            )
        ),
        scheduler=DDPMScheduler(beta_start=0.00085, beta_end=0.03, beta_schedule="scaled_linear", steps_offset=1),
        vae=autoencoder(channels=(8, 8, 16, 16), scaling=0.13025),
        text_encoder=BertModel(
            BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=TEXT_WIDTH,
                intermediate_size=2 * TEXT_WIDTH,
                num_hidden_layers=2,
                num_attention_heads=4,
            )
        ),
        tokenizer=tokenizer,
        text_encoder_2=t5_text(),
        tokenizer_2=t5_tokenizer(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@random_weights
def sana() -> DiffusionPipeline:
    """Linear self-attention, cross-attention to the states of a Gemma that was given instructions before the prompt."""
    tokenizer = gemma_tokenizer()
    width = HEADS * HEAD_WIDTH
    return SanaPipeline(
        transformer=SanaTransformer2DModel(
            sample_size=16,
            patch_size=1,
            in_channels=8,
            out_channels=8,
            num_layers=2,
            num_attention_heads=HEADS,
            attention_head_dim=HEAD_WIDTH,
            num_cross_attention_heads=2,
            cross_attention_head_dim=width // 2,
            cross_attention_dim=width,
            caption_channels=TEXT_WIDTH,
        ),
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, num_train_timesteps=1000
        ),
        vae=AutoencoderDC(
            latent_channels=8,
            attention_head_dim=4,
            encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8, 16),
            decoder_block_out_channels=(8, 8, 16),
            encoder_layers_per_block=(1, 1, 1),
            decoder_layers_per_block=(1, 1, 1),
            encoder_qkv_multiscales=((), (), (5,)),
            decoder_qkv_multiscales=((), (), (5,)),
            scaling_factor=0.41407,
        ),
        text_encoder=Gemma2Model(
            Gemma2Config(
                vocab_size=len(tokenizer),
                hidden_size=TEXT_WIDTH,
                intermediate_size=2 * TEXT_WIDTH,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=8,
                max_position_embeddings=2048,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        ),
        tokenizer=tokenizer,
    )


def bert_tokenizer() -> BertTokenizer:
    """Word pieces in lower case: the words, and every other text letter by letter."""
    letters = string.ascii_lowercase + string.digits
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, *string.punctuation]
    pieces += [f"##{letter}" for letter in letters]
    return BertTokenizer(vocab={piece: number for number, piece in enumerate(dict.fromkeys(pieces))})


def gemma_tokenizer() -> GemmaTokenizer:
    """Byte-pair encoding that writes a space as a part of the word after it, with bytes for unknown letters."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    alphabet = ["\n", "▁", *string.ascii_letters, *string.digits, *string.punctuation]
    merges = byte_pairs([*WORDS, *(f"▁{word}" for word in WORDS)])
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *alphabet, *(a + b for a, b in merges)]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    return GemmaTokenizer(vocab=vocabulary, merges=merges, add_bos_token=True)


TEXT = {"prompt": PROMPT, **SIZE, "guidance_scale": 4.5, "use_resolution_binning": False}
CLEAN = {**TEXT, "clean_caption": False, "max_sequence_length": T5_LENGTH}

CROSS = (
    Family("PixArt alpha", "PixArtAlphaPipeline", pixart, CLEAN),
    Family("PixArt sigma", "PixArtSigmaPipeline", partial(pixart, PixArtSigmaPipeline), CLEAN),
    Family("Hunyuan-DiT", "HunyuanDiTPipeline", hunyuan_dit, TEXT),
    Family("Sana", "SanaPipeline", sana, CLEAN),
)
