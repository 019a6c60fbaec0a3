"""Maps of words that are not in the prompt: the prompt itself must give its own maps, and nothing else may change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sfumato
from sfumato.errors import CannotWatch, ModelError, OptionError
from sfumato.results.explanation import Explanation
from tests.families import family
from tests.pipelines import PROMPT, fingerprint

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
ASKABLE = ("Stable Diffusion", "Stable Diffusion XL", "Stable Diffusion, IP-Adapter", "InstructPix2Pix", "PixArt sigma")


def asked(name: str = "Stable Diffusion", **options: Any) -> Explanation:
    found = family(name)
    return sfumato.explain(found.wrapped(), found.request(), "ovam", **options)


@pytest.mark.parametrize("name", ASKABLE)
def test_the_prompt_asked_whole_gives_the_maps_of_its_words(name: str) -> None:
    found = family(name)
    own = sfumato.explain(found.wrapped(), found.request())
    prompt = found.request().prompt
    again = asked(name, text=[prompt])  # PixArt masks its padding, in others it shares the softmax
    np.testing.assert_allclose(again.words["map"].values, own.words["map"].values, rtol=0, atol=1e-5)
    assert again.words["word"].values.tolist() == own.words["word"].values.tolist()
    tokens, mine = own.tree["tokens"].to_dataset(), again.tree["tokens"].to_dataset()
    assert mine["word_index"].values.tolist() == tokens["word_index"].values.tolist()


def test_the_image_and_the_pipeline_stay_as_they_are() -> None:
    found = family("Stable Diffusion")
    pipeline = found.build()
    plain, before = found.run(pipeline), fingerprint(pipeline)
    explanation = sfumato.explain(found.wrapped(pipeline), found.request(), "ovam", text="dog")
    np.testing.assert_array_equal(np.asarray(explanation.image), plain)
    assert fingerprint(pipeline) == before
    assert 0 < float(explanation.word_map("dog").min()) < float(explanation.word_map("dog").max()) < 1


def test_tokens_of_a_text_share_one() -> None:
    tokens = asked(text="dog circle", layers="up_blocks", padding=False).tree["tokens"].to_dataset()
    assert tokens["token"].values.tolist() == ["<|startoftext|>", "dog</w>", "circle</w>", "<|endoftext|>"]
    np.testing.assert_allclose(tokens["map"].values.sum(0), 1, atol=1e-5)


def test_companions_change_the_map_and_have_none() -> None:
    alone, among = asked(text="dog"), asked(text="dog", companions="a photo of a")
    assert among.words["word"].values.tolist() == ["dog"]
    assert among.words["index"].values.tolist() == [0]
    owners = among.tree["tokens"]["word_index"].values.tolist()
    assert owners == [-1] * 5 + [0, -1]
    assert np.abs(among.words["map"].values - alone.words["map"].values).max() > 1e-3


def test_several_texts_are_asked_one_by_one() -> None:
    both = asked(text=("a dog", "a zebra"))
    assert both.words["word"].values.tolist() == ["a", "dog", "a", "zebra"]
    assert both.words["occurrence"].values.tolist() == [1, 1, 2, 1]
    for name, text in (("dog", "a dog"), ("zebra", "a zebra"), ("a#2", "a zebra")):
        single = asked(text=text).word_map(name.partition("#")[0])
        np.testing.assert_allclose(both.word_map(name).values, single.values, rtol=0, atol=1e-7)


def test_the_bare_products_are_no_probabilities() -> None:
    linear = asked(text="dog circle", activation="linear").tree["tokens"]["map"].values
    assert linear.min() < 0
    assert "product" in asked(text="dog", activation="linear").words.attrs["unit"]


def test_steps_layers_and_hard_maps() -> None:
    whole, first, second = (asked(text="dog", steps=steps).words["map"].values for steps in (None, (0,), 1))
    np.testing.assert_allclose(whole, (first + second) / 2, atol=1e-6)
    assert asked(text="dog", threshold=0.5).words["hard"].dtype == bool
    down, up = (asked(text="dog", layers=layers).words["map"].values for layers in ("down_blocks", "up_blocks"))
    np.testing.assert_allclose(whole, (2 * down + 4 * up) / 6, atol=1e-6)


def test_words_of_a_given_image() -> None:
    found = family("Stable Diffusion")
    picture = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    request = sfumato.Request("a cat", image=picture, invert="noise", at=300)
    explanation = sfumato.explain(found.wrapped(), request, "ovam", text="dog")
    np.testing.assert_array_equal(np.asarray(explanation.image), picture)
    assert explanation.words["word"].values.tolist() == ["dog"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "text is missing; say which words to look for"),
        ({"text": " "}, r"text is \(' ',\); expected words"),
        ({"text": "\u200b"}, "has no words"),
        ({"text": "dog " * 80}, "too long: dog.* would not be read; shorten it"),
        ({"text": "dog", "activation": "relu"}, "activation is 'relu'; choose from: softmax, linear"),
        ({"text": "dog", "steps": (2,)}, "steps has 2; this run has steps 0 to 1"),
        ({"text": "dog", "steps": (-1,)}, "steps is -1; expected a whole number from 0 to 1000"),
        ({"text": "dog", "layers": "nowhere"}, "no layer matches 'nowhere'; layers are: down_blocks"),
        ({"text": "dog", "layers": "("}, "no regular expression"),
        ({"text": "dog", "threshold": 0}, "threshold is 0; expected"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        asked(**options)


def test_models_and_processors_that_cannot_be_asked() -> None:
    from diffusers.models.attention_processor import AttnProcessor

    with pytest.raises(ModelError, match="ovam needs cross-attention"):
        asked("Flux dev", text="dog")
    found = family("Stable Diffusion")
    pipeline = found.build()
    pipeline.unet.set_attn_processor(AttnProcessor())
    with pytest.raises(CannotWatch, match="explicit softmax, which does not show its scores; switch to PyTorch's own"):
        sfumato.explain(found.wrapped(pipeline), sfumato.Request(PROMPT, steps=1), "ovam", text="dog")
