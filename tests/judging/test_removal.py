"""Words taken out of the prompt: known changes beside known maps, and images of a tiny model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import sfumato
from sfumato.caching.cache import Cache
from sfumato.caching.images import Generation, Generator
from sfumato.errors import SfumatoError
from sfumato.generation.generate import generate
from sfumato.judging.removal import Removal, mapped, removal
from sfumato.metrics import rank_correlation
from sfumato.metrics.controls import control_map
from sfumato.request import Request
from tests.judging.made_up import GREY, GRID, PROMPT, REQUEST, SIZE, explained, pattern, patterns, word_node
from tests.methods.steps import model_of
from tests.pipelines import fingerprint

WITHOUT = {"red": "cat, dog left", "cat": "red dog left", "dog": "red cat, left", "left": "red cat, dog"}
"""What is left of the prompt without a word."""


@dataclass
class Fake:
    """Gives the image that is known for a prompt: the grey one and a change (y, x) in one channel."""

    changes: dict[str, NDArray[Any]]
    asked: list[Request] = field(default_factory=list)

    def __call__(self, requests: Sequence[Request]) -> list[Generation]:
        self.asked += requests
        return [Generation("", self.image(request.prompt), np.zeros(0, np.float32)) for request in requests]

    def image(self, prompt: str) -> NDArray[np.uint8]:
        pixels = GREY.copy()
        change = np.kron(self.changes[prompt], np.ones((2, 2)))  # from the map's grid to the image's
        pixels[..., 1] += np.round(200 * change).astype(np.uint8)
        return pixels


def removed(fake: Fake, request: Request = REQUEST, maps: dict[str, NDArray[np.float64]] | None = None) -> Removal:
    return removal(model_of("text"), explained(maps, request), fake)  # type: ignore[arg-type]


def where_the_maps_say() -> Fake:
    """Without a word, the image changes just as the word's map says."""
    maps = patterns()
    return Fake({prompt: maps[name] for name, prompt in WITHOUT.items()})


def test_a_change_where_the_map_says_is_agreed_on() -> None:
    found = removed(where_the_maps_say())
    assert found.words == ("red", "cat", "dog", "left")
    np.testing.assert_allclose(found.own, 1, atol=1e-3)
    assert np.abs(found.others).max() < 0.3
    for row, against in zip(found.measured(), ("the other words' maps", "a blob in the middle"), strict=True):
        assert (row.check, row.against, row.wanted) == ("removal", against, "above")
        assert (row.value.n, row.value.mean) == (4, pytest.approx(1, abs=1e-3))
        assert row.gain.mean == pytest.approx(row.value.mean - row.control.mean)
        assert row.gain.low > 0.5
        assert row.verdict == "inconclusive"  # of four words


def test_a_change_where_another_words_map_says_is_not() -> None:
    fake, maps = where_the_maps_say(), patterns()
    for prompt, name in zip(fake.changes, ("cat", "dog", "left", "red"), strict=True):
        fake.changes[prompt] = maps[name]
    found = removed(fake)
    others, _ = found.measured()
    np.testing.assert_allclose(found.own, [rank_correlation(maps[a], maps[b]) for a, b in _turns()], atol=1e-2)
    assert others.gain.high < 0
    assert others.verdict == "inconclusive"  # of four words


def test_five_words_are_enough_for_a_verdict() -> None:
    prompt = "red cat dog left table"
    maps, request = patterns(prompt), REQUEST.with_(prompt=prompt)
    names = prompt.split()
    without = [" ".join(word for word in names if word != name) for name in names]
    right = removed(Fake({text: maps[name] for text, name in zip(without, names, strict=True)}), request)
    assert {row.verdict for row in right.measured()} == {"passed"}
    turned = [*names[1:], names[0]]
    wrong = removed(Fake({text: maps[name] for text, name in zip(without, turned, strict=True)}), request)
    assert wrong.measured()[0].verdict == "failed"


def _turns() -> list[tuple[str, str]]:
    return [("red", "cat"), ("cat", "dog"), ("dog", "left"), ("left", "red")]


