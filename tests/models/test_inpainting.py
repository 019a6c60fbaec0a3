"""Painting into a mask: on the embedded model with 4 channels, and with random weights and 9."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline, UNet2DConditionModel

import sfumato
from sfumato.errors import ModelError, RequestError
from sfumato.generation.generate import generate
from sfumato.models.model import Model
from sfumato.request import Request
from sfumato.studio.scenes import scene_of
from tests.pipelines import stable_diffusion

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def square(side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    mask = np.zeros((side, side), bool)
    mask[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = True
    return mask


@pytest.fixture(scope="module")
def model() -> Model:
    found = sfumato.load("studio/scenes", task="inpainting")
    assert {"image", "mask"} <= found.features
    return found


def asked(**more: object) -> Request:
    given = {"image": scene_of("a blue square, teal background", 1).image, "mask": square(128), "steps": 4, "seed": 3}
    return Request("a red circle", **given | more)  # type: ignore[arg-type]


def test_the_run_is_the_pipelines_own_and_words_have_maps(model: Model) -> None:
    request = model.complete(asked())
    assert (request.strength, model.steps(request)) == (1.0, 4)
    assert request.image is not None
    assert request.mask is not None
    plain = model.pipeline(
        prompt=request.prompt,
        image=request.image.image,
        mask_image=request.mask.image,
        num_inference_steps=4,
        guidance_scale=request.guidance,
        generator=[torch.Generator().manual_seed(3)],
    ).images[0]
    found = sfumato.explain(model, request)
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(plain))
    assert found.words.sizes["word"] == 3


def test_a_network_with_nine_channels_is_watched_and_replayed() -> None:
    parts = stable_diffusion().components
    torch.manual_seed(1)
    unet = UNet2DConditionModel.from_config(parts["unet"].config, in_channels=9).eval().requires_grad_(False)
    pipeline = StableDiffusionInpaintPipeline(**{**parts, "unet": unet}, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    model = sfumato.wrap(pipeline)
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    request = Request("a red cat", image=image, mask=square(32), steps=2, seed=1, guidance=3.0)
    trace = generate(model, request, record=True)
    rows = trace.branches.rows("conditional", 1)
    torch.testing.assert_close(trace.replay(1), trace.call(1).output[rows], atol=1e-5, rtol=1e-4)
    assert trace.call(1).sample.shape[1] == 9
    maps = sfumato.explain(model, request).words["map"]
    assert maps.shape == (3, 16, 16)
    assert float(maps.min()) >= 0


def test_the_mask_is_resized_with_the_image_and_stays_black_and_white(model: Model) -> None:
    done = model.complete(asked(height=64, width=64))
    assert done.mask is not None
    assert (done.mask.height, done.mask.width) == (64, 64)
    assert set(np.unique(done.mask.array)) == {0, 255}


def test_what_is_missing_or_too_much_is_said(model: Model) -> None:
    with pytest.raises(RequestError, match="paints into a mask; give one"):
        model.complete(asked(mask=None))
    with pytest.raises(RequestError, match="starts from an image; give one"):
        model.complete(asked(image=None))
    with pytest.raises(ModelError, match="takes no reference"):
        model.complete(asked(reference=np.zeros((8, 8, 3), np.uint8)))
    with pytest.raises(ModelError, match="takes no mask"):
        sfumato.load("studio/scenes", task="image-to-image").complete(asked())
    with pytest.raises(RequestError, match="give a mask of the image's size"):
        asked(mask=square(64))
