"""ConceptAttention: where in the image is each of a set of concepts? (Helbling et al. 2025, arXiv 2502.04320).

Concepts run through the blocks of a transformer with joint attention together with its text stream
(`sfumato.generation.recorders.concepts`). With o_x the attention output at position x of the image and o_c that of
concept c in one block, both over all heads, the map is the mean over late blocks and steps of softmax_c(o_x . o_c): at
every position the concepts share 1, so there should be one for the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch

from sfumato.bounds import shown
from sfumato.errors import OptionError
from sfumato.generation.generate import generate
from sfumato.generation.recorders.concepts import ConceptStream
from sfumato.methods.costs import runs
from sfumato.methods.word_maps import check_layers, check_steps, text_sites, words_node
from sfumato.models.model import Model
from sfumato.models.words import Token, Tokens, Word
from sfumato.option_values import FEW, SHARE, STEPS
from sfumato.progress import Progress
from sfumato.registry import method
from sfumato.request import CompletedRequest
from sfumato.results.explanation import Explanation
from sfumato.results.upscale import bicubic

NOUNS = ("noun", "propn", "x")  # what the lexicon does not know is mostly a noun


@dataclass(frozen=True)
class ConceptAttentionOptions:
    """Options of ``concept_attention``."""

    concepts: tuple[str, ...] = field(
        default=(),
        metadata=FEW
        | {
            "prompt": True,
            "help": "what to look for, in the prompt or not, such as cat,tree; the prompt's nouns",
        },
    )
    background: tuple[str, ...] = field(
        default=("background",), metadata=FEW | {"help": "concepts for what is nothing of these; they get maps too"}
    )
    layers: str | None = field(
        default=None,
        metadata={
            "pattern": "regex",
            "help": "regular expression over names of double blocks' attention; the later half",
        },
    )
    steps: tuple[int, ...] | None = field(
        default=None, metadata=STEPS | {"help": "compare at these steps only (from 0); the later half"}
    )
    softmax: bool = field(
        default=True, metadata={"help": "share 1 among the concepts at every position; else the bare products"}
    )
    threshold: float | None = field(
        default=None, metadata=SHARE | {"help": "also store hard maps: at least this share of the maximum"}
    )

    def __post_init__(self) -> None:
        """Check every option."""
        for name in ("concepts", "background"):
            given = getattr(self, name)
            if any(not concept.strip() for concept in given):
                raise OptionError(f"{name} is {shown(given)}; expected words, such as ('cat', 'tree')")
        if doubled := {one for one in self.concepts if one in self.background}:
            raise OptionError(f"{sorted(doubled)[0]!r} is a concept and background; leave it out in one of them")
        check_steps(self.steps)
        check_layers(self.layers)


@method(
    "concept_attention",
    summary="Where is each of a set of concepts? What attention gives the image, compared with what it gives them",
    options=ConceptAttentionOptions,
    needs=("words", "text-stream"),
    cost=lambda model, request, options: f"{runs(model, request)}; a few tokens more in each",
    paper="Helbling et al. 2025, ConceptAttention, arXiv 2502.04320",
)
def concept_attention(
    model: Model, requests: Sequence[CompletedRequest], options: ConceptAttentionOptions, progress: Progress
) -> list[Explanation]:
    """Map concepts while the images of the requests are made; each request by itself, since prompts differ in nouns."""
    return [_explained(model, request, options, progress) for request in requests]


def _explained(
    model: Model, request: CompletedRequest, options: ConceptAttentionOptions, progress: Progress
) -> Explanation:
    concepts = (*_wanted(model, request, options), *options.background)
    count = model.steps(request)
    check_steps(options.steps, count)
    steps = options.steps or range(count // 2, count)
    layers = [site.name for site in text_sites(model, options.layers) if site.place == "block"]
    if not layers:
        raise OptionError(f"layers is {shown(options.layers)}, which finds no double block; try 'transformer_blocks'")
    if options.layers is None:
        layers = layers[len(layers) // 2 :]
    embeddings = torch.cat([_embedding(model, concept) for concept in concepts], 1)
    stream = ConceptStream(embeddings, "conditional", layers, steps, softmax=options.softmax)
    trace = generate(model, request, attachments=[stream], progress=progress)
    maps = bicubic(stream.maps().astype(np.float64), model.latent_grid(request))
    if options.softmax:
        maps = np.clip(maps, 0, 1)
    unit = "share of the concepts" if options.softmax else "product of attention outputs"
    node = words_node(_named(concepts), maps, "concept_attention", unit, options.threshold)
    return trace.explanation(0, {"words": node.assign_attrs(layers=layers, steps=list(steps))})


def _wanted(model: Model, request: CompletedRequest, options: ConceptAttentionOptions) -> tuple[str, ...]:
    """The concepts that were asked for, else the prompt's nouns, each once."""
    if options.concepts:
        return options.concepts
    words = model.tokens(request.prompt).words
    nouns = dict.fromkeys(word.text.casefold() for word in words if word.pos in NOUNS)
    found = tuple(noun for noun in nouns if noun not in options.background)
    if not found:
        raise OptionError(
            f"the prompt {request.prompt[:60]!r} has no noun to look for; say which, such as concepts='cat'"
        )
    return found


def _embedding(model: Model, concept: str) -> torch.Tensor:
    """A concept as one token: the mean over its words' tokens, read by itself: (1, 1, channel).

    Where the context holds two readings of a text, it is the second, by the larger encoder.
    """
    read = model.tokens(concept)
    places = [place for word in read.words for place in word.tokens]
    if not places or any(not word.seen for word in read.words):
        raise OptionError(f"the concept {concept[:60]!r} cannot be read whole; take a word or a short phrase")
    again = max((b for a, b in pairwise(t.index for t in read.context) if b > a + 1), default=0)  # after the padding
    later = [place for place in places if place >= again]
    found: torch.Tensor = model.encode([concept])[:, later].mean(1, keepdim=True)
    return found


def _named(concepts: Sequence[str]) -> Tokens:
    """Concepts as words of a list, each with one token."""
    words = [Word(text, i, 1, 0, 0, "noun", (i,)) for i, text in enumerate(concepts)]
    return Tokens(tuple(words), tuple(Token(i, text, i) for i, text in enumerate(concepts)), len(concepts))
