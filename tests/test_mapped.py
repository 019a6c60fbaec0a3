"""Images with the maps of their words: in batches, each made once, in order, and kept when the work is cut off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato import mapped as mapping
from sfumato import registry
from sfumato.errors import ModelError, OptionError, SfumatoError, SfumatoWarning, UnknownMethod
from sfumato.explain import BATCH
from sfumato.mapped import Mapped, mapped
from sfumato.registry import Method
from sfumato.request import Request
from sfumato.results.upscale import bicubic
from tests.labels import tiny_labels

SMALL: dict[str, Any] = {"steps": 1, "height": 16, "width": 24}
PROMPTS = ("a red cat", "a blue dog, on the table", "a photo", "a dog and a red cat")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def model(tiny_sd: Callable[..., StableDiffusionPipeline]) -> Any:
    return sfumato.wrap(tiny_sd(sharpness=30))


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The seeds of every batch that is generated."""
    made: list[list[int]] = []
    own = mapping.explain

    def explain(model: Any, requests: Sequence[Request], *given: Any, **more: Any) -> Any:
        found = own(model, requests, *given, **more)
        made.append([request.seed for request in requests])
        return found

    monkeypatch.setattr(mapping, "explain", explain)
    return made


def asked(count: int, start: int = 0) -> list[Request]:
    return [Request(PROMPTS[seed % len(PROMPTS)], seed=seed, **SMALL) for seed in range(start, start + count)]


def same(one: Sequence[Mapped], other: Sequence[Mapped]) -> None:
    assert [a.request for a in one] == [b.request for b in other]
    for a, b in zip(one, other, strict=True):
        assert a.words == b.words
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.maps, b.maps)


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
    np.testing.assert_array_equal(mapping._in_order(shuffled), words["map"].values)


def test_every_image_is_made_once_in_batches(model: Any, batches: list[list[int]]) -> None:
    requests, told = asked(BATCH + 2), []
    first = mapped(model, requests, progress=lambda what, done, total: told.append((what, done, total)))
    assert batches == [list(range(BATCH)), [BATCH, BATCH + 1]]
    assert told[-1] == ("prompts", BATCH + 2, BATCH + 2)
    batches.clear()
    same(mapped(model, requests), first)
    same(mapped(model, requests[::-1]), first[::-1])
    assert batches == []


def test_equal_requests_are_made_once_and_given_twice(model: Any, batches: list[list[int]]) -> None:
    one, other = asked(2)
    found = mapped(model, [one, other, one, one])
    assert batches == [[0, 1]]
    same([found[0], found[0]], [found[2], found[3]])
    assert found[0].request.seed == 0
    assert found[1].request.seed == 1


def test_work_that_is_cut_off_keeps_what_was_done(
    model: Any, batches: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, counted = asked(2 * BATCH + 3), mapping.explain

    def stopping(*given: Any, **more: Any) -> Any:
        if batches:
            raise KeyboardInterrupt
        return counted(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(mapping, "explain", stopping)
        with pytest.raises(KeyboardInterrupt):
            mapped(model, requests)
    assert batches == [list(range(BATCH))]
    batches.clear()
    found = mapped(model, requests)
    assert batches == [list(range(BATCH, 2 * BATCH)), list(range(2 * BATCH, 2 * BATCH + 3))]
    assert [one.request.seed for one in found] == list(range(2 * BATCH + 3))
    for one in found[:: BATCH - 1]:
        alone = sfumato.explain(model, one.request)
        np.testing.assert_allclose(one.maps, alone.words["map"].values, atol=2e-5)


def test_other_settings_are_other_images(
    model: Any, batches: list[list[int]], tiny_sd: Callable[..., StableDiffusionPipeline]
) -> None:
    (request,) = asked(1)
    others: list[tuple[Any, Request, dict[str, Any]]] = [
        (model, request, {}),
        (model, request.with_(steps=2), {}),
        (model, request.with_(guidance=2.0), {}),
        (model, request, {"layers": "up_blocks"}),
        (model, request, {"normalise": True}),
        (sfumato.wrap(tiny_sd(seed=1)), request, {}),
    ]
    for number, (network, one, options) in enumerate(others, start=1):
        mapped(network, [one], **options)
        assert len(batches) == number
    for network, one, options in others:
        mapped(network, [one], **options)
    assert len(batches) == len(others)


def test_maps_of_another_method_are_other_maps(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[str] = []

    def explain(model: Any, requests: Sequence[Request], method: str, **more: Any) -> Any:
        asked_for.append(method)
        return sfumato.explain(model, requests, **more)

    def find(name: str) -> Method:
        return replace(registry.find("daam"), name=name, version=versions[name])

    versions = {"one": 1, "another": 1}
    monkeypatch.setattr(mapping, "explain", explain)
    monkeypatch.setattr(mapping, "find", find)
    for method in ("one", "another", "one"):
        mapped(model, asked(1), method=method)
    assert asked_for == ["one", "another"]
    versions["one"] = 2
    mapped(model, asked(1), method="one")
    assert asked_for == ["one", "another", "one"]


def test_a_default_that_is_given_is_the_same(model: Any, batches: list[list[int]]) -> None:
    mapped(model, asked(1))
    mapped(model, asked(1), normalise=False, keep=[])
    assert len(batches) == 1


def test_without_a_cache_all_is_made_again(
    model: Any, batches: list[list[int]], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", "off")
    same(mapped(model, asked(2)), mapped(model, asked(2)))
    assert batches == [[0, 1], [0, 1]]
    assert not cache.exists()


def test_a_damaged_entry_is_made_again(model: Any, batches: list[list[int]], cache: Path) -> None:
    first = mapped(model, asked(2))
    damaged = sorted(path for path in cache.rglob("*") if path.is_file())[0]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    batches.clear()
    with pytest.warns(SfumatoWarning, match="an entry of the cache .* is damaged"):
        again = mapped(model, asked(2))
    assert [len(batch) for batch in batches] == [1]
    for one, other in zip(again, first, strict=True):
        np.testing.assert_allclose(one.maps, other.maps, atol=2e-5)


def test_words_that_were_cut_off_have_no_map(model: Any, batches: list[list[int]]) -> None:
    long = Request("a " * 74 + "red dog, table", **SMALL)
    with pytest.warns(SfumatoWarning, match="not seen by the model: dog, ,, table"):
        (one,) = mapped(model, [long])
    assert [word.seen for word in one.words] == [True] * 75 + [False] * 3
    assert one.seen == list(range(75))
    assert np.isfinite(one.maps[:75]).all()
    assert np.isnan(one.maps[75:]).all()
    assert np.isnan(one.fine(76)).all()
    same(mapped(model, [long]), [one])  # the notes were told once, when the image was made
    assert len(batches) == 1


def test_nothing_asked_is_nothing_made(model: Any, batches: list[list[int]]) -> None:
    assert mapped(model, []) == []
    assert batches == []


def test_what_cannot_be_mapped_is_said(model: Any) -> None:
    with pytest.raises(UnknownMethod, match="there is no method 'magic'"):
        mapped(model, asked(1), method="magic")
    with pytest.raises(OptionError, match="daam has no option 'magic'"):
        mapped(model, asked(1), magic=1)
    with pytest.raises(SfumatoError, match="this explanation has no word maps; its nodes are"):
        mapped(model, asked(1), method="df_cam")
    with pytest.raises(ModelError, match="takes no text"):
        mapped(sfumato.wrap(tiny_labels()), [Request("a red cat")])
