"""What tasks over seeds take where nothing is said: another condition, and a part of the image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline
from PIL import Image

import sfumato
from sfumato.models.model import Model
from sfumato.runs.planning import facts_of
from sfumato.runs.task import Item, find_task
from sfumato.tasks.shared.over_seeds import (
    FollowingOptions,
    OverSeedsOptions,
    first_request,
    followed,
    followed_in,
    other_of,
)
from tests.labels import REQUEST, SIDE, square, tiny_labels


@pytest.fixture(scope="module")
def model() -> Model:
    return sfumato.wrap(tiny_labels())


@pytest.mark.parametrize("label", ["0110", "0111", "1010", None])
def test_the_usual_other_label_is_another_one(model: Model, label: str | None) -> None:
    other = other_of(model, OverSeedsOptions(label=label), None)
    assert other == ("0110" if label == "0111" else "0111")


def test_the_usual_other_prompt_is_another_one(tiny_pipeline: StableDiffusionPipeline) -> None:
    words = sfumato.wrap(tiny_pipeline)
    usual = first_request(words, OverSeedsOptions()).prompt
    other = other_of(words, OverSeedsOptions(), None)
    assert usual
    assert other != usual
    assert other_of(words, OverSeedsOptions(prompt=other), None) == usual


def test_the_usual_mask_is_the_middle(model: Model) -> None:
    expected = np.zeros((SIDE, SIDE), bool)
    expected[6:10, 6:10] = True
    np.testing.assert_array_equal(followed(model, model.complete(REQUEST), None), expected)


def test_the_usual_mask_is_the_eyes_where_the_model_names_them(tmp_path: Path) -> None:
    tiny_labels().save_pretrained(tmp_path)
    (tmp_path / "sfumato.json").write_text(json.dumps({"regions": ["background", "eyes"]}))
    Image.fromarray(square().astype(np.uint8)).save(tmp_path / "regions.png")
    loaded = sfumato.load(tmp_path, device="cpu")
    for given, mask in ((None, square()), ("background", ~square())):
        np.testing.assert_array_equal(followed(loaded, loaded.complete(REQUEST), given), mask)
        plan = find_task("localisation").parts.plan(facts_of(loaded), (), FollowingOptions(seeds=1, mask=given))
        (item,) = (Item(loaded.complete(one.request), one.about) for one in plan if isinstance(one, Item))
        np.testing.assert_array_equal(followed_in(loaded, item), mask)
