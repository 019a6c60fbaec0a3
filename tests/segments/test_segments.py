from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import sfumato
from sfumato.errors import ModelError, OptionError
from sfumato.generation.generate import generate
from sfumato.models.model import Model
from sfumato.plots import segment_sheet
from sfumato.report.page import page
from sfumato.request import Request
from sfumato.segments import Segment, match, ranked, regions, sam_segments
from sfumato.segments.matching import NEUTRAL, masked_crop
from sfumato.segments.saliency import boosted, clusters, combined, saliency
from sfumato.similarity import Clip
from sfumato.studio.scenes import scene_of

PROMPT = "a red circle left of a blue square, gray background"


@pytest.fixture(scope="module")
def model() -> Model:
    return sfumato.load("studio/scenes")


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def square(y: int, x: int, side: int, quality: float = 1.0) -> Segment:
    mask = np.zeros((64, 64), bool)
    mask[y : y + side, x : x + side] = True
    return Segment(mask, quality)


@pytest.mark.parametrize("seed", range(6))
def test_regions_are_the_objects_and_the_background(seed: int) -> None:
    scene = scene_of(PROMPT, seed)
    found = ranked(regions(scene.image))
    assert len(found) == 3
    for truth in scene.thing_masks:
        assert max(overlap(one.mask, truth) for one in found) > 0.85


def test_regions_cover_the_image_once() -> None:
    found = regions(scene_of("three black stars", 3).image)
    np.testing.assert_array_equal(np.sum([one.mask for one in found], axis=0), 1)


def test_an_image_of_one_colour_is_one_region() -> None:
    (one,) = regions(np.full((64, 48, 3), 90, np.uint8))
    assert one.mask.all()
    assert one.quality == 0


def test_ranking_drops_doubles_and_empty_ones() -> None:
    empty = Segment(np.zeros((64, 64), bool), 1.0)
    large, same, small = square(0, 0, 30), square(0, 0, 29), square(40, 40, 10)
    assert ranked([small, empty, same, large]) == [large, small]
    assert ranked([small, large], most=1) == [large]
    assert large.box == (0, 0, 30, 30)


def test_crops_show_only_the_segment_in_the_middle_of_grey() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    crop = masked_crop(pixels, square(0, 50, 12).mask, 1.5)
    assert crop.shape == (18, 18, 3)
    assert set(np.unique(crop).tolist()) == {0, NEUTRAL}
    rows = np.flatnonzero((crop == 0).all(-1).any(1))
    assert (rows[0], rows[-1]) == (3, 14)
    assert masked_crop(pixels, np.ones((64, 64), bool), 1.5).shape == (96, 96, 3)
    with pytest.raises(OptionError, match="is empty"):
        masked_crop(pixels, np.zeros((64, 64), bool))


def test_colours_go_with_their_objects() -> None:
    right = 0
    for seed in range(5):
        scene = scene_of(PROMPT, seed)
        found = [one for one in ranked(regions(scene.image)) if one.area < 0.5]
        matched = match(scene.image, found, ["red", "blue"], Clip(), together=1)
        for text, tone in enumerate(((255, 0, 0), (0, 0, 255))):
            best = found[int(matched.best[text].argmax())]
            colour = scene.image[best.mask].mean(0)
            right += int(colour.argmax() == np.argmax(tone))
    assert right >= 9


def test_matching_needs_something_to_match() -> None:
    with pytest.raises(OptionError, match="needs one of each"):
        match(np.zeros((8, 8, 3), np.uint8), [], ["red"], Clip())


def test_saliency_lies_where_the_prompt_acts(model: Model) -> None:
    trace = generate(model, Request("a red circle", seed=3, steps=4), record=True)
    before = {name: hash(value.data_ptr()) for name, value in model.denoiser.named_parameters()}
    for kind in ("gradient", "smoothgrad", "integrated"):
        found = saliency(trace, 1, kind)  # type: ignore[arg-type]
        assert found.shape == (16, 16)
        assert (found >= 0).all()
        assert found.max() > 0
    assert all(parameter.grad is None for parameter in model.denoiser.parameters())
    assert before == {name: hash(value.data_ptr()) for name, value in model.denoiser.named_parameters()}


