"""Localisation of words: a perfect map scores 1, the embedded model beats the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sfumato
from sfumato.errors import ModelError, OptionError
from sfumato.models.loading import load
from sfumato.runs.task import ModelFacts, find_task
from sfumato.studio.scenes import held_out_captions, scene_of
from sfumato.tasks import word_localisation

BASELINES = ("random", "smooth random", "centre", "whole image")
FEATURES = frozenset({"words", "token-maps"})


@pytest.fixture(scope="module")
def model() -> Any:
    return load("studio/scenes")


def perfect(model: Any, items: Any, method: str, progress: Any) -> list[Any]:
    """Drawn scenes whose maps are the true masks."""
    scenes = [scene_of(one.request.prompt, one.request.seed) for one in items]
    return [(scene.image, scene.masks.astype(np.float32)) for scene in scenes]


def scores(run: Any, words: str = "all") -> dict[str, dict[str, Any]]:
    """The rows of a kind of word by their maps."""
    return {row["map"]: row for row in run.finding["rows"] if row["words"].split()[0] == words}


def test_true_masks_score_almost_one_and_baselines_do_not(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_localisation, "images_and_maps", perfect)
    found = sfumato.run("word_localisation", model, out=tmp_path / "run", prompts=12)
    table = scores(found)
    assert table["daam"]["mIoU@0.4"]["value"] > 0.95  # the reader's masks against the drawn ones
    assert table["daam"]["pointing"]["value"] > 0.95
    for baseline in BASELINES:
        assert table[baseline]["mIoU@0.4"]["high"] < 0.5, baseline
    assert {row["words"].split()[0] for row in found.finding["rows"]} == {"all", "nouns", "colours", "others"}
    items = found.items
    assert table["daam"]["AP"]["n"] == len(items) == found.finding["about"]["words"]
    assert table["daam"]["AP"]["value"] == pytest.approx(items["daam.AP"].mean())
    nouns = scores(found, "nouns")["centre"]["AP"]["value"]
    assert nouns == pytest.approx(items[items["kind"] == "nouns"]["centre.AP"].mean())


def test_the_scores_of_a_word_do_not_depend_on_the_words_before_it(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_localisation, "images_and_maps", perfect)
    captions = held_out_captions(4)
    whole = sfumato.run("word_localisation", model, out=tmp_path / "whole", prompts=captions).items
    alone = sfumato.run(
        "word_localisation", model, out=tmp_path / "alone", prompts=captions[3:], common={"seed": 3}
    ).items
    last = whole[whole["caption"] == captions[3]]
    for name in BASELINES:
        assert last[f"{name}.AP"].tolist() == alone[f"{name}.AP"].tolist(), name


def test_no_prompts_are_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="prompts is 0"):
        sfumato.run("word_localisation", model, out=tmp_path / "run", prompts=0)


def test_what_is_no_caption_of_the_scenes_is_invalid_and_the_rest_goes_on(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_localisation, "images_and_maps", perfect)
    prompts = ["a photo of an astronaut", "a red circle"]
    found = sfumato.run("word_localisation", model, out=tmp_path / "run", prompts=prompts)
    assert (found.counts.ok, found.counts.invalid) == (1, 1)
    assert "astronaut" in (tmp_path / "run" / "failed.csv").read_text()


def test_images_without_the_objects_give_no_scores(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(model: Any, items: Any, method: str, progress: Any) -> list[Any]:
        grey = np.full((128, 128, 3), 127, np.uint8)
        return [(grey, np.ones((8, 4, 4), np.float32)) for _ in items]

    monkeypatch.setattr(word_localisation, "images_and_maps", empty)
    found = sfumato.run("word_localisation", model, out=tmp_path / "run", prompts=["a red circle"])
    assert found.finding["rows"] == []
    assert "nothing can be scored" in found.finding["sentence"]


def test_a_word_that_the_model_did_not_see_is_left_out_for_all(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unseen(*given: Any) -> list[Any]:
        ((image, maps),) = perfect(*given)
        maps[2] = np.nan
        return [(image, maps)]

    monkeypatch.setattr(word_localisation, "images_and_maps", unseen)
    found = sfumato.run("word_localisation", model, out=tmp_path / "run", prompts=["a red circle"])
    assert (found.finding["about"]["words"], found.finding["about"]["dropped"]) == (1, 1)


def test_models_and_methods_that_do_not_fit_are_refused_before_any_image() -> None:
    parts, options = find_task("word_localisation").parts, word_localisation.WordLocalisationOptions()
    scenes, large = (ModelFacts("drawn", "none", FEATURES, side, side) for side in (128, 512))
    with pytest.raises(ModelError, match="works for the scenes alone"):
        parts.plan(large, (), options)
    with pytest.raises(ModelError, match="i2am needs"):
        parts.plan(scenes, (), word_localisation.WordLocalisationOptions(method="i2am"))


def test_words_are_found_afterwards_in_drawn_scenes(model: Any, tmp_path: Path) -> None:
    found = sfumato.run("word_localisation", model, out=tmp_path / "run", prompts=2, method="ovam", at=300)
    assert set(found.items["prompt"]) == {""}  # the words are asked apart from the prompt
    assert scores(found, "nouns")["ovam"]["AP"]["value"] > scores(found, "nouns")["whole image"]["AP"]["value"]


@pytest.mark.slow
def test_the_embedded_model_beats_every_baseline(model: Any, tmp_path: Path) -> None:
    table = scores(sfumato.run("word_localisation", model, out=tmp_path / "run", prompts=16), "nouns")
    best = max(table[name]["AP"]["value"] for name in BASELINES)
    assert table["daam"]["AP"]["low"] > best
