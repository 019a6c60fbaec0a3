"""The maps of a batch: those of the method, in the order of the prompt, and none for words that were cut off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato.errors import ModelError, SfumatoError, SfumatoWarning, UnknownMethod
from sfumato.progress import silent
from sfumato.request import Request
from sfumato.results.upscale import bicubic
from sfumato.runs.task import Item
from sfumato.tasks.shared import word_maps
from sfumato.tasks.shared.word_maps import Mapped, mapped_in, measured_maps
from tests.labels import tiny_labels

SMALL: dict[str, Any] = {"steps": 1, "height": 16, "width": 24}
PROMPTS = ("a red cat", "a blue dog, on the table", "a photo", "a dog and a red cat")


@pytest.fixture(scope="module")
def model(tiny_sd: Callable[..., StableDiffusionPipeline]) -> Any:
    return sfumato.wrap(tiny_sd(sharpness=30))


def asked(count: int) -> list[Request]:
    return [Request(PROMPTS[seed % len(PROMPTS)], seed=seed, **SMALL) for seed in range(count)]


def mapped(model: Any, requests: list[Request], method: str = "daam") -> list[Mapped]:
    return measured_maps(model, [Item(one) for one in requests], method, silent)


def test_maps_are_those_of_the_method_in_the_order_of_the_prompt(model: Any) -> None:
    found = mapped(model, asked(3))
    for one, request in zip(found, asked(3), strict=True):
        alone = sfumato.explain(model, request)
        assert [word.text for word in one.words] == alone.words["word"].values.tolist()
        np.testing.assert_allclose(one.maps, alone.words["map"].values, atol=2e-5)
        assert one.image.shape == (16, 24, 3)
        assert one.image.dtype == np.uint8
        assert np.abs(one.image.astype(int) - np.asarray(alone.image)).max() <= 1
        assert one.request == model.complete(request)
        assert one.seen == list(range(len(one.words)))
    np.testing.assert_array_equal(found[1].fine(2), bicubic(found[1].maps[2], (16, 24)))


def test_words_without_order_are_put_in_order(model: Any) -> None:
    words = sfumato.explain(model, asked(2)[1]).words
    shuffled = words.isel(word=[3, 0, 5, 1, 6, 2, 4]).transpose("x", "word", "y")
    np.testing.assert_array_equal(word_maps._in_order(shuffled), words["map"].values)


def test_a_batch_is_made_at_once(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[int]] = []
    own = word_maps.explain

    def explain(model: Any, requests: Any, *given: Any, **more: Any) -> Any:
        made.append([request.seed for request in requests])
        assert more["batch"] == len(requests)
        return own(model, requests, *given, **more)

    monkeypatch.setattr(word_maps, "explain", explain)
    found = mapped(model, asked(10))
    assert made == [list(range(10))]
    assert [one.request.seed for one in found] == list(range(10))


def test_words_that_were_cut_off_have_no_map(model: Any) -> None:
    long = Request("a " * 74 + "red dog, table", **SMALL)
    with pytest.warns(SfumatoWarning, match="not seen by the model: dog, ,, table"):
        (one,) = mapped(model, [long])
    assert [word.seen for word in one.words] == [True] * 75 + [False] * 3
    assert one.seen == list(range(75))
    assert np.isfinite(one.maps[:75]).all()
    assert np.isnan(one.maps[75:]).all()
    assert np.isnan(one.fine(76)).all()


def test_maps_of_another_method_are_other_maps(model: Any) -> None:
    (request,) = asked(1)
    one, other = (mapped_in(model, sfumato.explain(model, request, normalise=normal)) for normal in (False, True))
    assert np.abs(one.maps - other.maps).max() > 0
    np.testing.assert_array_equal(one.image, other.image)


def test_what_cannot_be_mapped_is_said(model: Any) -> None:
    with pytest.raises(UnknownMethod, match="there is no method 'magic'"):
        mapped(model, asked(1), method="magic")
    with pytest.raises(SfumatoError, match="this explanation has no word maps; its nodes are"):
        mapped(model, asked(1), method="df_cam")
    with pytest.raises(ModelError, match="daam needs token-maps, which LabelPipeline"):
        mapped(sfumato.wrap(tiny_labels()), [Request("a red cat")])
