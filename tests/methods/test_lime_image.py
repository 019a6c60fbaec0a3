from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sfumato
from sfumato.errors import OptionError
from sfumato.games.estimators.surrogate import lime
from sfumato.games.playing import play
from sfumato.methods.lime_image import painted, superpixels
from sfumato.models.model import Model
from sfumato.report.page import page
from sfumato.request import Request
from sfumato.segments.matching import NEUTRAL
from sfumato.similarity import Clip
from sfumato.studio.scenes import scene_of

REQUEST = Request("a red circle", seed=3, steps=3)


@pytest.fixture(scope="module")
def model() -> Model:
    return sfumato.load("studio/scenes")


def test_superpixels_cover_the_image_and_hide_only_what_is_missing() -> None:
    pixels = scene_of("a red circle, teal background", 1).image
    labels = superpixels(pixels, 30)
    assert labels.shape == (128, 128)
    assert set(np.unique(labels).tolist()) == set(range(labels.max() + 1))
    kept = np.ones(labels.max() + 1, bool)
    np.testing.assert_array_equal(painted(pixels, labels, kept), pixels)
    kept[4] = False
    shown = painted(pixels, labels, kept)
    assert (shown[labels == 4] == NEUTRAL).all()
    np.testing.assert_array_equal(shown[labels != 4], pixels[labels != 4])


def test_the_parts_of_a_phrase_are_where_its_object_is() -> None:
    """On true scenes, the strongest part lies on the object more often than its area explains."""
    clip, hits, chance = Clip(), 0, 0.0
    for seed in range(6):
        scene = scene_of("a red circle left of a blue square, gray background", seed)
        labels = superpixels(scene.image, 48)
        wanted = clip.texts(["a blue square"])[0].double()

        def value(rows: Any, pixels: Any = scene.image, labels: Any = labels, wanted: Any = wanted) -> Any:
            return (clip.images([painted(pixels, labels, row) for row in rows]).double() @ wanted).numpy()

        count = labels.max() + 1
        phi = play(value, lime(count, 200, np.random.default_rng(0), ridge=0.01), batch=64).estimate.phi
        square = scene.thing_masks[1]
        part = labels == phi.argmax()
        hits += bool(square[part].mean() > 0.5)
        chance += square.mean()
    assert hits >= 3 > 2 * chance


def test_the_method_stores_weights_and_draws_them(model: Model) -> None:
    found = sfumato.explain(model, REQUEST, method="lime_image", superpixels=12, budget=40)
    node = found.tree["lime_image/parts"].to_dataset()
    np.testing.assert_allclose(node["map"], node["phi"].values[node["label"].values], rtol=1e-6)
    assert node.attrs["phrase"] == "a red circle"
    assert node.attrs["r2"] <= 1
    assert "What makes the image match" in page(found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phrase": " "}, "phrase is empty"),
        ({"superpixels": 1}, "superpixels is 1; expected a whole number from 2 to 10000"),
        ({"budget": 2}, "expected a whole number from 4 to 1048576"),
        ({"width": 0.0}, "expected a number above 0"),
    ],
)
def test_wrong_options_say_what_to_do(model: Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        sfumato.explain(model, REQUEST, method="lime_image", **options)