def test_saliency_is_the_gradient_of_what_the_prompt_adds(model: Model) -> None:
    trace = generate(model, Request("a red circle", seed=3, steps=4), record=True)
    call, empty = trace.call(1), model.encode([""])
    sample = call.sample[trace.branches.rows("conditional", 1)]

    def score(x: torch.Tensor) -> float:
        return float((trace.replay(1, sample=x) - trace.replay(1, sample=x, condition=empty)).square().sum())

    step = torch.zeros_like(sample)
    step[0, 0, 7, 8] = 0.05
    slope = (score(sample + step) - score(sample - step)) / 0.1
    inputs = sample.clone().requires_grad_(True)
    both = trace.replay(1, sample=inputs, gradients=True) - trace.replay(
        1, sample=inputs, condition=empty, gradients=True
    )
    (gradient,) = torch.autograd.grad(both.square().sum(), inputs)
    assert float(gradient[0, 0, 7, 8]) == pytest.approx(slope, rel=0.05, abs=1e-3)
    np.testing.assert_allclose(saliency(trace, 1), gradient.abs().sum((0, 1)).numpy(), rtol=1e-4, atol=1e-6)


def test_clusters_part_objects_of_equal_saliency() -> None:
    scene = scene_of("a red circle left of a red square, gray background", 1)
    heat = scene.thing_masks.any(0).astype(float)
    found = clusters(scene.image, [heat], 4)
    objects = [one for one in found if one.quality > 0.5]
    assert len(objects) >= 2
    assert all(one.area < 0.5 for one in objects)
    light = boosted(scene.image, [heat])
    assert light.dtype == np.uint8
    assert combined([heat], (128, 128)).max() == pytest.approx(1)


@pytest.fixture(scope="module")
def tiny_sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import SamConfig, SamModel

    torch.manual_seed(0)
    config = SamConfig(
        vision_config={
            "hidden_size": 16,
            "output_channels": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 16,
            "mlp_dim": 32,
            "global_attn_indexes": [0],
            "window_size": 2,
            "num_pos_feats": 8,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 16,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
            "num_hidden_layers": 1,
        },
    )
    folder = tmp_path_factory.mktemp("sam")
    SamModel(config).save_pretrained(folder)
    return folder


def test_sam_gives_masks_of_the_size_of_the_image(tiny_sam: Path) -> None:
    found = sam_segments(np.zeros((40, 72, 3), np.uint8), str(tiny_sam), across=3, least_quality=-10)
    assert len(found) == 27
    assert all(one.mask.shape == (40, 72) for one in found)
    assert all(0 <= one.quality <= 1 for one in found)


def test_a_sam_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the SAM model"):
        sam_segments(np.zeros((8, 8, 3), np.uint8), str(tmp_path))


@pytest.mark.parametrize("by", ["regions", "saliency"])
def test_the_method_matches_words_with_parts(model: Model, by: str, tmp_path: Path) -> None:
    request = Request("a red circle, teal background", seed=2, steps=6)
    found = sfumato.explain(model, request, method="segments", by=by)
    parts, matches = (found.tree[f"segments/{name}"].to_dataset() for name in ("parts", "matches"))
    assert matches["player"].values.tolist() == ["a", "red", "circle", "teal", "background"]
    assert parts["mask"].dtype == bool
    assert parts.sizes["segment"] == matches.sizes["segment"]
    assert matches["best"].any("segment").all()
    found.save(tmp_path / "found.zarr")
    stored = sfumato.open(tmp_path / "found.zarr")
    assert segment_sheet(stored).width > 400
    written = page(stored)
    assert "Parts of the image and their words" in written
    assert ("boosted by importance" in written) == (by == "saliency")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "snakes"}, "choose from: regions, saliency, sam"),
        ({"by": "sam"}, "needs sam_model"),
        ({"saliency": "guess"}, "choose from: gradient, smoothgrad, integrated"),
        ({"by": "saliency", "steps": 9}, "this run has steps 0 to 3"),
        ({"most": 0}, "most is 0; expected a whole number from 1 to 1000"),
        ({"steps": -1}, "steps is -1; expected a whole number from 0"),
    ],
)
def test_wrong_options_say_what_to_do(model: Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        sfumato.explain(model, Request("a red circle", steps=4), method="segments", **options)
