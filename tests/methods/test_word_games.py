from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sfumato
from sfumato.errors import ModelError, OptionError, RequestError
from sfumato.games.players import players_of, remaining
from sfumato.methods.word_games import shares
from sfumato.models.model import Model
from sfumato.registry import find
from sfumato.request import Request
from sfumato.similarity import Clip

PROMPT = "a red circle"


@pytest.fixture(scope="module")
def model() -> Model:
    return sfumato.load("studio/scenes")


def asked(prompt: str = PROMPT, **more: Any) -> Request:
    return Request(prompt, **{"seed": 3, "steps": 3} | more)


def test_worths_sum_to_what_all_words_add(model: Model) -> None:
    found = sfumato.explain(model, asked(), method="shapley")
    words = found.tree["shapley/word_importance"].to_dataset()
    assert words["player"].values.tolist() == ["a", "red", "circle"]
    assert float(words["phi"].sum()) == pytest.approx(float(words["full"] - words["empty"]))
    assert float(words["full"]) == pytest.approx(1)
    assert float(words["share"].sum()) == pytest.approx(1)
    assert abs(float(words["efficiency_gap"])) < 1e-9
    assert words.attrs["estimator"] == "exact"
    assert found.provenance["similarity"] == {"name": "clip", "source": "studio/clip"}


def test_coalitions_are_the_images_of_the_words_that_are_left(model: Model) -> None:
    found = sfumato.explain(model, asked(), method="shapley")
    coalitions = found.tree["shapley/coalitions"].to_dataset()
    texts = coalitions["text"].values.tolist()
    assert sorted(texts) == sorted(["", "a", "red", "circle", "a red", "a circle", "red circle", "a red circle"])
    assert coalitions["members"].dtype == bool
    assert coalitions["thumbnail"].shape[1:] == (96, 96, 3)
    whole = sfumato.generation.generate.generate(model, asked()).images[0]
    assert np.abs(np.asarray(whole).astype(int) - np.asarray(found.image).astype(int)).max() <= 1
    assert float(coalitions["value"][texts.index(PROMPT)]) == pytest.approx(1)


def test_a_second_run_and_another_method_make_no_new_image(model: Model) -> None:
    sfumato.explain(model, asked(), method="shapley")
    for method in ("shapley", "lime"):
        again = sfumato.explain(model, asked(), method=method)
        assert again.provenance["generations"] == {"made": 0, "from_cache": 8}


