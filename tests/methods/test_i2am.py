"""I2AM: both softmaxes, their identities, what a point looked at, what a patch causes, and refusals."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image

import sfumato
from sfumato.errors import BudgetExceeded, ModelError, OptionError, RequestError
from sfumato.generation.generate import generate
from sfumato.generation.recorders.reference import ReferenceSums
from sfumato.methods.i2am import UNITS
from sfumato.metrics import average_precision, box, box_iou, imacs
from sfumato.models.model import Model
from sfumato.request import Request
from sfumato.results.explanation import Explanation
from sfumato.results.opening import open as open_explanation
from sfumato.results.pairs import looking_at, seen_from, seen_from_part
from sfumato.results.upscale import bicubic
from tests.generation.recorders.watchers import Seeing
from tests.labels import tiny_labels
from tests.pipelines import fingerprint, stable_diffusion
from tests.references import PATCHES, SIDE, pictures, reference_request, tiny_references

TOKENS = PATCHES * PATCHES


@cache
def model() -> Model:
    return sfumato.wrap(tiny_references())


@cache
def explained(**options: Any) -> Explanation:
    return sfumato.explain(model(), reference_request(), "i2am", **options)


def maps(explanation: Explanation, node: str = "i2am") -> xr.Dataset:
    return explanation.tree[node].to_dataset()


def pairs(explanation: Explanation) -> list[xr.Dataset]:
    return [node.to_dataset() for node in explanation.tree["pairs"].children.values()]


def scores() -> dict[str, list[torch.Tensor]]:
    """The scores of every cross-attention of a plain run, by layer and step: (head, place, token), written out."""
    found: dict[str, list[torch.Tensor]] = {}

    def see(attention: Any, run: Any) -> None:
        rows = run.branches.rows("conditional", 1)
        query, key = attention._query[rows][0], attention._key[rows][0]
        found.setdefault(attention.site.name, []).append(query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5)

    generate(model(), reference_request(), attachments=[Seeing(see, ("cross",))])
    return found


def test_watching_changes_neither_the_image_nor_the_pipeline() -> None:
    pipeline = model().pipeline
    before = fingerprint(pipeline)
    plain = generate(model(), reference_request())
    sums = ReferenceSums(model().reference_tokens(), "conditional", 2, ("group", "head"))
    watched = generate(model(), reference_request(), attachments=[sums])
    assert float((watched.latents - plain.latents).abs().max()) == 0.0
    assert fingerprint(pipeline) == before


def test_the_maps_are_those_of_the_formulas() -> None:
    found, published = maps(explained(groups=3)), maps(explained(groups=3, unit="probability"))
    seen = scores()
    layers = found["layer"].values.tolist()
    assert layers == list(seen)
    for place, (name, steps) in enumerate(seen.items()):
        side = int(steps[0].shape[1] ** 0.5)
        assert len(steps) == 3
        backward = torch.stack([one.softmax(-1).mean(1) for one in steps])  # (step, head, token)
        np.testing.assert_allclose(
            found["backward_layer"].values[place].ravel(), backward.mean((0, 1)), atol=1e-6, err_msg=name
        )
        if side == 16:  # the grid of the latent: nothing is resampled
            forward = torch.stack([one.softmax(1).mean(-1) for one in steps]).reshape(3, -1, side, side)
            np.testing.assert_allclose(published["forward_layer"].values[place], forward.mean((0, 1)), atol=1e-6)
            np.testing.assert_allclose(found["forward_layer"].values[place], 256 * forward.mean((0, 1)), atol=1e-4)
    every = torch.stack([torch.stack([one.softmax(-1).mean(1) for one in steps]) for steps in seen.values()])
    np.testing.assert_allclose(found["backward"].values.ravel(), every.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(found["backward_time"].values.reshape(3, -1), every.mean((0, 2)), atol=1e-6)
    np.testing.assert_allclose(found["backward_head"].values.reshape(2, -1), every.mean((0, 1)), atol=1e-6)


def test_a_map_averaged_over_its_own_softmax_axis_is_uniform() -> None:
    for grid in pairs(explained(groups=3, keep=("group", "head"))):
        height, width = grid.sizes["y"], grid.sizes["x"]
        np.testing.assert_allclose(grid["rows"].mean("token"), 1 / TOKENS, atol=1e-6)
        np.testing.assert_allclose(grid["columns"].mean(("y", "x")), 1 / (height * width), atol=1e-6)


def test_the_kept_pairs_sum_to_the_maps() -> None:
    whole, split = explained(groups=3), explained(groups=3, keep=("group", "head"))
    for one, other in zip(pairs(whole), pairs(split), strict=True):
        assert one["rows"].dims == ("layer", "y", "x", "token")
        assert other["rows"].dims == ("layer", "group", "head", "y", "x", "token")
        assert other["calls"].values.tolist() == [1, 1, 1]
        np.testing.assert_allclose(other["rows"].mean(("group", "head")), one["rows"], atol=1e-6)
        np.testing.assert_allclose(other["columns"].mean(("group", "head")), one["columns"], atol=1e-6)
    found = maps(whole)
    rows = np.concatenate([one["rows"].mean(("y", "x")).values for one in pairs(whole)])
    np.testing.assert_allclose(np.sort(rows.ravel()), np.sort(found["backward_layer"].values.ravel()), atol=1e-6)


def test_groups_of_steps_average_to_the_whole() -> None:
    found = maps(explained(groups=2))  # three steps: groups of two and of one
    weighted = np.tensordot([2 / 3, 1 / 3], found["backward_time"].values, 1)
    np.testing.assert_allclose(weighted, found["backward"], atol=1e-6)
    assert found.sizes["group"] == 2
    assert maps(explained(groups=9)).sizes["group"] == 3  # no more groups than steps
    kept, plain = (maps(explained(groups=2, at=(10, 12), keep=axes)) for axes in (("group",), ()))
    np.testing.assert_allclose(kept["specific"], plain["specific"], atol=1e-6)


def test_what_a_point_looked_at_and_who_looked_at_a_patch() -> None:
    whole = explained(at=(10, 12, 4, 8), patches=(40, 100))
    found, grids = maps(whole), pairs(whole)
    assert found["specific"].shape == (2, PATCHES, PATCHES)
    np.testing.assert_allclose(found["specific"].sum(("ry", "rx")), 1, atol=1e-5)
    by_hand = np.concatenate([one["rows"].values[:, 12 * one.sizes["y"] // SIDE, 10 * one.sizes["x"] // SIDE]
                              for one in grids]).mean(0)  # fmt: skip
    np.testing.assert_allclose(found["specific"].values[0].ravel(), by_hand, atol=1e-6)
    np.testing.assert_allclose(seen_from(grids, (12 / SIDE, 10 / SIDE)), by_hand, atol=1e-6)
    assert (found["point_x"].values.tolist(), found["point_y"].values.tolist()) == ([10, 4], [12, 8])
    token = 3 * PATCHES + 1  # y 100 of 128, x 40
    np.testing.assert_allclose(found["reverse"].values[0], looking_at(grids, token, (16, 16)), atol=1e-5)
    fine = [one for one in grids if one.sizes["y"] == 16]
    np.testing.assert_allclose(
        looking_at(fine, token, (16, 16)), 256 * fine[0]["columns"].values[..., token].mean(0), atol=1e-5
    )
    part = np.zeros((SIDE, SIDE), bool)
    part[12:14, 10:12] = True  # one cell of the largest grid
    large = [one for one in grids if one.sizes["y"] == 16]
    np.testing.assert_allclose(seen_from_part(large, part), seen_from(large, (12 / SIDE, 10 / SIDE)), atol=1e-6)
    with pytest.raises(OptionError, match="outside the image"):
        seen_from(grids, (1.0, 0.5))


def test_every_layer_has_equal_weight_in_the_forward_map_however_few_its_places() -> None:
    whole = explained()
    found, published = maps(whole), maps(explained(unit="probability"))
    of_layers = found["forward_layer"].mean(("y", "x"))
    np.testing.assert_allclose(of_layers, 1, atol=0.02)  # bicubic upscaling moves a mean a little
    dominant = published["forward_layer"].mean(("y", "x")).values
    assert dominant.max() > 3.9 * dominant.min()  # of 8 x 8 places against 16 x 16
    np.testing.assert_allclose(found["forward"], found["forward_layer"].mean("layer"), atol=1e-5)
    np.testing.assert_allclose(found["forward"], found["forward_head"].mean("head"), atol=1e-5)
    tokens = np.mean([looking_at(pairs(whole), token, (16, 16)) for token in range(TOKENS)], axis=0)
    np.testing.assert_allclose(found["forward"], tokens, atol=1e-4)
    assert (found.attrs["unit"], published.attrs["unit"]) == tuple(UNITS.values())


def test_scores_stand_with_those_of_the_whole_image() -> None:
    found, mask = maps(explained()).attrs, pictures()[2]
    assert found["iou_whole_image"] == found["average_precision_whole_image"] == pytest.approx(mask.mean())
    assert found["imacs_g_whole_image"] == 0
    assert found["box_iou_whole_image"] == pytest.approx(mask.mean())  # this mask is a rectangle
    assert found["average_precision"] != found["average_precision_whole_image"]
    assert found["average_precision"] == average_precision(bicubic(maps(explained())["forward"], (SIDE, SIDE)), mask)


def test_a_map_that_finds_everything_is_noted() -> None:
    all_of_it, part = explained(threshold=0.01), explained(threshold=0.99)
    found = maps(all_of_it)
    assert found["found"].all()
    assert found.attrs["found_share"] == 1
    assert found.attrs["iou"] == found.attrs["iou_whole_image"]
    assert found.attrs["box"] == [0, 0, SIDE, SIDE]
    assert all_of_it.summary()["notes"] == {"i2am": found.attrs["note"]}
    assert "every pixel reaches 0.01 of the forward map's maximum" in found.attrs["note"]
    assert 0 < maps(part).attrs["found_share"] < 1
    assert part.summary()["notes"] == {}


def test_numbers_are_those_of_the_maps() -> None:
    found = maps(explained())
    _, _, mask = pictures()
    assert found.attrs["imacs_g"] == pytest.approx(imacs(found["forward"].values, mask), abs=1e-4)
    left, upper, right, lower = found.attrs["box"]
    marked = found["found"].values
    assert marked.shape == (SIDE, SIDE)
    assert marked[upper:lower, left:right].sum() == marked.sum() > 0
    assert "imacs_r" not in found.attrs
    assert 0 <= found.attrs["box_iou"] <= 1
    numbers = explained().summary()["numbers"]["i2am"]
    assert numbers["imacs_g"] == found.attrs["imacs_g"]
    assert numbers["box"] == found.attrs["box"]


def test_boxes_that_are_known_overlap_as_they_do() -> None:
    marked = np.zeros((10, 12), bool)
    marked[2:5, 3:9] = True
    assert box(marked) == [3, 2, 9, 5]
    assert box(np.zeros((4, 4), bool)) == []
    assert box_iou([3, 2, 9, 5], [3, 2, 9, 5]) == 1
    assert box_iou([0, 0, 4, 4], [2, 0, 6, 4]) == pytest.approx(1 / 3)
    assert box_iou([0, 0, 2, 2], [4, 4, 6, 6]) == 0
    assert box_iou([], [0, 0, 1, 1]) == 0


def test_a_mask_on_the_reference_gives_its_imacs(tmp_path: Path) -> None:
    inside = np.zeros((128, 128), bool)
    inside[32:96, 32:128] = True
    Image.fromarray(inside).save(tmp_path / "garment.png")
    found = maps(explained(reference_mask=str(tmp_path / "garment.png")))
    assert found.attrs["imacs_r"] == pytest.approx(imacs(found["backward"].values, inside), abs=1e-4)
    with pytest.raises(OptionError, match="reference_mask"):
        explained(reference_mask=str(tmp_path / "absent.png"))


def test_guidance_can_be_switched_off_for_comparison() -> None:
    both = explained(unguided=True)
    guided, unguided = maps(both), maps(both, "i2am_unguided")
    assert (guided.attrs["guidance"], unguided.attrs["guidance"]) == (2.0, 1.0)
    np.testing.assert_array_equal(guided["forward"], maps(explained())["forward"])
    assert float(np.abs(guided["backward"] - unguided["backward"]).max()) > 0
    alone = sfumato.explain(model(), reference_request(guidance=1.0), "i2am")
    np.testing.assert_allclose(unguided["backward"], maps(alone)["backward"], atol=1e-6)
    np.testing.assert_array_equal(unguided["pixels"], np.asarray(alone.image))


def test_layers_may_differ_in_their_number_of_heads() -> None:
    from diffusers import UNet2DConditionModel

    pipeline = tiny_references()
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config(pipeline.unet.config, attention_head_dim=[2, 4]).eval()
    pipeline.register_modules(unet=unet.requires_grad_(False))
    found = maps(sfumato.explain(sfumato.wrap(pipeline), reference_request(), "i2am"))
    assert "forward_head" not in found
    assert found.sizes["layer"] == 7
    np.testing.assert_allclose(found["backward_layer"].sum(("ry", "rx")), 1, atol=1e-5)


def test_covering_a_patch_changes_the_image_and_plain_ones_are_left_out() -> None:
    found = maps(explained(causal=True), "causal")
    covered = np.isfinite(found["change"].values).all((2, 3))
    expected = np.zeros((PATCHES, PATCHES), bool)
    expected[1:3, 1:] = True
    np.testing.assert_array_equal(covered, expected)
    reference, _, _ = pictures()
    again = reference.copy()
    again[32:64, 32:64] = reference.reshape(-1, 3).mean(0).round()
    one, other = (
        np.asarray(generate(model(), request).images[0], np.float64)
        for request in (reference_request(), reference_request(reference=again))
    )
    blocks = np.abs(one - other).mean(-1).reshape(16, 2, 16, 2).mean((1, 3)) / 255
    # a batch rounds differently: a pixel may move by one of 255
    np.testing.assert_allclose(found["change"].values[1, 1], blocks, atol=2 / 255)
    assert np.isfinite(found["agreement"].values[covered]).all()
    assert found.attrs["agreement"] == pytest.approx(float(found["agreement"].values[covered].mean()), abs=1e-6)


def test_an_explanation_survives_the_disk(tmp_path: Path) -> None:
    whole = explained(at=(10, 12), causal=True)
    whole.save(tmp_path / "one")
    again = open_explanation(tmp_path / "one")
    assert again.request == whole.request
    np.testing.assert_array_equal(maps(again)["specific"], maps(whole)["specific"])
    np.testing.assert_array_equal(again.tree["reference"]["pixels"], pictures()[0])
    np.testing.assert_allclose(seen_from(pairs(again), (0.4, 0.4)), seen_from(pairs(whole), (0.4, 0.4)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"at": (1,)}, OptionError, "expected points x,y"),
        ({"at": (40, 12)}, OptionError, "x goes from 0 to 31 and y to 31"),
        ({"at": (30, 30)}, OptionError, "outside the mask"),
        ({"patches": (128, 0)}, OptionError, "x goes from 0 to 127"),
        ({"groups": 0}, OptionError, "groups is 0"),
        ({"keep": ("layer",)}, OptionError, "choose from: group, head"),
        ({"threshold": 1.0}, OptionError, "threshold is 1.0"),
        ({"unit": "nats"}, OptionError, "unit is 'nats'; choose from: share, probability"),
        ({"occlude": "black"}, OptionError, "choose from: mean, grey"),
        ({"budget": 0.001}, BudgetExceeded, "keep fewer axes or raise the budget"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    before = fingerprint(model().pipeline)
    with pytest.raises(error, match=message):
        explained(**options)
    assert fingerprint(model().pipeline) == before


def test_models_without_a_reference_are_refused() -> None:
    with pytest.raises(ModelError, match="needs .*reference"):
        sfumato.explain(sfumato.wrap(tiny_labels()), Request(label="0011", steps=2), "i2am")
    with pytest.raises(ModelError, match="needs .*reference"):
        sfumato.explain(sfumato.wrap(stable_diffusion()), Request("a red cat", steps=2), "i2am")
    with pytest.raises(ModelError, match="takes no reference"):
        generate(sfumato.wrap(stable_diffusion()), Request("a red cat", steps=2, reference=pictures()[0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": None}, "reference is missing"),
        ({"mask": None, "image": None}, "image and mask are missing"),
        ({"prompt": "a red cat"}, "takes no prompt"),
        ({"strength": 0.5}, "takes no strength"),
        ({"label": "01"}, "has no labels"),
        ({"image": np.zeros((32, 64, 3), np.uint8), "mask": np.eye(32, 64, dtype=bool)}, "crop it, or give height"),
        ({"reference": np.zeros((64, 32, 3), np.uint8)}, "this model reads squares"),
    ],
)
def test_a_request_that_the_model_cannot_paint_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((RequestError, ModelError), match=message):
        model().complete(reference_request(**changes))


def test_a_batch_of_references_gives_each_its_own_image() -> None:
    one, other = reference_request(), reference_request(reference=255 - pictures()[0])
    together = generate(model(), [one, other]).images
    for request, image in zip((one, other), together, strict=True):
        alone = generate(model(), request).images[0]
        np.testing.assert_allclose(np.asarray(image, float), np.asarray(alone, float), atol=1)
    assert np.abs(np.asarray(together[0], float) - np.asarray(together[1], float)).max() > 1
