"""Points of an image and of its reference: asked of kept pairs, both ways, without the model."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import sfumato
from sfumato.app.asking.correspondence import Pairs, Question, of_all
from sfumato.app.asking.garment import example, truth
from sfumato.app.asking.inputs import mask_from
from sfumato.app.pieces.across import answered
from sfumato.app.pieces.pad import mask_uri
from sfumato.app.tabs.reference import LARGEST, Given, fitted
from sfumato.errors import RequestError, SfumatoError
from sfumato.inputs.image import Picture
from sfumato.request import Request
from sfumato.results.pairs import looking_at, seen_from, seen_from_part
from tests.references import PATCHES, reference_request, tiny_references


@cache
def pairs(*keep: str) -> Pairs:
    model = sfumato.wrap(tiny_references())
    return Pairs(sfumato.explain(model, reference_request(), "i2am", keep=keep, groups=2))


def painted(found: Pairs) -> tuple[int, int]:
    """A place (x, y) that was painted."""
    assert found.inside is not None
    y, x = np.argwhere(found.inside)[0].tolist()
    return x, y


def test_a_point_of_the_image_is_answered_on_the_reference() -> None:
    found = pairs("group", "head")
    x, y = painted(found)
    answer = found.answer(Question("image", x, y))
    height, width = found.size("image")
    np.testing.assert_allclose(answer.heat.ravel(), seen_from(found.grids, (y / height, x / width)))
    np.testing.assert_allclose(answer.heat.sum(), 1, rtol=1e-5)
    left, upper, right, lower = answer.strongest
    assert (right - left, lower - upper) == pytest.approx((1 / PATCHES, 1 / PATCHES))
    row, column = round(upper * PATCHES), round(left * PATCHES)
    assert answer.heat[row, column] == answer.heat.max() == answer.peak
    assert answer.times == pytest.approx(answer.peak * PATCHES**2, rel=1e-5)


def test_a_patch_of_the_reference_is_answered_where_it_was_painted() -> None:
    found = pairs("group", "head")
    width = found.size("reference")[1]
    answer = found.answer(Question("reference", width - 1, 0))
    np.testing.assert_allclose(answer.heat, looking_at(found.grids, PATCHES - 1, found.latent))
    assert found.patch_of(width - 1, 0) == (1 - 1 / PATCHES, 0, 1, 1 / PATCHES)
    left, upper, right, lower = answer.strongest
    assert found.inside is not None
    tall, wide = found.inside.shape
    part = found.inside[round(upper * tall) : round(lower * tall), round(left * wide) : round(right * wide)]
    assert part.any()


def test_without_a_point_all_of_the_painted_part_is_asked() -> None:
    found = pairs()
    assert found.inside is not None
    np.testing.assert_allclose(found.answer(Question()).heat.ravel(), seen_from_part(found.grids, found.inside))


def test_groups_and_heads_are_parts_of_the_whole() -> None:
    found = pairs("group", "head")
    x, y = painted(found)
    question = Question("image", x, y)
    whole = found.answer(question).heat
    heads = [one.heat for one in of_all(found, question, "head")]
    groups = [one.heat for one in of_all(found, question, "group")]
    assert (len(heads), len(groups)) == (found.heads, 2)
    np.testing.assert_allclose(np.mean(heads, 0), whole, rtol=1e-4)
    calls = found.grids[0]["calls"].values
    np.testing.assert_allclose(np.average(groups, 0, calls), whole, rtol=1e-4)
    layers = [found.answer(Question("image", x, y, layer=name)).heat for name in found.layers]
    np.testing.assert_allclose(np.mean(layers, 0), whole, rtol=1e-4)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"side": "image", "x": 10**6, "y": 0}, "lies outside"),
        ({"side": "image", "x": 0, "y": 0}, "nothing was painted there"),
        ({"side": "reference", "x": -1, "y": 0}, "lies outside"),
        ({"side": "elsewhere"}, "there is no picture"),
        ({"x": "1", "y": 1}, "expected a whole number"),
        ({"x": True, "y": 1}, "expected a whole number"),
        ({"head": 99}, "there is no head 99"),
        ({"group": -1}, "there is no group -1"),
        ({"layer": "unet.nowhere"}, "there is no layer"),
    ],
)
def test_questions_that_have_no_answer_say_why(data: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        pairs("group", "head").answer(Question.of(data))


def test_axes_that_were_not_kept_are_not_offered() -> None:
    found = pairs()
    assert (found.groups, found.heads) == (0, 0)
    with pytest.raises(RequestError, match="kept are: none"):
        found.answer(Question(head=0))
    assert answered(found, Question(), key="k")["strips"] == {"group": [], "head": []}


def test_a_result_of_another_kind_is_refused() -> None:
    scenes = sfumato.load("studio/scenes")
    made = sfumato.explain(scenes, Request("a red circle", steps=2))
    with pytest.raises(SfumatoError, match="the tab Reference"):
        Pairs(made)


def test_the_example_knows_where_its_pixels_come_from() -> None:
    one = example()
    request = Request(reference=one.reference, image=one.scene, mask=one.mask)
    y, x = np.argwhere(one.worn)[len(np.argwhere(one.worn)) // 2].tolist()
    found = truth(request, x, y)
    assert found is not None
    np.testing.assert_array_less(0, found)
    column, row = int(found[0] * 128), int(found[1] * 128)
    assert one.reference_mask[row, column]
    assert truth(request, 0, 0) is None
    assert truth(request.with_(reference=one.scene), x, y) is None


def test_the_mask_of_the_example_can_be_read_again() -> None:
    inside = example().mask
    np.testing.assert_array_equal(mask_from(mask_uri(inside), inside.shape), inside)


def test_uploads_become_squares_of_moderate_size() -> None:
    wide = Picture.of(np.full((100, 1500, 3), 7, np.uint8))
    whole, note = fitted(wide, crop=False)
    assert (whole.height, whole.width) == (LARGEST, LARGEST)
    assert "adding" in note
    np.testing.assert_array_equal(np.unique(whole.array), [7])
    part, note = fitted(wide, crop=True)
    assert (part.height, part.width) == (100, 100)
    assert "Cut" in note
    same, note = fitted(part, crop=True)
    assert (same, note) == (part, "")


def test_what_is_missing_is_said() -> None:
    model = sfumato.wrap(tiny_references())
    one = example()
    reference, scene = Picture.of(one.reference), Picture.of(one.scene)
    settings = {"seed": "0", "steps": "2", "guidance": ""}
    nothing = mask_uri(np.zeros((128, 128), bool))
    for given, said in (
        (Given(), "no reference"),
        (Given(reference), "no scene"),
        (Given(reference, scene), "nothing is marked"),
        (Given(reference, scene, nothing), "marks no pixel"),
        (Given(reference, scene, "x"), "is no picture"),
    ):
        with pytest.raises(RequestError, match=said):
            given.request(model, **settings)
    with pytest.raises(RequestError, match="steps is 0"):
        Given(reference, scene, mask_uri(one.mask)).request(model, **settings | {"steps": "0"})
