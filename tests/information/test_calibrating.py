"""Calibrated attention: weights are found again, files are read or refused, and DAAM uses them as they are meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline

import sfumato
from sfumato.errors import OptionError
from sfumato.information.calibrating import (
    FORMAT,
    Calibration,
    Sums,
    cross_validated,
    explained_energy,
    fitted_weights,
    fitted_without,
    folds_of,
    group_of,
    load_calibration,
    sums_of,
)
from sfumato.methods.daam import select
from sfumato.methods.word_maps import text_sites
from sfumato.models.model import Model
from sfumato.request import Request

SMALL = Request("a red cat", seed=3, steps=4, height=32, width=32)


def prompts(count: int, weights: np.ndarray, noise: float = 0.0, seed: int = 0) -> list[Sums]:
    """Sums of made-up prompts of three words whose information is the square of weighed features."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        features = generator.random((len(weights), 3, 6, 5)) ** 3
        features /= features.mean((2, 3), keepdims=True).mean(0, keepdims=True)
        root = np.einsum("f,fwyx->wyx", weights, features) + noise * generator.random((3, 6, 5))
        found.append(sums_of(features, root**2))
    return found


def test_weights_that_made_the_target_are_found_again() -> None:
    weights = np.array([0.0, 2.0, 0.0, 1.0, 0.5, 0.0])
    rows = np.random.default_rng(0).random((6, 200))
    wanted = weights @ rows
    sums = [Sums(rows @ rows.T, rows @ wanted, float(wanted @ wanted))]
    np.testing.assert_allclose(fitted_weights(sums, 1e-12), weights, atol=1e-5)
    assert explained_energy(sums, weights) == pytest.approx(1)


def test_maps_that_made_the_information_explain_most_of_it() -> None:
    weights = np.array([0.0, 2.0, 0.0, 1.0, 0.5, 0.0])
    found = fitted_weights(prompts(6, weights), 1e-9)  # every word is scaled on its own, so this is no exact answer
    assert np.corrcoef(found, weights)[0, 1] > 0.95
    assert explained_energy(prompts(4, weights, seed=9), found) > 0.95


def test_weights_are_never_negative_and_a_large_penalty_makes_them_small() -> None:
    sums = prompts(5, np.array([1.0, 0.0, 0.0, 0.2]), noise=1.0)
    assert (fitted_weights(sums, 1e-3) >= 0).all()
    assert fitted_weights(sums, 1e3).sum() < 0.01 * fitted_weights(sums, 1e-3).sum()


def test_the_share_explained_is_that_of_the_residual_written_out() -> None:
    generator = np.random.default_rng(1)
    rows, wanted = generator.random((4, 50)), generator.random(50)
    weights = generator.random(4)
    sums = Sums(rows @ rows.T, rows @ wanted, float(wanted @ wanted))
    residual = np.square(wanted - weights @ rows).sum()
    assert explained_energy([sums], weights) == pytest.approx(1 - residual / (wanted @ wanted))


def test_weights_without_a_fold_have_not_seen_its_prompts() -> None:
    sums = prompts(10, np.array([1.0, 0.5, 0.0]), noise=0.5)
    folds = folds_of([f"prompt {number}" for number in range(10)])
    found = [fitted_without(sums, 1e-2, fold, folds) for fold in range(5)]
    for fold, weights in enumerate(found):
        own = [one for place, one in enumerate(sums) if place % 5 != fold]
        np.testing.assert_array_equal(weights, fitted_weights(own, 1e-2))
    assert len({weights.tobytes() for weights in found}) == 5


def test_the_best_penalty_is_that_of_the_best_score_and_few_prompts_are_refused() -> None:
    best, scores = cross_validated(prompts(10, np.array([1.0, 0.5, 0.0]), noise=0.5), [*range(5), *range(5)])
    assert scores[best] == max(scores.values())
    with pytest.raises(OptionError, match="4 prompts are too few to be divided into 5 parts"):
        folds_of(["a", "b", "c", "d", "d"])


def test_images_of_one_prompt_are_in_one_fold() -> None:
    assert folds_of(["a", "b", "a", "c", "d", "e", "f", "b", "f"]) == [0, 1, 0, 2, 3, 4, 0, 1, 0]


def test_a_word_that_tells_nothing_counts_nothing() -> None:
    features = np.random.default_rng(0).random((3, 2, 4, 4))
    target = np.stack([np.ones((4, 4)), np.zeros((4, 4))])
    alone = sums_of(features[:, :1], target[:1])
    assert sums_of(features, np.zeros((2, 4, 4))).energy == 0
    assert sums_of(features, target).energy == pytest.approx(alone.energy)


