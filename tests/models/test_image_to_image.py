from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline

import sfumato
from sfumato.errors import ModelError, OptionError, RequestError
from sfumato.generation.generate import generate
from sfumato.models.model import Model
from sfumato.report.page import page
from sfumato.request import Request
from sfumato.studio.scenes import scene_of


@pytest.fixture(scope="module")
def model() -> Model:
    return sfumato.load("studio/scenes", task="image-to-image")


def asked(prompt: str = "a red circle", **more: object) -> Request:
    given = {"image": scene_of("a blue square, teal background", 1).image, "strength": 0.5, "steps": 6, "seed": 3}
    return Request(prompt, **given | more)  # type: ignore[arg-type]


def test_the_run_is_the_pipelines_own(model: Model) -> None:
    request = model.complete(asked())
    assert (request.height, request.width) == (128, 128)
    assert model.steps(request) == 3
    assert request.image is not None
    plain = model.pipeline(
        prompt=request.prompt,
        image=request.image.image,
        strength=0.5,
        num_inference_steps=6,
        guidance_scale=request.guidance,
        generator=[torch.Generator().manual_seed(3)],
    ).images[0]
    found = sfumato.explain(model, request, keep=("step",))
    np.testing.assert_array_equal(np.asarray(found.image), np.asarray(plain))
    assert found.tree["attention/16x16"].to_dataset().sizes["step"] == 3


def test_a_wrapped_pipeline_and_a_loaded_one_are_alike(model: Model) -> None:
    wrapped = sfumato.wrap(StableDiffusionImg2ImgPipeline(**model.pipeline.components))
    images = [np.asarray(generate(one, asked(guidance=3.0)).images[0]) for one in (model, wrapped)]
    np.testing.assert_array_equal(*images)


def test_little_strength_keeps_the_image(model: Model) -> None:
    request = asked(steps=10)
    given = np.asarray(request.image.array if request.image else 0, np.int32)
    apart = [
        np.abs(np.asarray(generate(model, request.with_(strength=strength)).images[0], np.int32) - given).mean()
        for strength in (0.1, 1.0)
    ]
    assert apart[0] < apart[1] / 2


def test_the_image_is_resized_where_a_size_is_asked_for(model: Model) -> None:
    found = generate(model, asked(height=64, width=96))
    assert found.images[0].size == (96, 64)


def test_pixels_are_judged_by_the_gradient_through_all_steps(model: Model) -> None:
    request = asked(strength=0.4, steps=5, scheduler="ddim")
    found = sfumato.explain(model, request, "word_gradients", of="pixels", target="brightness")
    node = found.tree["word_gradients/pixels"].to_dataset()
    sensitivity = node["sensitivity"].values
    assert sensitivity.shape == (128, 128)
    assert sensitivity.min() >= 0
    given = node["given"].values.astype(int)
    thing = np.abs(given - given[0, 0]).max(-1) > 40
    # The background is one of a few colours, whatever shade is given; what there is to change is the object.
    assert sensitivity[thing].mean() > 3 * sensitivity[~thing].mean()
    assert "What the score leans on in the given image" in page(found)


def test_the_gradient_of_the_pixels_is_that_of_finite_differences(model: Model) -> None:
    request = asked(strength=0.4, steps=5, scheduler="ddim")
    options = {"of": "pixels", "target": "brightness"}
    assert request.image is not None
    given = request.image.array.astype(float)
    node = sfumato.explain(model, request, "word_gradients", **options).tree["word_gradients/pixels"].to_dataset()
    contrast, scores = 0.1, []
    for factor in (1 + contrast, 1 - contrast):
        mean = given.mean((0, 1), keepdims=True)
        moved = np.clip(np.round(mean + factor * (given - mean)), 0, 255).astype(np.uint8)
        again = sfumato.explain(model, request.with_(image=moved), "word_gradients", **options)
        scores.append(float(again.tree["word_gradients/pixels"].to_dataset()["score"]))
    expected = contrast * float(node["attribution"].sum())
    assert (scores[0] - scores[1]) / 2 == pytest.approx(expected, rel=0.2, abs=1e-4)


def test_what_is_missing_is_said(model: Model) -> None:
    with pytest.raises(RequestError, match="starts from an image"):
        model.complete(Request("a"))
    with pytest.raises(ModelError, match="leaves none to run"):
        model.complete(asked(strength=0.1))
    with pytest.raises(ModelError, match="task='image-to-image'"):
        sfumato.load("studio/scenes").complete(asked())
    with pytest.raises(ModelError, match="no pixels to judge"):
        sfumato.explain(sfumato.load("studio/scenes"), Request("a red circle"), "word_gradients", of="pixels")
    with pytest.raises(OptionError, match="take target='clip'"):
        sfumato.explain(model, asked(), "word_gradients", of="pixels", target="similarity")
    with pytest.raises(ModelError, match="choose from: text-to-image, image-to-image"):
        sfumato.load("studio/scenes", task="video")  # type: ignore[arg-type]