def test_the_numbers_are_rank_correlations_of_maps_and_changes() -> None:
    fake, maps = where_the_maps_say(), patterns()
    fake.changes["red dog left"] = change = pattern(77)
    found = removed(fake)
    assert found.own[1] == pytest.approx(rank_correlation(maps["cat"], change), abs=1e-2)
    others = [rank_correlation(maps[name], change) for name in ("red", "dog", "left")]
    assert found.others[1] == pytest.approx(np.mean(others), abs=1e-2)
    blob = control_map("centre", GRID, 0, 0)
    assert found.centre[1] == pytest.approx(rank_correlation(blob, change), abs=1e-2)
    np.testing.assert_allclose(found.changes[1], np.kron(np.round(200 * change) / 255, np.ones((2, 2))), atol=1e-9)
    np.testing.assert_array_equal(found.images[1], fake.image("red dog left"))


def test_the_largest_change_of_a_channel_counts_whichever_way() -> None:
    fake, maps = where_the_maps_say(), patterns()

    def darker(requests: Sequence[Request]) -> list[Generation]:
        (made,) = Fake.__call__(fake, requests)
        pixels = made.pixels.copy()
        pixels[..., 0] = 0
        return [Generation("", pixels, made.latent)]

    found = removal(model_of("text"), explained(maps), darker)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.changes.min((1, 2)), 20 / 255)
    assert found.changes.max() == pytest.approx(200 / 255)


@pytest.mark.parametrize(("levels", "counts"), [(0, 3), (4, 3), (5, 4)])
def test_a_word_without_which_nothing_changes_is_not_counted(levels: int, counts: int) -> None:
    fake = where_the_maps_say()
    fake.changes["red dog left"] = patterns()["cat"] * levels / 200
    found = removed(fake)
    assert np.isnan(found.own[1]) == np.isnan(found.others[1]) == (counts == 3)
    assert np.isfinite(np.delete(found.own, 1)).all()
    for row in found.measured():
        assert row.value.n == row.control.n == row.gain.n == counts


def test_where_no_word_changes_anything_nothing_is_decided() -> None:
    fake = where_the_maps_say()
    found = removed(Fake({prompt: 0 * change for prompt, change in fake.changes.items()}))
    assert [(row.value.n, row.verdict) for row in found.measured()] == [(0, "inconclusive")] * 2


def test_a_map_that_is_the_same_everywhere_says_nothing_and_spoils_no_other() -> None:
    flat = patterns() | {"cat": np.full(GRID, 0.5)}
    found = removed(where_the_maps_say(), maps=flat)
    assert np.isnan(found.own).tolist() == [False, True, False, False]
    assert np.isfinite(found.others).all()
    maps = patterns()
    assert found.others[0] == pytest.approx(
        np.mean([rank_correlation(maps[name], maps["red"]) for name in ("dog", "left")]), abs=1e-2
    )
    assert [row.value.n for row in found.measured()] == [3, 3]


def test_punctuation_goes_with_its_word() -> None:
    fake = where_the_maps_say()
    found = removed(fake, maps=patterns() | {",": 1 - patterns()["cat"]})
    assert [request.prompt for request in fake.asked] == list(fake.changes)
    assert found.own[1] == pytest.approx(1, abs=1e-3)  # the comma's map is not counted
    for request in fake.asked:
        assert request.with_(prompt=PROMPT) == model_of("text").complete(REQUEST)


def test_one_word_alone_is_compared_with_the_centre_only() -> None:
    request = REQUEST.with_(prompt="cat")
    fake = Fake({"": patterns("cat")["cat"]})
    found = removed(fake, request)
    (row,) = found.measured()
    assert row.against == "a blob in the middle"
    assert (row.value.n, row.verdict) == (1, "inconclusive")
    assert found.own == pytest.approx([1], abs=1e-3)
    assert np.isnan(found.others).tolist() == [True]