@pytest.mark.parametrize(
    ("step", "count", "group"), [(0, 25, 0), (4, 25, 0), (5, 25, 1), (24, 25, 4), (0, 1, 0), (1, 2, 2)]
)
def test_steps_belong_to_fifths_of_the_run(step: int, count: int, group: int) -> None:
    assert group_of(step, count, 5) == group


def test_a_calibration_survives_its_file(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).random((5, 2, 4)).round(8)
    (tmp_path / "c.json").write_text(Calibration(("one", "two"), weights, {"model": "m"}).to_json())
    found = load_calibration(str(tmp_path / "c.json"))
    assert (found.layers, found.about) == (("one", "two"), {"model": "m"})
    np.testing.assert_array_equal(found.weights, weights)
    np.testing.assert_array_equal(found.of(7, 10, "two", 3), weights[3, 1, :3])


def test_other_layers_and_heads_are_refused() -> None:
    known = Calibration(("one",), np.ones((5, 1, 2)))
    with pytest.raises(OptionError, match="knows no layer 'two'"):
        known.of(0, 10, "two", 2)
    with pytest.raises(OptionError, match="of 3 heads: it was made for another model"):
        known.of(0, 10, "one", 3)


@pytest.mark.parametrize("content", [None, b"", b"\x89PNG\r\n", b"[]", b"{}", b'{"format": "another"}'])
def test_what_is_no_calibration_is_refused_with_what_to_do(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(OptionError, match="make one: sfumato run calibration"):
        load_calibration(str(file))


def written(tmp_path: Path, model: Model, weights: Callable[[int, int], np.ndarray]) -> str:
    """A file of weights for every layer that reads the text, from the number of layers and heads."""
    layers = [site.name for site in text_sites(model, None)]
    heads = 8
    values = weights(len(layers), heads)
    rows = {name: values[:, place].tolist() for place, name in enumerate(layers)}
    file = tmp_path / "weights.json"
    file.write_text(json.dumps({"format": FORMAT, "about": {}, "weights": rows}), encoding="utf-8")
    return str(file)


def test_equal_weights_give_the_plain_maps(tiny_sd: Callable[..., StableDiffusionPipeline], tmp_path: Path) -> None:
    model = sfumato.wrap(tiny_sd())
    file = written(tmp_path, model, lambda layers, heads: np.full((5, layers, heads), 0.5))
    plain = sfumato.explain(model, SMALL, "daam")
    found = sfumato.explain(model, SMALL, "daam", calibration=file)
    np.testing.assert_allclose(found.words["map"].values, 0.5 * plain.words["map"].values, rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(plain.image))


def test_weights_choose_a_layer_a_head_and_a_part_of_the_run(
    tiny_sd: Callable[..., StableDiffusionPipeline], tmp_path: Path
) -> None:
    model = sfumato.wrap(tiny_sd())

    def one(layers: int, heads: int) -> np.ndarray:
        weights = np.zeros((5, layers, heads))
        weights[group_of(2, 4, 5), 1, 1] = 1
        return weights

    found = sfumato.explain(model, SMALL, "daam", calibration=written(tmp_path, model, one))
    kept = sfumato.explain(model, SMALL, "daam", keep=("step", "layer", "head"))
    layer = text_sites(model, None)[1].name
    alone = select(kept, steps=(2,), layers=f"^{layer}$", heads=(1,))
    one_map, other = found.words["map"].values, alone.words["map"].values
    np.testing.assert_allclose(one_map / one_map.max(), other / other.max(), atol=1e-5)


def test_calibration_goes_with_neither_parity_nor_keep(tmp_path: Path) -> None:
    model = sfumato.load("studio/scenes")
    for options in ({"parity": "daam-0.2"}, {"keep": ("step",)}):
        with pytest.raises(OptionError, match="neither parity nor keep"):
            sfumato.explain(model, Request("a red circle", steps=2), "daam", calibration="weights.json", **options)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        "[]",
        "{}",
        '{"format": "sfumato-calibration-1"}',
        '{"format": "sfumato-calibration-1", "about": {}, "weights": 3}',
        '{"format": "sfumato-calibration-1", "about": {}, "weights": {}}',
        '{"format": "sfumato-calibration-1", "about": {}, "weights": {"a": [["x"]]}}',
        '{"format": "sfumato-calibration-1", "about": {}, "weights": {"a": [[1]], "b": [[1, 2]]}}',
        '{"format": "sfumato-calibration-1", "about": {}, "weights": {"a": [[NaN]]}}',
        '{"format": "sfumato-calibration-1", "about": {}, "weights": {"a": [[-1]]}}',
        '{"format": "sfumato-calibration-1", "about": 3, "weights": {"a": [[1]]}}',
    ],
)
def test_a_damaged_calibration_is_one_clear_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text(content)
    with pytest.raises(OptionError, match="sfumato run calibration") as caught:
        load_calibration(str(tmp_path / "calibration.json"))
    assert len(str(caught.value).splitlines()) == 1
