"""Concepts beside the text stream: taken through the blocks as text is, and seen by nobody."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import sfumato
from sfumato.errors import ModelError, OptionError
from sfumato.generation.generate import generate
from sfumato.generation.recorders.attention import Attention
from sfumato.generation.recorders.concepts import ConceptStream
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from tests.families import family
from tests.pipelines import fingerprint

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
STREAMS = ("Stable Diffusion 3", "Stable Diffusion 3.5", "Flux dev", "Flux schnell", "Flux, true guidance")


def asked(name: str = "Flux dev", **options: Any) -> Explanation:
    found = family(name)
    return sfumato.explain(found.wrapped(), found.request(), "concept_attention", **options)


class Compared(ConceptStream):
    """Keeps what attention gives the concepts beside what it gives the text."""

    def __init__(self, embeddings: torch.Tensor) -> None:
        super().__init__(embeddings, "conditional", ())
        self.pairs: list[tuple[torch.Tensor, torch.Tensor]] = []

    def step(self, block: Any, attention: Attention, rows: slice, modulation: torch.Tensor) -> torch.Tensor:
        given = super().step(block, attention, rows, modulation)
        assert attention._output is not None
        self.pairs.append((given, attention._output[rows, :, attention.text]))
        return given


@pytest.mark.parametrize("name", STREAMS)
def test_the_prompt_as_concepts_goes_through_the_blocks_as_the_text_does(name: str) -> None:
    model, request = family(name).wrapped(), family(name).request()
    compared = Compared(model.encode([request.prompt]))
    generate(model, request, attachments=[compared])
    blocks = len([site for site in model.sites() if site.place == "block" and site.kind == "joint"])
    assert len(compared.pairs) == 2 * blocks  # once at every step, also where each branch is a call of its own
    for concepts, text in compared.pairs:
        torch.testing.assert_close(concepts, text, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", STREAMS)
def test_the_image_is_unchanged_and_concepts_share_one(name: str) -> None:
    found = family(name)
    pipeline = found.build()
    plain, before = found.run(pipeline), fingerprint(pipeline)
    explanation = sfumato.explain(
        found.wrapped(pipeline), found.request(), "concept_attention", concepts=("cat", "zebra")
    )
    np.testing.assert_array_equal(np.asarray(explanation.image), plain)
    assert fingerprint(pipeline) == before
    assert explanation.words["word"].values.tolist() == ["cat", "zebra", "background"]
    maps = explanation.words["map"].values
    assert maps.shape == (3, 16, 24)
    np.testing.assert_allclose(maps.sum(0), 1, atol=1e-5)
    assert maps.std(axis=(1, 2)).min() > 1e-6


def test_the_map_is_the_softmax_of_the_products_of_outputs() -> None:
    model, request = family("Flux dev").wrapped(), family("Flux dev").request()
    names = ("cat", "background")
    embeddings = torch.cat([model.encode([name])[:, :1] for name in names], 1)  # one token each
    kept: list[torch.Tensor] = []

    class Kept(ConceptStream):
        def step(self, block: Any, attention: Attention, rows: slice, modulation: torch.Tensor) -> torch.Tensor:
            given = super().step(block, attention, rows, modulation)
            image = attention.of_the_image(rows)[2].transpose(1, 2).flatten(2)  # (row, place, all heads)
            kept.append(torch.einsum("rpd,rkd->rkp", image, given.transpose(1, 2).flatten(2)).softmax(1))
            return given

    layers = [site.name for site in model.sites() if site.place == "block"]
    stream = Kept(embeddings, "conditional", layers)
    generate(model, request, attachments=[stream])
    expected = torch.stack(kept).mean(0).reshape(1, 2, 8, 12).numpy()
    np.testing.assert_allclose(stream.maps(), expected, atol=1e-6)
    assert np.ptp(expected) > 1e-4


def test_nouns_of_the_prompt_are_the_concepts() -> None:
    assert asked().words["word"].values.tolist() == ["cat", "zebra", "table", "background"]
    assert asked(background=()).words["word"].values.tolist() == ["cat", "zebra", "table"]
    few = asked(concepts="a red cat", background=("floor", "sky"))
    assert few.words["word"].values.tolist() == ["a red cat", "floor", "sky"]


def test_layers_and_steps_are_chosen() -> None:
    late = asked(concepts="cat")
    assert late.words.attrs["layers"] == ["transformer_blocks.1.attn"]
    assert late.words.attrs["steps"] == [1]
    parts = [asked(concepts="cat", layers=rf"\.{n}\.", steps=(s,)).words["map"].values for n in (0, 1) for s in (0, 1)]
    whole = asked(concepts="cat", layers=r"^transformer", steps=(0, 1)).words["map"].values
    np.testing.assert_allclose(whole, np.mean(parts, axis=0), atol=1e-6)
    assert asked(concepts="cat", softmax=False).words.attrs["unit"] == "product of attention outputs"


def test_concepts_of_a_given_image() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    request = Request("", image=picture, invert="noise", at=400)
    found = sfumato.explain(family("Flux dev").wrapped(), request, "concept_attention", concepts="cat")
    np.testing.assert_array_equal(np.asarray(found.image), picture)
    assert found.words.attrs["steps"] == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concepts": " "}, "concepts is .* expected words"),
        ({"concepts": "background"}, "'background' is a concept and background"),
        ({"concepts": "cat " * 80}, "cannot be read whole; take a word or a short phrase"),
        ({"layers": "single"}, "finds no double block; try 'transformer_blocks'"),
        ({"layers": "nowhere"}, "no layer matches 'nowhere'"),
        ({"steps": (5,)}, "steps has 5; this run has steps 0 to 1"),
        ({"threshold": 2}, "threshold is 2"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        asked(**options)


def test_a_prompt_without_nouns_asks_for_concepts() -> None:
    with pytest.raises(OptionError, match="has no noun to look for; say which, such as concepts='cat'"):
        sfumato.explain(family("Flux dev").wrapped(), Request("red on the", steps=1), "concept_attention")


@pytest.mark.parametrize("name", ["Stable Diffusion", "Chroma", "Qwen-Image", "PixArt sigma"])
def test_models_without_a_text_stream_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="concept_attention needs text-stream"):
        asked(name)