def test_a_second_run_asks_the_measure_nothing(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sfumato.explain(model, asked(), method="shapley")

    def unwanted(self: Clip, pictures: Any) -> Any:
        raise AssertionError("scores are remembered too")

    monkeypatch.setattr(Clip, "images", unwanted)
    again = sfumato.explain(model, asked(), method="shapley")
    np.testing.assert_array_equal(*(one.tree["shapley/coalitions"]["value"].values for one in (first, again)))


def test_lime_weighs_the_same_words(model: Model) -> None:
    words = sfumato.explain(model, asked(), method="lime").tree["lime/word_importance"].to_dataset()
    assert words["player"].values.tolist() == ["a", "red", "circle"]
    assert float(words["r2"]) <= 1
    assert words.attrs["kernel_width"] == 0.25


def test_several_seeds_have_an_interval(model: Model) -> None:
    found = sfumato.explain(model, asked(images=3), method="shapley")
    over = found.tree["shapley/over_seeds"].to_dataset()
    phi = found.tree["shapley/word_importance"]["phi"]
    assert phi.dims == ("image", "player")
    np.testing.assert_allclose(over["mean"], phi.mean("image"))
    assert (over["low"] <= over["mean"]).all()
    assert (over["mean"] <= over["high"]).all()
    first = found.select(1).tree["shapley/word_importance"]["phi"]
    np.testing.assert_array_equal(first, phi[1])


def test_one_word_is_worth_everything(model: Model) -> None:
    words = sfumato.explain(model, asked("circle"), method="shapley").tree["shapley/word_importance"].to_dataset()
    assert float(words["phi"][0]) == pytest.approx(float(words["full"] - words["empty"]))


def test_repeated_words_are_players_of_their_own(model: Model) -> None:
    prompt = "red circle, red star"
    words = sfumato.explain(model, asked(prompt), method="shapley").tree["shapley/word_importance"]
    assert words["player"].values.tolist() == ["red#1", "circle", "red#2", "star"]


def test_blanked_words_keep_the_others_in_place(model: Model) -> None:
    found = sfumato.explain(model, asked(), method="shapley", drop="blank").tree["shapley/coalitions"]
    pad = model.pipeline.tokenizer.pad_token
    assert f"a {pad} circle" in found["text"].values.tolist()


def test_players_can_be_phrases(model: Model) -> None:
    prompt = "a red circle left of a blue square"
    words = sfumato.explain(model, asked(prompt), method="shapley", players="phrase").tree["shapley/word_importance"]
    assert words["player"].values.tolist() == ["a red circle", "left", "of", "a blue square"]


def test_results_survive_being_stored(model: Model, tmp_path: Path) -> None:
    found = sfumato.explain(model, asked(), method="shapley")
    found.save(tmp_path / "found.zarr")
    stored = sfumato.open(tmp_path / "found.zarr")
    np.testing.assert_array_equal(
        stored.tree["shapley/interactions"]["index"], found.tree["shapley/interactions"]["index"]
    )
    assert stored.summary()["words"] == []


def test_the_cost_is_known_before(model: Model) -> None:
    shapley = sfumato.registry.find("shapley")
    request = model.complete(Request("a red circle, teal background", steps=10, images=2))
    assert shapley.cost(model, request, shapley.configure({})) == (
        "at most 64 generations (640 denoiser calls), fewer where cached"
    )
    assert shapley.cost(model, request, shapley.configure({"cache": False})).endswith("calls)")
    long = model.complete(
        request.with_(prompt="two large red circles left of a blue square, teal background", images=1)
    )
    assert "at most 64 generations" in shapley.cost(model, long, shapley.configure({"budget": 64}))


def test_shares_of_nothing_are_nan() -> None:
    np.testing.assert_allclose(shares(np.array([1.0, 3.0])), [0.25, 0.75])
    assert np.isnan(shares(np.array([1.0, -1.0]))).all()


def test_shares_of_a_sum_within_its_error_are_withheld() -> None:
    phi = np.array([[0.0255, -0.0177, 0.0022], [0.3, 0.5, 0.2]])
    found = shares(phi, np.array([0.02, 0.02]))
    assert np.isnan(found[0]).all()  # 255% and -177% of a sum that may as well be 0
    np.testing.assert_allclose(found[1], phi[1])
    assert np.isnan(shares(phi, np.array([np.nan, np.nan]))).all()


def test_worths_of_few_draws_have_neither_interval_nor_share(model: Model) -> None:
    options = {"estimator": "monte-carlo", "budget": 12, "similarity": "latent"}
    found = sfumato.explain(model, asked("a red circle, teal background", steps=1), method="shapley", **options)
    rows = found.summary()["importance"]["shapley"]
    assert all(row["share"] is None and row["low"] is None and row["high"] is None for row in rows)
    assert np.isfinite([row["phi"] for row in rows]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "lime"}, "choose from: exact, permutation"),
        ({"similarity": "lpips"}, "choose from: clip, vae"),
        ({"similarity": "features"}, "needs similarity_model"),
        ({"players": "letter"}, "choose from: word, token, phrase"),
        ({"drop": "mute"}, "choose from: remove, blank"),
        ({"budget": 1}, "expected a whole number from 2 to 1048576"),
        ({"at_once": 0}, "expected a whole number from 1 to 1024"),
        ({"estimator": "kernel", "budget": 4}, "kernel needs at least 6"),
    ],
)
def test_wrong_options_say_what_to_do(model: Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        sfumato.explain(model, asked(), method="shapley", **options)


def test_too_many_words_for_all_coalitions(model: Model) -> None:
    with pytest.raises(OptionError, match=r"exact needs all 1,073,741,824 coalitions .* choose the estimator 'kernel'"):
        sfumato.explain(model, asked("red " * 30), method="shapley", estimator="exact")


def test_a_prompt_without_words_is_refused(model: Model) -> None:
    with pytest.raises(RequestError, match="has no words"):
        sfumato.explain(model, asked("  "), method="lime")


def test_a_clip_that_is_none_is_refused(model: Model, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the CLIP model"):
        sfumato.explain(model, asked(), method="shapley", similarity_model=str(tmp_path))


def test_the_cost_counts_phrases_where_phrases_are_players(model: Model) -> None:
    method = find("shapley")
    request = model.complete(Request("two large red circles left of a blue square, teal background", steps=10))
    assert method.cost(model, request, method.configure({"players": "phrase"})).startswith("at most 32 generations")


def test_tokens_can_be_players(model: Model) -> None:
    tokens = model.tokens("a dotted xylophone, red")
    players = players_of(tokens, "token")
    whole = players_of(tokens)
    assert len(players) > len(whole)
    assert sum(sum(player.sizes) for player in players) == sum(len(word.tokens) for word in tokens.words)
    pieces = [player for player in players if "@" in player.name]
    assert "".join(player.name.split("@")[0] for player in pieces if 2 in player.words) == "xylophone"
    every_one = np.ones((1, len(players)), bool)
    assert remaining("a dotted xylophone, red", players, every_one) == ["a dotted xylophone, red"]
    found = sfumato.explain(model, asked("red triangle"), method="shapley", players="token")
    expected = [player.name for player in players_of(model.tokens("red triangle"), "token")]
    assert found.tree["shapley/word_importance"].to_dataset()["player"].values.tolist() == expected
    assert len(expected) == 3


@pytest.mark.parametrize("method", ["shapley", "lime", "lime_image"])
def test_a_draw_is_a_whole_number(method: str) -> None:
    with pytest.raises(OptionError, match="draw is -1; expected a whole number from 0 to 9223372036854775807"):
        find(method).configure({"draw": -1})
