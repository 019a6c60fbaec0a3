"""OVAM: maps of words that are not in the prompt (Marcos-Manchon et al. 2024, arXiv 2403.14291).

The queries Q of every cross-attention are those of the generation; the keys are made of another text, the attribution
prompt, by the layer's own projection: K' = W_k E(text). The map of a token is the mean over steps, layers and heads of
softmax(Q K'^T / sqrt(d)), where the softmax is over the attribution prompt's tokens, aggregated as DAAM does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch

from sfumato.bounds import shown
from sfumato.errors import OptionError
from sfumato.generation.generate import generate
from sfumato.generation.recorders.attention import Attention
from sfumato.generation.recorders.reduce import AttentionSums, Read
from sfumato.methods.costs import runs
from sfumato.methods.word_maps import (
    check_layers,
    check_steps,
    mean_maps,
    text_sites,
    tokens_node,
    words_node,
)
from sfumato.models.model import Model, Site
from sfumato.models.words import Token, Tokens, Word
from sfumato.option_values import FEW, SHARE, STEPS
from sfumato.progress import Progress
from sfumato.registry import method
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation

ACTIVATIONS = ("softmax", "linear")


@dataclass(frozen=True)
class OvamOptions:
    """Options of ``ovam``."""

    text: tuple[str, ...] = field(
        default=(),
        metadata=FEW
        | {"prompt": True, "help": "words to find, in the prompt or not; several texts are evaluated one by one"},
    )
    companions: str = field(
        default="", metadata={"help": "text before them that shares the softmax but gets no maps, such as 'a photo of'"}
    )
    activation: Literal["softmax", "linear"] = field(
        default="softmax", metadata={"help": "softmax over the text's tokens, or the bare products of query and key"}
    )
    padding: bool | None = field(
        default=None, metadata={"help": "let padding tokens share the softmax; as the model reads its own prompts"}
    )
    layers: str | None = field(
        default=None,
        metadata={"pattern": "regex", "help": "regular expression over layer names, such as 'up_blocks'; all"},
    )
    steps: tuple[int, ...] | None = field(
        default=None, metadata=STEPS | {"help": "count only these steps (from 0); all"}
    )
    threshold: float | None = field(
        default=None, metadata=SHARE | {"help": "also store hard maps: at least this share of the maximum"}
    )

    def __post_init__(self) -> None:
        """Check every option."""
        if any(not text.strip() for text in self.text):
            raise OptionError(
                f"text is {shown(self.text)}; expected words to look for, such as 'crown' or ('crown', 'sky')"
            )
        check_steps(self.steps)
        check_layers(self.layers)


@method(
    "ovam",
    summary="Where would words be that are not in the prompt? Its queries, asked with keys of other words",
    options=OvamOptions,
    needs=("words", "cross-attention"),
    cost=lambda model, request, options: f"{runs(model, request)}, no extra call",
    paper="Marcos-Manchon et al. 2024, Open-Vocabulary Attention Maps with Token Optimization, arXiv 2403.14291",
)
def ovam(
    model: Model, requests: Sequence[CompletedRequest], options: OvamOptions, progress: Progress
) -> list[Explanation]:
    """Map the words of other texts while the images of the requests are made."""
    if not options.text:
        raise OptionError("text is missing; say which words to look for, such as text='crown'")
    check_steps(options.steps, model.steps(requests[0]))
    sites = text_sites(model, options.layers)
    asked = [_Asked(model, text, options) for text in options.text]
    sums = [
        AttentionSums(sites, "conditional", range(one.count), (), options.steps, read=one.reading(model))
        for one in asked
    ]
    trace = generate(model, requests, attachments=sums, progress=progress)
    latent = model.latent_grid(requests[0])
    found = [mean_maps(one.grids(), latent) for one in sums]
    maps = np.concatenate([part[:, : len(one.tokens.context)] for part, one in zip(found, asked, strict=True)], axis=1)
    if options.activation == "softmax":
        maps = np.clip(maps, 0, None)
    tokens = _together([one.tokens for one in asked])
    unit = "mean attention probability" if options.activation == "softmax" else "mean product of query and key"
    return [
        trace.explanation(
            number,
            {
                "words": words_node(tokens, maps[trace.of(number)], "ovam", unit, options.threshold),
                "tokens": tokens_node(tokens, maps[trace.of(number)], "ovam", unit),
            },
        )
        for number in range(len(requests))
    ]


class _Asked:
    """One attribution prompt: its tokens, in the order of their keys, and what the encoder makes of them."""

    def __init__(self, model: Model, text: str, options: OvamOptions) -> None:
        before = f"{options.companions.strip()} " if options.companions.strip() else ""
        read = model.tokens(before + text.strip())
        if unseen := [word.text for word in read.words if not word.seen and word.start >= len(before)]:
            raise OptionError(f"text {text[:60]!r} is too long: {', '.join(unseen)} would not be read; shorten it")
        kept = [token.index for token in read.context]
        if not model.masks_padding if options.padding is None else options.padding:
            kept += [place for place in range(read.length) if place not in kept]
        self.embedding = model.encode([before + text.strip()])[:, kept]  # (1, token, channel)
        self.count, self._linear = len(kept), options.activation == "linear"
        own = [word for word in read.words if word.start >= len(before)]
        if not own:
            raise OptionError(f"text {shown(text)} has no words; say which to look for, such as 'crown'")
        self.tokens = _renumbered(read, own)

    def reading(self, model: Model) -> Read:
        """How maps are read off a call: its queries, with the keys that its layer makes of this text."""
        keys: dict[str, torch.Tensor] = {}

        def read(attention: Attention, rows: slice) -> Iterator[tuple[slice, torch.Tensor]]:
            name = attention.site.name
            if name not in keys:  # not before the run, when weights may lie elsewhere
                keys[name] = _keys(model, attention.site, self.embedding)
            other = attention.reading(keys[name])
            if not self._linear:
                yield from other.by_heads(rows)
                return
            for head in range(attention.heads):
                heads = slice(head, head + 1)
                yield heads, other.scores(rows, heads)

        return read


def _keys(model: Model, site: Site, embedding: torch.Tensor) -> torch.Tensor:
    """What a layer makes of a text: (head, token, channel)."""
    module: Any = model.denoiser.get_submodule(site.name)
    project: Any = getattr(model.denoiser, "caption_projection", None)
    with torch.no_grad():
        text = embedding if project is None else project(embedding)
        if getattr(module, "norm_cross", None):
            text = module.norm_encoder_hidden_states(text)
        keys = module.to_k(text)[0].unflatten(-1, (module.heads, -1)).transpose(0, 1)
        norm = getattr(module, "norm_k", None)
        found: torch.Tensor = keys if norm is None else norm(keys)
    return found


def _renumbered(read: Tokens, own: Sequence[Word]) -> Tokens:
    """Words and tokens numbered by their places in the maps; tokens of companions belong to no word."""
    place = {token.index: number for number, token in enumerate(read.context)}
    index = {word.index: number for number, word in enumerate(own)}
    words = [replace(word, index=index[word.index], tokens=tuple(place[t] for t in word.tokens)) for word in own]
    context = [Token(place[t.index], t.text, index.get(t.word, -1)) for t in read.context]
    return Tokens(tuple(words), tuple(context), len(context))


def _together(parts: Sequence[Tokens]) -> Tokens:
    """Several texts one after the other; the same word in two texts is two occurrences of it."""
    words: list[Word] = []
    context: list[Token] = []
    counts: dict[str, int] = {}
    for part in parts:
        first, shift = len(words), len(context)
        for word in part.words:
            counts[word.text.casefold()] = counts.get(word.text.casefold(), 0) + 1
            places = tuple(shift + token for token in word.tokens)
            words.append(
                replace(word, index=first + word.index, occurrence=counts[word.text.casefold()], tokens=places)
            )
        context += [Token(shift + t.index, t.text, -1 if t.word < 0 else first + t.word) for t in part.context]
    return Tokens(tuple(words), tuple(context), len(context))
