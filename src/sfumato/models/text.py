"""How a pipeline reads a prompt: the tokens of each word in the denoiser's context, and what encoders make of it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from sfumato.errors import ModelError
from sfumato.models.lexicon import pos
from sfumato.models.words import Token, Tokens, joined, tokenise, unread


class Text:
    """One CLIP encoder, as Stable Diffusion 1 and 2 have it.

    Args:
        pipeline: The pipeline.
        arguments: What else its call is given: "clip_skip", "max_sequence_length" and "prompt_embeds" matter here.
    """

    masked = False
    """Whether the denoiser is told which tokens are padding."""

    def __init__(self, pipeline: Any, arguments: Mapping[str, Any]) -> None:
        self._pipeline = pipeline
        self._arguments = arguments

    @property
    def named(self) -> bool:
        """Whether the context stands for words, not for embeddings that came from elsewhere."""
        return self._arguments.get("prompt_embeds") is None

    def tokens(self, prompt: str, *, negative: bool = False) -> Tokens:
        """A prompt as the denoiser's context holds it; without words where embeddings are given in its place.

        Args:
            prompt: The text.
            negative: Whether it is the negative prompt.
        """
        embeddings = self._arguments.get("negative_prompt_embeds" if negative else "prompt_embeds")
        if embeddings is not None:
            return unread(int(embeddings.shape[1]))
        return self._negative(prompt) if negative else self._tokens(prompt)

    def encode(self, prompts: Sequence[str]) -> torch.Tensor:
        """The denoiser's context: (prompt, token, channel)."""
        found: torch.Tensor = self._encoded(prompts)[0]
        return found

    def pooled(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """What the denoiser is told of prompts beside that, by argument."""
        return {}

    def _tokens(self, prompt: str) -> Tokens:
        return self._read(prompt, self._pipeline.tokenizer)

    def _negative(self, prompt: str) -> Tokens:
        return self._tokens(prompt)

    def _read(self, prompt: str, tokenizer: Any, length: int | None = None, **more: Any) -> Tokens:
        # a textual inversion of several vectors is written out as the pipeline does it, else later words would shift
        convert = getattr(self._pipeline, "maybe_convert_prompt", None)
        return tokenise(prompt if convert is None else convert(prompt, tokenizer), tokenizer, pos, length, **more)

    def _encoded(self, prompts: Sequence[str], **more: Any) -> Any:
        given = {name: self._arguments[name] for name in ("clip_skip",) if name in self._arguments}
        return self._pipeline.encode_prompt(
            list(prompts),
            device=self._pipeline._execution_device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
            **given,
            **more,
        )


class EditText(Text):
    """One CLIP encoder, of a pipeline that keeps its reading to itself, as InstructPix2Pix does."""

    def _encoded(self, prompts: Sequence[str], **more: Any) -> Any:
        device = self._pipeline._execution_device
        return (self._pipeline._encode_prompt(list(prompts), device, 1, do_classifier_free_guidance=False),)


class TwoEncoders(Text):
    """Two CLIP encoders whose channels stand beside each other, as Stable Diffusion XL has them."""

    def _tokens(self, prompt: str) -> Tokens:
        """The prompt as both tokenizers cut it.

        Raises:
            ModelError: They cut it differently, so that a place of the context would stand for two words.
        """
        second = self._read(prompt, self._pipeline.tokenizer_2)
        if self._pipeline.tokenizer is None:  # the refiner has the second encoder only
            return second
        first = self._read(prompt, self._pipeline.tokenizer)
        if [(t.index, t.word) for t in first.context] != [(t.index, t.word) for t in second.context]:
            raise ModelError(
                f"the two tokenizers cut {prompt[:60]!r} differently ({len(first.context)} and {len(second.context)} "
                "tokens), so a token stands for no one word; load both from the model's own folder"
            )
        return first

    def pooled(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """The summary by the second encoder: (prompt, channel)."""
        return {"added_cond_kwargs.text_embeds": self._encoded(prompts, prompt_2=None)[2]}


class ThreeEncoders(TwoEncoders):
    """Two CLIP encoders beside each other, then a T5 encoder, as Stable Diffusion 3 has them."""

    length = 256

    def _tokens(self, prompt: str) -> Tokens:
        """Every word has tokens of both kinds, CLIP's first; T5's only where its encoder is loaded."""
        clip = super()._tokens(prompt)
        if self._pipeline.text_encoder_3 is None:
            return clip
        length = int(self._arguments.get("max_sequence_length", self.length))
        return joined(clip, self._read(prompt, self._pipeline.tokenizer_3, length))

    def pooled(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """The summary by both CLIP encoders: (prompt, channel)."""
        return {"pooled_projections": self._encoded(prompts)[2]}

    def _encoded(self, prompts: Sequence[str], **more: Any) -> Any:
        length = int(self._arguments.get("max_sequence_length", self.length))
        return super()._encoded(prompts, prompt_2=None, prompt_3=None, max_sequence_length=length)


class T5Text(Text):
    """One T5 encoder, as PixArt, Chroma and AuraFlow have it."""

    length = 512

    def _tokens(self, prompt: str) -> Tokens:
        return self._read(prompt, self._pipeline.tokenizer, self._length)

    def _lowered(self, prompt: str, **more: Any) -> Tokens:
        """A prompt in lower case without space around it, its words at their places in what was written."""
        short = prompt.strip()
        lowered = short.lower() if len(short.lower()) == len(short) else short  # else letters would change places
        found = self._read(lowered, self._pipeline.tokenizer, self._length, **more)
        before = len(prompt) - len(prompt.lstrip())
        words = (
            replace(w, start=w.start + before, end=w.end + before, text=short[w.start : w.end]) for w in found.words
        )
        return replace(found, words=tuple(words))

    @property
    def _length(self) -> int:
        return int(self._arguments.get("max_sequence_length", self.length))

    def _encoded(self, prompts: Sequence[str], **more: Any) -> Any:
        return super()._encoded(prompts, max_sequence_length=self._length, **more)


class FluxText(T5Text):
    """A T5 encoder for the context and a CLIP encoder for a summary, as Flux has them."""

    def _tokens(self, prompt: str) -> Tokens:
        return self._read(prompt, self._pipeline.tokenizer_2, self._length)

    def pooled(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """The summary by CLIP: (prompt, channel)."""
        return {"pooled_projections": self._encoded(prompts)[1]}

    def _encoded(self, prompts: Sequence[str], **more: Any) -> Any:
        device = self._pipeline._execution_device
        return self._pipeline.encode_prompt(list(prompts), None, device, max_sequence_length=self._length)


class PixArtText(T5Text):
    """T5 of a prompt in lower case, as PixArt reads it."""

    length = 120
    masked = True

    def _tokens(self, prompt: str) -> Tokens:
        return self._lowered(prompt)

    def pooled(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Which tokens are padding: (prompt, token)."""
        return {"encoder_attention_mask": self._encoded(prompts)[1]}


class SigmaText(PixArtText):
    """As PixArt alpha, with a longer context."""

    length = 300


class AuraText(T5Text):
    """As T5, with a shorter context."""

    length = 256


class Unencoded(T5Text):
    """Of pipelines whose context cannot be made apart from a run."""

    def encode(self, prompts: Sequence[str]) -> torch.Tensor:
        """There is no way.

        Raises:
            ModelError: Always.
        """
        raise ModelError("this pipeline makes its context in its own call only, so no prompt can be put in its place")


class SanaText(Unencoded):
    """Gemma of a prompt in lower case, after instructions whose tokens, but for the last, are left out."""

    length = 300

    def _tokens(self, prompt: str) -> Tokens:
        own = inspect.signature(self._pipeline.__call__).parameters["complex_human_instruction"].default
        said = "\n".join(self._arguments.get("complex_human_instruction", own) or ())
        tokenizer = self._pipeline.tokenizer
        dropped = len(tokenizer(said)["input_ids"]) - 2 if said else 0
        found = self._lowered(prompt, within=f"{said}{{}}", dropped=dropped)
        first = Token(0, tokenizer.bos_token, -1)  # which is kept whatever is left out after it
        return replace(found, context=(first, *found.context[1:]))

    def _negative(self, prompt: str) -> Tokens:
        return self._lowered(prompt)  # without instructions


class HunyuanText(Unencoded):
    """A BERT encoder of Chinese and English, then a T5 encoder, as Hunyuan-DiT has them."""

    lengths = (77, 256)

    def tokens(self, prompt: str, *, negative: bool = False) -> Tokens:
        """As elsewhere; embeddings that stand in place of a prompt are two."""
        before = "negative_" if negative else ""
        found = [self._arguments.get(f"{before}prompt_embeds{more}") for more in ("", "_2")]
        if any(one is None for one in found):
            return super().tokens(prompt, negative=negative)
        return unread(sum(int(one.shape[1]) for one in found if one is not None))

    def _tokens(self, prompt: str) -> Tokens:
        """Every word has tokens of both kinds, BERT's first."""
        tokenizers = (self._pipeline.tokenizer, self._pipeline.tokenizer_2)
        first, second = (self._read(prompt, one, size) for one, size in zip(tokenizers, self.lengths, strict=True))
        return joined(first, second)


class QwenText(Unencoded):
    """Qwen of a prompt within a conversation, whose beginning is left out, as Qwen-Image has it."""

    def _tokens(self, prompt: str) -> Tokens:
        template, dropped = self._pipeline.prompt_template_encode, int(self._pipeline.prompt_template_encode_start_idx)
        return self._read(prompt, self._pipeline.tokenizer, self._length, within=template, dropped=dropped)


class ImageEmbeddings(Text):
    """No text: the context is made of an image's embedding, as in the decoder of Kandinsky 2.2."""

    named = False

    def tokens(self, prompt: str, *, negative: bool = False) -> Tokens:
        """The tokens that the embedding becomes."""
        return unread(int(self._pipeline.unet.encoder_hid_proj.num_image_text_embeds))

    def encode(self, prompts: Sequence[str]) -> torch.Tensor:
        """There is nothing to encode.

        Raises:
            ModelError: Always.
        """
        raise ModelError("this pipeline reads no text; its condition is image_embeds")


class NoText(Text):
    """Neither text nor anything in its place."""

    named = False

    def tokens(self, prompt: str, *, negative: bool = False) -> Tokens:
        """There is no text.

        Raises:
            ModelError: Always.
        """
        raise ModelError("this model takes no text, so it has no words")