def test_a_word_that_comes_again_is_left_out_once() -> None:
    request = REQUEST.with_(prompt="cat dog Cat")
    maps = patterns("cat dog Cat")
    assert list(maps) == ["cat", "dog", "Cat#2"]
    found = removed(Fake({"dog Cat": maps["cat"], "cat Cat": maps["dog"], "cat dog": maps["Cat#2"]}), request)
    assert found.words == ("cat#1", "dog", "Cat#2")
    np.testing.assert_allclose(found.own, 1, atol=1e-3)


def test_words_that_were_cut_off_are_not_left_out() -> None:
    prompt = " ".join(["red", "cat", *["dog"] * 72, "left", "table", "photo"])  # 77 words, of which 75 are read
    request = REQUEST.with_(prompt=prompt)
    words = model_of("text").tokens(prompt).words
    assert [word.text for word in words if not word.seen] == ["table", "photo"]
    known = {name: heat for name, heat in patterns(prompt).items() if name in ("red", "cat", "left")}
    shown = {name.partition("#")[0]: heat for name, heat in known.items()}
    rest = ["red", "cat", *["dog"] * 72, "left"]
    fake = Fake({" ".join(word for word in rest if word != left): heat for left, heat in shown.items()})
    found = removed(fake, request, known)
    assert found.words == ("red", "cat", "left")  # nor are words that have no map
    np.testing.assert_allclose(found.own, 1, atol=1e-3)


def test_maps_of_other_words_than_the_prompts_are_not_taken_for_its_words() -> None:
    model = model_of("text")

    def made(*texts: str, prompt: str = PROMPT) -> sfumato.Explanation:
        node = word_node(
            texts, [pattern(n) for n in range(len(texts))], [texts[: n + 1].count(t) for n, t in enumerate(texts)]
        )
        nodes = {"/image": explained().tree["image"].to_dataset(), "/words": node}
        return sfumato.Explanation(xr.DataTree.from_dict(nodes), REQUEST.with_(prompt=prompt), {})

    found = mapped(model, made("Dog", "crown", "red", "red"))
    assert [player.name for player, _ in found] == ["red", "dog"]
    np.testing.assert_allclose(found[0][1], pattern(2), rtol=1e-6)
    np.testing.assert_allclose(found[1][1], pattern(0), rtol=1e-6)
    assert mapped(model, made("crown", "sky")) == mapped(model, made("red", prompt="")) == []
    with pytest.raises(SfumatoError, match="no word of the prompt has a map, so none can be left out"):
        removal(model, made("crown", "sky"), where_the_maps_say())  # type: ignore[arg-type]


def test_what_is_asked_for_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    removal(model_of("text"), explained(), where_the_maps_say(), lambda *now: told.append(now))  # type: ignore[arg-type]
    assert told == [("images without a word", number, 4) for number in (1, 2, 3, 4)]


def test_the_node_holds_what_is_drawn() -> None:
    found = removed(where_the_maps_say())
    node = found.node()
    assert node["word"].values.tolist() == list(found.words)
    assert node["change"].shape == (4, *SIZE)
    assert node["map"].shape == (4, *GRID)
    assert node["pixels"].shape == (4, *SIZE, 3)
    np.testing.assert_array_equal(node["agreement"], found.own)
    np.testing.assert_array_equal(node["agreement_of_others"], found.others)
    np.testing.assert_array_equal(node["agreement_of_centre"], found.centre)


def test_the_images_are_those_of_the_prompt_without_the_word(tmp_path: Path) -> None:
    model = model_of("text")
    explanation = sfumato.explain(model, REQUEST)
    before = fingerprint(model.pipeline)
    generator = Generator(model, Cache(tmp_path))
    found = removal(model, explanation, generator)
    assert (generator.made, fingerprint(model.pipeline)) == (4, before)
    for place, prompt in enumerate(where_the_maps_say().changes):
        (image,) = generate(model, REQUEST.with_(prompt=prompt)).images
        np.testing.assert_array_equal(found.images[place], np.asarray(image))
        apart = np.abs(np.asarray(image).astype(int) - np.asarray(explanation.image)).max(-1) / 255
        np.testing.assert_allclose(found.changes[place], apart, atol=1e-9)
    np.testing.assert_allclose(found.heats[0], explanation.word_map("red"), rtol=1e-6)
